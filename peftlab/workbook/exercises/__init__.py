"""`check("tour.1", answer)`: tells a reader whether an answer is right, and which known mistake a wrong one is.

One module a notebook, named as the exercises begin.
"""

from typing import Any

from . import compare, context, families, gift, gist, tasks, tensors, tour, two_stage
from .base import Test

EXERCISES = {
    name: exercise
    for notebook in (tour, tasks, tensors, families, gist, gift, two_stage, context, compare)
    for name, exercise in notebook.EXERCISES.items()
}


def _holds(test: Test, answer: Any) -> bool:
    """A test that raises on an answer does not hold for it."""
    try:
        return bool(test(answer))
    except Exception:  # the answer may be any object or function that a reader wrote
        return False


def check(name: str, answer: Any) -> bool:
    """Print what is right or wrong with an answer. Returns True if it is right.

    Raises KeyError for an unknown exercise, naming the known ones.

    >>> check("tasks.3", "test")
    tasks.3: not right. Hint: choosing on the test split makes its accuracy too good to be true.
    False
    """
    if name not in EXERCISES:
        raise KeyError(f"no exercise {name!r}; known: {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    if answer is ... or (isinstance(answer, dict) and ... in answer.values()):
        print(f"{name}: not answered yet. Replace the ... by your answer and run the cell again.")
        return False
    if _holds(exercise.correct, answer):
        print(f"{name}: right. {exercise.praise}")
        return True
    hint = next(
        (hint for test, hint in exercise.mistakes if _holds(test, answer)), "not yet; read the text above again"
    )
    print(f"{name}: not right. Hint: {hint}.")
    return False
