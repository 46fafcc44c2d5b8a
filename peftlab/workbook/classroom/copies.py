"""A lesson -> the copy of a student, without solutions, and the copy of an instructor, with the solutions in place."""

import copy
import re
from collections.abc import Sequence

from nbformat import NotebookNode
from nbformat.v4 import new_output

from ..lint.cleanliness import CHECKED
from ..page.cells import tags
from ..page.reader import SOLUTION
from .questions import Question

OTTER = "otter"  # the key under which otter-grader looks for the tests of a cell
SPEAKER = "**Speaker notes.**"


def student_copy(lesson: NotebookNode, questions: Sequence[Question]) -> NotebookNode:
    """A copy without solutions, outputs and what slides are made from.

    The cell of an exercise names its test to otter-grader, which then grades right after it. So every exercise of a
    lesson may call its answer `answer`, and what a student hands in is this very notebook.
    """
    nb = copy.deepcopy(lesson)
    for cell in nb.cells:
        cell.metadata.pop("slideshow", None)
        if "slide-code" in tags(cell):
            cell.metadata["tags"] = [tag for tag in tags(cell) if tag != "slide-code"]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = cell.source.removeprefix(CHECKED).lstrip("\n")
    for question in questions:
        nb.cells[question.stub].metadata[OTTER] = {"tests": [question.name]}
    return _without_solutions(nb)


def instructor_copy(lesson: NotebookNode, questions: Sequence[Question]) -> NotebookNode:
    """A copy with every exercise solved and what its check then prints, for nbval to compare; with speaker notes."""
    nb = copy.deepcopy(lesson)
    for question in questions:
        cell = nb.cells[question.stub]
        cell.source = f"{CHECKED}\n{question.solved(cell.source)}"
        cell.outputs, cell.execution_count = [new_output("stream", name="stdout", text=question.praise)], 1
    for cell in nb.cells:
        if cell.metadata.get("slideshow", {}).get("slide_type") == "notes":
            cell.source = f"{SPEAKER}\n\n{cell.source}"
    return _without_solutions(nb)


def _without_solutions(nb: NotebookNode) -> NotebookNode:
    """The same notebook; of a cell that holds a solution the rest stays, if there is any."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source).strip("\n")
    nb.cells = [cell for cell in nb.cells if cell.source or cell.cell_type == "code"]
    return nb


def student_start(page: str) -> str:
    """The start page without what speaks of solutions, and without the command that brings lessons with them.

    >>> student_start("- `pl.check` says what is wrong. The solution is below.\\n- **Start again:** delete it.\\n")
    '- `pl.check` says what is wrong.\\n'
    """
    page = re.sub(r"^- \*\*Start again:.*\n", "", page, flags=re.M)
    return re.sub(r" [^.\n]*\bsolutions?\b[^.\n]*\.", "", page)
