"""An executed notebook -> one HTML page that needs nothing else: no network, no server, no script but its explorers'.

Everything here is a pure function of the notebook; running notebooks and writing files is `../run.py`.

Cells are nbconvert's, by its template `basic`. What stands around them is ours (templates/): nbconvert's own frames
load scripts and styles from the network, and its template environment would not escape what we put into ours.
"""

import re
from collections.abc import Container, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from ..math import markdown_to_html
from .cells import failure, tags, title
from .clean import for_paper
from .contents import link_headings, link_lessons
from .downloads import notebook_link, offer_tables
from .figures import number_figures
from .provenance import read_commit, read_parameters
from .reader import without_exercises

LARGEST = 5_900_000  # bytes of a page: it is mailed, and opened on phones
FRAME = 40_000  # bytes of it around the cells: styles, contents, parameters

_SOLUTION = re.compile(r"<details>(\s*<summary>Solution\b)")  # on paper, all that is folded is shown but these

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def duration(seconds: float) -> str:
    """Seconds as a reader says them.

    >>> duration(3.21), duration(47.4), duration(725)
    ('3.2 s', '47 s', '12 min 05 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


TEMPLATES.filters["duration"] = duration


class _Exporter(HTMLExporter):
    @jinja2.pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        folder = context.get("resources", {}).get("metadata", {}).get("path", "")
        return markdown_to_html(source, context.get("cell", {}).get("attachments"), folder)


@cache
def exporter() -> HTMLExporter:  # one for all pages: it compiles its templates
    return _Exporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True
    )


def render_page(
    nb: NotebookNode,
    record: Mapping[str, Any],
    previous: tuple[str, str] | None = None,
    following: tuple[str, str] | None = None,
    pages: Container[str] = (),
    folder: str | Path = "",
    reader: bool = False,
    alone: bool = False,
) -> str:
    """The HTML page of an executed notebook. `previous` and `following` are (name, title) or None.

    pages: names of the notebooks that have one; the prose leads to no other.
    reader: without exercises. The notebook that the page carries to be saved has them in any case: it is the record.
    alone: no links to other pages, and its code hidden until it is asked for.
    """
    shown = for_paper(without_exercises(nb) if reader else nb)
    body, _ = exporter().from_notebook_node(shown, {"metadata": {"path": str(folder)}})
    body = _SOLUTION.sub(r'<details class="solution">\1', body)
    body, headings = link_headings(offer_tables(number_figures(link_lessons(body, pages)), record["name"]))
    failed_cell, traceback = failure(nb)
    notebook, lacks = notebook_link(nb, LARGEST - len(body.encode()) - FRAME)
    return TEMPLATES.get_template("page.html").render(
        body=body,
        headings=headings,
        record=record,
        commit=read_commit(record.get("commit", "")),
        parameters=read_parameters(nb),
        notebook=notebook,
        lacks=lacks,
        previous=previous,
        following=following,
        failed_cell=failed_cell,
        traceback=traceback,
        alone=alone,
    )


def own_pages(name: str, nb: NotebookNode) -> dict[str, str]:
    """{name: HTML} of pages that show one output alone: those of cells tagged `page-NAME`, under the heading above.

    name: of the notebook, to which the page leads back.
    """
    found, heading = {}, title(nb, name)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^#+ (.*)", cell.source, re.M)[-1:]), heading)
        for page in [tag.removeprefix("page-") for tag in tags(cell) if tag.startswith("page-")]:
            body = "".join(o.data["text/html"] for o in cell.get("outputs", []) if "text/html" in o.get("data", {}))
            if body:
                found[page] = TEMPLATES.get_template("own.html").render(
                    heading=heading, body=number_figures(body), name=name, title=title(nb, name)
                )
    return found
