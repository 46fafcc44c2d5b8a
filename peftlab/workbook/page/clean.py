"""Cells as a page shows them, without what made sense while the notebook ran, and is noise on paper."""

import copy
import re
from html import escape

from nbformat import NotebookNode

from ..math import math_in_html
from .cells import tags

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


def for_paper(nb: NotebookNode) -> NotebookNode:
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
