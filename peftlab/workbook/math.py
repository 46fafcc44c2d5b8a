"""Markdown and formulas -> HTML. MathML is drawn by the browser itself, so a page shows them with the network off."""

import re
from html import escape
from pathlib import Path

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

# What latex2mathml lacks or draws badly, said in what it knows.
_TEX_SYNONYMS = [
    (r"\\(begin|end)\{aligned\}", r"\\\1{align*}"),
    (r"\\operatorname\*", r"\\operatorname"),
    (r"\\sim(?![a-zA-Z])", "\N{TILDE OPERATOR}"),
]


def to_mathml(tex: str, display: str = "inline") -> str:
    r"""MathML of a TeX formula. A formula that cannot be converted stays readable, as its source.

    >>> "<mfrac>" in to_mathml(r"\frac{\alpha}{r} B A")
    True
    """
    for pattern, replacement in _TEX_SYNONYMS:
        tex = re.sub(pattern, replacement, tex)
    try:
        return convert(tex, display=display)
    except Exception:  # latex2mathml has a dozen error types, and none may cost the reader a page
        return f'<code class="math-error">{escape(tex)}</code>'


def unknown_math(tex: str) -> str | None:
    """The part of a formula that `to_mathml` cannot draw, or None. The library itself keeps silent about it."""
    mathml = to_mathml(tex)
    if "math-error" in mathml:
        return tex
    unknown = re.search(r">\s*(\\\w+|&)\s*<", mathml)
    return unknown[1] if unknown else None


def math_in_html(html: str) -> str:
    """Replace `$...$` and `$$...$$` in raw HTML or LaTeX output, leaving code alone."""
    tokens = r"(<(code|pre|script|style)\b.*?</\2>)|(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?!\s)([^$\n]+?)(?<![\\\s])\$"

    def replace(m: re.Match[str]) -> str:
        code, _, block, inline = m.groups()
        return code or (to_mathml(block, "block") if block else to_mathml(inline))

    return re.sub(tokens, replace, html, flags=re.DOTALL)


class _Renderer(IPythonRenderer):
    """Markdown exactly as Jupyter reads it, so that what counts as a formula is the same here and in JupyterLab."""

    def inline_math(self, body: str) -> str:
        return to_mathml(body)

    def block_math(self, body: str) -> str:
        return to_mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def block_html(self, html: str) -> str:
        return self.inline_html(math_in_html(html)) + "\n"

    def inline_html(self, html: str) -> str:
        # Not nbconvert's own embedding: its parser closes a `<details>` before the answer that it should hide.
        return re.sub(
            r"(<img\b[^>]*?\bsrc=)([\"'])(.+?)\2",
            lambda m: f"{m[1]}{m[2]}{self._embed_image_or_attachment(m[3])}{m[2]}",
            html,
        )

    def block_mermaidjs(self, code: str) -> str:
        return f"<pre>{escape(code)}</pre>"  # drawing it needs a script from a CDN


def markdown_to_html(
    source: str, attachments: dict[str, dict[str, str]] | None = None, folder: str | Path = ""
) -> str:
    """HTML of a Markdown text with its formulas; pictures are embedded."""
    renderer = _Renderer(
        escape=False, attachments=attachments or {}, embed_images=True, path=str(folder), exclude_anchor_links=True
    )
    return MarkdownWithMath(renderer=renderer).render(source)
