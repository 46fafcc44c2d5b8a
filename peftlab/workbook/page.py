"""An executed notebook -> one HTML page that needs nothing else: no network, no server, no script but its explorers'.

Everything here is a pure function of the notebook; running notebooks and writing files is `run.py`.

Cells are nbconvert's, by its template `basic`. What stands around them is ours (templates/): nbconvert's own frames
load scripts and styles from the network, and its template environment would not escape what we put into ours.
"""

import copy
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.filters.ansi import strip_ansi
from nbformat import NotebookNode

from .contents import link_headings
from .downloads import notebook_link, offer_tables
from .figures import number_figures
from .math import markdown_to_html, math_in_html
from .provenance import read_commit, read_parameters
from .reader import without_exercises

LARGEST = 5_900_000  # bytes of a page: it is mailed, and opened on phones
FRAME = 40_000  # bytes of it around the cells: styles, contents, parameters

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
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


# ---------------------------------------------------------------------------------------------------------------------
# Cleaning: what made sense while the notebook ran, and is noise on paper.

_PROGRESS_BAR = re.compile(
    r"[^\r\n|]*\d+%\|[^|\r\n]*\|[^\[\r\n]*\[[^\]\r\n]*\]"  # "fit:  40%|####      | 2/5 [00:01<00:02, 1.9it/s]"
    r"|(?:[^\r\n:]*: )?\d+\w*\s?\[\d+:\d\d, [^\]\r\n]*\]"  # "12it [00:01, 9.8it/s]", total unknown
    r"|\x1b\[A"  # the cursor goes up a line, to the bar around a bar
)


def strip_progress(text: str) -> str:
    """Remove progress bars from captured text; a warning printed in the middle of a bar stays.

    >>> strip_progress("steps: 12it [00:01, 9.8it/s]\\nloss 0.3\\n")
    'loss 0.3\\n'
    """
    kept = []
    for line in text.split("\n"):
        segments = [_PROGRESS_BAR.sub("", s) for s in line.split("\r")]
        shown = next((s for s in reversed(segments) if s.strip()), "")
        if shown or not line:
            kept.append(shown)
    return "\n".join(kept)


_NEEDS_SCRIPT = ("application/vnd.jupyter.widget-view+json", "application/javascript")


def clean_output(output: NotebookNode) -> NotebookNode | None:
    """The output as a page can show it, or None when nothing of it is left."""
    if output.output_type == "stream":
        output.text = strip_progress(output.text)
        return output if output.text.strip() else None
    data = output.get("data", {})
    if any(kind in data for kind in _NEEDS_SCRIPT):  # a page has no kernel to answer it
        for kind in (*_NEEDS_SCRIPT, "text/plain"):
            data.pop(kind, None)
        if not data:
            return None
    if "text/latex" in data:
        data["text/html"] = math_in_html(escape(data["text/latex"], quote=False))
    return output


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def _for_paper(nb: NotebookNode) -> NotebookNode:
    """A copy of the notebook, cleaned, with the page's cells only; a picture without a sentence has its section's."""
    nb = copy.deepcopy(nb)
    nb.metadata.pop("widgets", None)
    injected = any("injected-parameters" in tags(c) for c in nb.cells)
    hidden = {"papermill-error-cell-tag"} | ({"parameters"} if injected else set())
    nb.cells = [c for c in nb.cells if not hidden & set(tags(c))]
    section, titled = "", False
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            section = next(iter(re.findall(r"^#+ (.*)", cell.source, re.M)[-1:]), section)
            if not titled and cell.source.startswith("# "):  # the page's header shows it
                cell.source, titled = cell.source.partition("\n")[2], True
        elif cell.cell_type == "code":
            cell.outputs = [o for o in map(clean_output, cell.outputs) if o]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.metadata.setdefault("image/png", {}).setdefault("alt", f"Figure: {section or 'output'}")
    return nb


# ---------------------------------------------------------------------------------------------------------------------
# What is said of a notebook.


def title(nb: NotebookNode, otherwise: str = "") -> str:
    """The first level-one heading, without its Markdown marks."""
    for cell in nb.cells:
        if cell.cell_type == "markdown" and (m := re.search(r"^# +(.+)", cell.source, re.M)):
            return re.sub(r"[`*_]", "", m[1]).strip()
    return otherwise


def failure(nb: NotebookNode, lines: int = 14) -> tuple[str | None, str]:
    """-> (id of the cell that failed or None, end of its traceback in plain text)."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return cell.get("id"), "\n".join(strip_ansi("\n".join(output.traceback)).splitlines()[-lines:])
    # A dead kernel leaves no traceback: the last cell that was begun is the one.
    begun = [c for c in nb.cells if c.cell_type == "code" and c.metadata.get("papermill", {}).get("start_time")]
    return (begun[-1].get("id") if begun else None), ""


# ---------------------------------------------------------------------------------------------------------------------
# Pages.


def render_page(
    nb: NotebookNode,
    record: Mapping[str, Any],
    previous: tuple[str, str] | None = None,
    following: tuple[str, str] | None = None,
    folder: str | Path = "",
    reader: bool = False,
    alone: bool = False,
) -> str:
    """The HTML page of an executed notebook. `previous` and `following` are (name, title) or None.

    reader: without exercises. The notebook that the page carries to be saved has them in any case: it is the record.
    alone: no links to other pages, and its code hidden until it is asked for.
    """
    shown = _for_paper(without_exercises(nb) if reader else nb)
    body, _ = exporter().from_notebook_node(shown, {"metadata": {"path": str(folder)}})
    body, headings = link_headings(offer_tables(number_figures(body), record["name"]))
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


class _References(HTMLParser):
    """Collects everything that a browser would load by itself; links that a reader may click are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for key, value in attrs:
            loads = key in ("src", "srcset", "poster", "data") or (key == "href" and tag not in ("a", "area", "base"))
            if loads and re.match(r"\s*(https?:)?//", value or "", re.I):
                self.found.append(f"<{tag} {key}={value}>")
            if key in ("style", "fill"):
                self._styles(value or "")

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self._styles(data)
            self._in_style = False

    def _styles(self, css: str) -> None:
        self.found += re.findall(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//[^'\")\s]+", css, re.I)


def external_references(html: str) -> list[str]:
    """What the page would fetch from the network; empty for a self-contained page.

    >>> external_references('<script src="//cdn.example/x.js"></script><a href="https://arxiv.org">paper</a>')
    ['<script src=//cdn.example/x.js>']
    """
    parser = _References()
    parser.feed(html)
    parser.close()
    return parser.found
