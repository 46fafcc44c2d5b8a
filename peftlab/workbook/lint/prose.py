"""Rules about a notebook's prose: title, sections, pictures and formulas that show offline."""

import re

from nbformat import NotebookNode

from ..math import unknown_math
from ..page.cells import title

MAX_TITLE = 70
SECTIONS = {"objectives": "objectives?", "time budget": "time", "summary": "summary", "references": "references?"}


def without_code(text: str) -> str:
    """Markdown without its code spans and blocks."""
    return re.sub(r"^(```|~~~).*?^\1|(`+)[^`].*?\2", "", text, flags=re.M | re.S)


def prose_problems(nb: NotebookNode, number: str) -> list[str]:
    """Title, the four sections that every notebook has, pictures and formulas that show offline."""
    found = []
    prose = without_code("\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown"))
    first = nb.cells[0].source if nb.cells and nb.cells[0].cell_type == "markdown" else ""
    if not re.match(rf"# {number} \S", first) or len(title(nb)) > MAX_TITLE:
        found.append(f"the first cell must open with a title `# {number} ...` of at most {MAX_TITLE} characters")
    for section, pattern in SECTIONS.items():
        if not re.search(rf"^\s*(?:#+|[-*>]?\s*\*\*).*\b{pattern}\b", prose, re.M | re.I):
            found.append(f"no heading or bold word for: {section}")
    for url in re.findall(
        r"!\[[^\]]*\]\(\s*<?((?:https?:)?//[^)\s]*)|<img[^>]*src=[\"']?((?:https?:)?//[^\"'\s>]*)", prose
    ):
        found.append(f"picture from the network: {''.join(url)}")
    for block, inline in re.findall(r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?!\$)(.+?)(?<!\\)\$", prose, re.S):
        if unknown := unknown_math(block or inline):
            found.append(
                f"formula that cannot be shown offline, because of {unknown}: {(block or inline).strip()[:80]}"
            )
    return found
