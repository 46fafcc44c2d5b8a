"""The tests of otter-grader, one an exercise, in its OK format: a doctest that asks the exercise's own check.

`otter run` plays the student's notebook and runs a test right after the cell whose metadata name it (copies.py). Where
an answer is wrong, the test shows the hint of `pl.check`. What that says of a right one would give the answer away, so
it is left out.
"""

from pprint import pformat

from .questions import Question


def grading_test(question: Question) -> str:
    """The Python file that otter-grader reads for one exercise, worth a point."""
    check = f'peftlab.check("{question.name}", answer)  # doctest: +ELLIPSIS'
    code = f">>> import peftlab\n>>> {check}\n{question.name}: right. ...\nTrue\n"
    test = {
        "name": question.name,
        "points": 1,
        "suites": [{"type": "doctest", "cases": [{"code": code, "hidden": False}]}],
    }
    return f"OK_FORMAT = True\n\ntest = {pformat(test, width=110, sort_dicts=False)}\n"
