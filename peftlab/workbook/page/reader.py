"""A notebook for readers who do no exercises: those are left out, with their solutions."""

import copy
import re

from nbformat import NotebookNode

_TASK = re.compile(r"^#+ (Exercise|Build) \d+\b", re.M)
CHECK = re.compile(r'^[^#\n]*\bcheck\("([\w.]+)"', re.M)
SOLUTION = re.compile(r"<details>\s*<summary>Solution\b.*?</details>", re.S)


def without_exercises(nb: NotebookNode) -> NotebookNode:
    """A copy without the text of exercises, the cells that check answers, and solutions.

    What stands in the same cell before an exercise or beside a solution stays.
    """
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            text = SOLUTION.sub("", cell.source)
            task = _TASK.search(text)
            cell.source = (text[: task.start()] if task else text).strip("\n")
    nb.cells = [cell for cell in nb.cells if cell.source and not _checks(cell)]
    return nb


def _checks(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and CHECK.search(cell.source) is not None
