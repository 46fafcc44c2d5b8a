"""Where a lesson's exercises are, by the form that all of them have: a code cell that checks, then the solution."""

import re
from collections import Counter
from dataclasses import dataclass

from nbformat import NotebookNode

from ...common.errors import PeftlabError, check_choice, located
from ..exercises import EXERCISES
from ..page.reader import CHECK, SOLUTION

_UNUSED = re.compile(r"^(pl\.check\(.*\));$", re.M)
_CODE = re.compile(r"```python\n(.*?)\n```", re.S)


@dataclass(frozen=True)
class Question:
    """One exercise of a notebook. stub: the index of its code cell; the cell after it has the solution."""

    name: str
    stub: int
    solution: str

    def solved(self, source: str) -> str:
        """The stub cell with its answer: what stands above the line with the check is replaced by the solution.

        A check whose result is not used is asserted: nbval would take the result that `;` hides for an output.

        >>> print(Question("tour.1", 0, "answer = 1930").solved('answer = ...\\n\\npl.check("tour.1", answer);'))
        answer = 1930
        assert pl.check("tour.1", answer)
        """
        check = CHECK.search(source)
        assert check is not None  # this is how the question was found
        return f"{self.solution}\n" + _UNUSED.sub(r"assert \1", source[check.start() :])

    @property
    def praise(self) -> str:
        """What the check prints of a right answer."""
        return f"{self.name}: right. {EXERCISES[self.name].praise}\n"


def find_questions(nb: NotebookNode, where: str) -> list[Question]:
    """The exercises of a notebook, in order.

    Raises PeftlabError, naming the notebook, `where`, for an exercise that is unknown, asked twice or has no solution.
    """
    with located(where):
        found = [
            Question(name, at, _solution(name, nb.cells[at + 1 : at + 2]))
            for at, cell in enumerate(nb.cells)
            if cell.cell_type == "code"
            for name in CHECK.findall(cell.source)
        ]
        for name, times in Counter(question.name for question in found).items():
            check_choice("exercise", name, EXERCISES)
            if times > 1:
                raise PeftlabError(f"exercise {name} is checked in {times} places; keep one")
    return found


def _solution(name: str, following: list[NotebookNode]) -> str:
    """The code of the solution in the cell that follows a check."""
    for cell in following:
        details = SOLUTION.search(cell.source) if cell.cell_type == "markdown" else None
        if details and (code := _CODE.search(details[0])):
            return code[1]
    raise PeftlabError(
        f"exercise {name} has no solution. Put a markdown cell after it, with <details><summary>Solution</summary> "
        "and a ```python block"
    )
