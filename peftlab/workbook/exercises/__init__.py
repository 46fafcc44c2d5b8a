"""`check("tour.1", answer)`: tells a reader whether an answer is right, and what is wrong with one that is not.

One module a notebook, named as the exercises begin.
"""

from collections.abc import Callable
from typing import Any

from . import build, compare, context, families, gift, gist, tasks, tensors, tour, two_stage

EXERCISES = {
    name: exercise
    for notebook in (tour, tasks, tensors, families, gist, gift, two_stage, context, compare, build)
    for name, exercise in notebook.EXERCISES.items()
}


def _holds(mistake: Callable[[Any], bool], answer: Any) -> bool:
    """A test for a mistake that raises on an answer does not hold for it."""
    try:
        return bool(mistake(answer))
    except Exception:  # the answer may be any object or function that a reader wrote
        return False


def check(name: str, answer: Any, hint: bool = False) -> bool:
    """Print whether an answer is right. Returns True if it is.

    Of a wrong one it says which known mistake it is; of any other the exception, the arguments, the type or the shape,
    or what it gives beside what is expected.

    hint: say first how one may begin.

    Raises KeyError for an unknown exercise, naming the known ones.

    >>> check("tasks.3", "test")
    tasks.3: not right. Hint: choosing on the test split makes its accuracy too good to be true.
    False
    """
    if name not in EXERCISES:
        raise KeyError(f"no exercise {name!r}; known: {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    if hint:
        print(f"{name}: {exercise.help}")
    if answer is ... or (isinstance(answer, dict) and any(value is ... for value in answer.values())):
        print(f"{name}: not answered yet. Replace the ... by your answer and run the cell again.")
        return False
    wrong = exercise.correct.explain(answer)
    if not wrong:
        print(f"{name}: right. {exercise.praise}")
        return True
    known = next((text for mistake, text in exercise.mistakes if _holds(mistake, answer)), None)
    print(f"{name}: {wrong}." if known is None else f"{name}: not right. Hint: {known}.")
    return False
