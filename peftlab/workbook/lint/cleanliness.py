"""Rules about what is stored with a notebook, and the cleaner that strips what should not be.

nbstripout (0.9) is not used: it keeps the execution counts of all cells or of none, and nbval takes a checked cell
without a count for "unrun" and compares nothing; and it keeps outputs by a cell's metadata, not by nbval's comment.
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ...common.files import write_text

CHECKED = "# NBVAL_CHECK_OUTPUT"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KERNELSPECS = (KERNELSPEC, KERNELSPEC | {"display_name": "Python 3"})  # JupyterLab writes the first on each save
CELL_METADATA = {"tags", "slideshow", "jupyter"}


def cleanliness_problems(nb: NotebookNode) -> list[str]:
    """No outputs but the ones that nbval compares, and nothing that an editor or papermill left behind."""
    found = []
    for number, cell in enumerate(nb.cells):
        if extra := sorted(set(cell.metadata) - CELL_METADATA):
            found.append(f"cell {number}: metadata {', '.join(extra)}")
        if cell.cell_type != "code":
            continue
        if CHECKED in cell.source:
            if not cell.outputs or cell.execution_count is None:
                found.append(f"cell {number}: {CHECKED} without stored output and count; nbval would compare nothing")
        elif cell.outputs or cell.execution_count is not None:
            found.append(f"cell {number}: stored output or count without {CHECKED}")
    if extra := sorted(set(nb.metadata) - {"kernelspec", "language_info"}):
        found.append(f"notebook metadata {', '.join(extra)}")
    if nb.metadata.get("kernelspec") not in KERNELSPECS:
        found.append(f"kernelspec must be {KERNELSPEC}")
    if dict(nb.metadata.get("language_info", {"name": "python"})) != {"name": "python"}:
        found.append("language_info holds one machine's Python version")
    return found


def clean(nb: NotebookNode) -> NotebookNode:
    """Strip in place what `cleanliness_problems` complains about. Checked cells keep output and count."""
    found = nb.metadata.get("kernelspec")
    kernelspec = found if found in KERNELSPECS else KERNELSPEC
    nb.metadata = nbformat.from_dict({"kernelspec": kernelspec, "language_info": {"name": "python"}})
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA})
        if cell.cell_type == "code" and CHECKED not in cell.source:
            cell.outputs, cell.execution_count = [], None
    return nb


def clean_file(path: Path) -> bool:
    """Clean a notebook file. Returns True if it changed."""
    before = path.read_text(encoding="utf-8")
    after = nbformat.writes(clean(nbformat.reads(before, as_version=4))).rstrip("\n") + "\n"
    if after != before:
        write_text(path, after)
    return after != before
