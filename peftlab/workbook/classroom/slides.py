"""A lesson and its executed copy -> slides, by the notebook's standard `slideshow` metadata.

`slide` begins a slide, `fragment` adds to it at the next press of a key, `notes` are the speaker's. Of a Markdown cell
a slide shows the last heading, questions to predict, bullets and displayed formulas; its other blocks are notes. Of a
code cell it shows the pictures with their sentences, else what it printed; the code only with the tag `slide-code`.
A second picture goes to a slide of its own, so that each can be as large as the screen.
"""

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path

from nbconvert.filters import Highlight2HTML
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from ..math import markdown_to_html
from ..page.cells import tags
from ..page.clean import clean_output
from ..page.contents import link_lessons
from ..page.render import exporter

_BLOCK = re.compile(
    r"(?P<fence>^(```|~~~).*?^\2[^\n]*$)|(?P<details><details\b.*?</details>)|(?P<formula>^\$\$.*?\$\$[^\n]*$)"
    r"|(?P<heading>^\#+ [^\n]*$)|(?P<predict>^> \*\*Predict\b.*?(?=\n(?!>)|\Z))"
    r"|(?P<bullets>^[-*] .*?(?=\n\s*\n(?![-*] |  )|\Z))|(?P<prose>^\S.*?(?=\n\s*\n|\n[-*] |\n\$\$|\n\#|\Z))",
    re.M | re.S,
)
_SHOWN = ("predict", "bullets", "formula")
_PICTURE = re.compile(r'<img\b[^>]*\balt="(?P<alt>[^"]*)"[^>]*\bsrc="data:image/png;base64,(?P<png>[^"]*)"[^>]*>')


@dataclass
class Slide:
    """What one slide shows. parts: (class names, HTML), in order; heading and notes are HTML."""

    heading: str = ""
    parts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def pictured(self) -> bool:
        return any(names.startswith("figure") for names, _ in self.parts)


def blocks(markdown: str) -> list[tuple[str, str]]:
    """The blocks of a Markdown text: (kind, text).

    >>> blocks("## 1 Rank\\n\\n> **Predict**: how many?\\n\\nWe see:\\n- one\\n- two\\n\\n$$x$$")
    [('heading', '## 1 Rank'), ('predict', '> **Predict**: how many?'), ('prose', 'We see:'), \
('bullets', '- one\\n- two'), ('formula', '$$x$$')]
    """
    return [(str(found.lastgroup), found[0]) for found in _BLOCK.finditer(markdown)]


def find_slides(lesson: NotebookNode, executed: NotebookNode, folder: str | Path = "") -> list[Slide]:
    """The slides of a lesson. What is shown is the lesson's, outputs are of the executed cells with the same ids.

    folder: of the lesson, where its pictures are found.
    """
    outputs = {cell.id: cell.get("outputs", []) for cell in executed.cells}
    slides: list[Slide] = []
    heading = ""
    for cell in lesson.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "skip")
        found = blocks(cell.source) if cell.cell_type == "markdown" else []
        headings = [text.lstrip("# ") for name, text in found if name == "heading"]
        heading = headings[-1] if headings else heading
        if kind not in ("slide", "fragment", "notes") or not (slides or kind == "slide"):
            continue
        if kind == "slide":
            slides.append(Slide(_inline(heading)))
        late = "fragment" if kind == "fragment" else ""
        if cell.cell_type == "code":
            _add_code(slides, cell, outputs.get(cell.id, []), late)
        else:
            _add_markdown(slides[-1], cell, found, kind, folder)
    return slides


def _inline(markdown: str) -> str:
    return re.sub(r"\A<p>|</p>\Z", "", markdown_to_html(markdown).strip())


def _add_markdown(
    slide: Slide, cell: NotebookNode, found: list[tuple[str, str]], kind: str, folder: str | Path
) -> None:
    """A cell's blocks, on the slide or among its notes."""

    def html(text: str) -> str:
        found = markdown_to_html(text, cell.get("attachments"), folder).strip()
        return link_lessons(found, ())  # the decks beside this one need not be of other lessons

    shown = _SHOWN if kind != "notes" else ()
    for name, text in found:
        if name in shown:
            slide.parts.append((f"{name} {'fragment' if kind == 'fragment' else ''}".strip(), html(text)))
    if notes := html("\n\n".join(text for name, text in found if name not in (*shown, "heading"))):
        slide.notes.append(notes)


def _add_code(slides: list[Slide], cell: NotebookNode, outputs: list[NotebookNode], late: str) -> None:
    """A cell's code, where it is asked for, and its pictures, or else the text that it printed."""
    if "slide-code" in tags(cell):
        code = Highlight2HTML()(cell.source, language="python")
        slides[-1].parts.append((f"code {late}".strip(), code))
    found = [_output(output) for output in map(clean_output, copy.deepcopy(outputs)) if output]
    pictures = [(names, html) for names, html in found if names.startswith("figure")]
    for names, html in pictures or found:
        if names.startswith("figure") and slides[-1].pictured:
            slides.append(Slide(slides[-1].heading))
            late = ""
        slides[-1].parts.append((f"{names} {late}".strip(), html))


def _output(output: NotebookNode) -> tuple[str, str]:
    """-> (class names, HTML) of one output, as the report shows it. A piece that brings a script works here, too."""
    cell = new_code_cell(outputs=[output], metadata={"transient": {"remove_source": True}})
    html = exporter().from_notebook_node(new_notebook(cells=[cell]))[0]
    picture = _PICTURE.search(html)
    if picture is None:
        return "output", html
    caption = f"<figcaption>{picture['alt']}</figcaption>"
    if "peftlab-live" in html:
        return "figure live", f'<div class="stage">{output.data["text/html"]}</div>{caption}'
    img = f'<img alt="{picture["alt"]}" src="data:image/png;base64,{picture["png"]}">'
    return "figure", f"<figure>{img}{caption}</figure>"
