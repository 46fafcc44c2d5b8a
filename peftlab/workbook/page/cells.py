"""What is read out of a notebook: tags of a cell, its title, where it failed."""

import re

from nbconvert.filters.ansi import strip_ansi
from nbformat import NotebookNode


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


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
