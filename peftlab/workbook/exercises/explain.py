"""What is wrong with an answer, in sentences without their full stop; "" where nothing is."""

import inspect
import reprlib
import traceback
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np


def difference(yours: Any, expected: Any, reveal: bool = True) -> str:
    """How a value differs from the one expected in type, shape or (to 1e-6 relative) value; "" where it does not.

    reveal: show the value expected, too. A tuple is compared part by part.
    """
    if isinstance(expected, tuple):
        if not isinstance(yours, tuple | list) or len(yours) != len(expected):
            return f"yours is {described(yours)}, expected a tuple of {len(expected)}"
        parts = enumerate(map(difference, yours, expected), 1)
        return next((f"part {i}: {wrong}" for i, wrong in parts if wrong), "")
    have, want = _array(yours), np.asarray(expected)
    wanted, kinds = {"U": ("a text", "U"), "b": ("True or False", "b")}.get(want.dtype.kind, ("a number", "biuf"))
    if have.dtype.kind not in kinds:
        return f"yours is {described(yours)}, expected {f'numbers of shape {_shape(want)}' if want.ndim else wanted}"
    if have.shape != want.shape and not (have.ndim == want.ndim == 1 and _small(have) and _small(want)):
        return f"wrong shape: yours {_shape(have)}, expected {_shape(want)}"
    same = np.equal if kinds == "U" else lambda a, b: np.isclose(a, b, rtol=1e-6, atol=0)
    if have.shape == want.shape and np.all(alike := same(have, want)):
        return ""
    if not reveal:
        return f"yours {_short.repr(have)} is not right"
    if _small(have):
        return f"yours {_short.repr(have)}, expected {_short.repr(want)}"
    first = tuple(np.argwhere(~alike)[0].tolist())
    return f"yours {_short.repr(have[first].item())} at {list(first)}, expected {_short.repr(want[first].item())}"


def returned(yours: Any, expected: Any) -> str:
    """`difference` for what a reader's function returned: None means that it does not say what to return."""
    return "yours gives None: its `return` is missing" if yours is None else difference(yours, expected)


def raised(error: Exception, function: Any, when: str) -> str:
    """A sentence about an exception, with the last line of the function's own file that it came through, if known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [
        frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file and frame.line
    ]
    message = " ".join(str(error).split()).rstrip(".")
    where = f", in the line `{lines[-1]}`" if lines else ""
    return f"your answer raised {type(error).__name__}{message and ': '}{message}, {when}{where}"


def described(value: Any) -> str:
    """A value and its type in plain words.

    >>> described("x"), described({1}), described(print)
    ("'x' (a text)", '{1} (a set)', 'a function')
    """
    if value is None:
        return "None"
    if isinstance(value, type):
        return "a class"
    if inspect.isroutine(value):
        return "a function"
    kinds = {str: "a text", Real: "a number", np.ndarray: "an array"}
    kind = next((words for kind, words in kinds.items() if isinstance(value, kind)), f"a {type(value).__name__}")
    return f"{_short.repr(value)} ({kind})"


def wrong_arguments(answer: Callable[..., Any], names: list[str]) -> str:
    """A sentence if the answer cannot be called with arguments of these names, by position; "" if it can."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # some functions written in C do not tell
        return ""
    try:
        signature.bind(*names)
    except TypeError:
        takes = f"takes {len(signature.parameters)} {signature}"
        return f"wrong arguments: your answer {takes}, but is called with {len(names)} ({', '.join(names)})"
    return ""


def named(name: str, value: Any) -> str:
    """An argument with its value, or with its shape if it is a larger array.

    >>> named("scale", 0.5), named("W", np.zeros((4, 4)))
    ('scale = 0.5', 'W [4, 4]')
    """
    large = isinstance(value, np.ndarray) and not _small(value)
    return f"{name}{' ' if large else ' = '}{_short.repr(value)}"


class _Short(reprlib.Repr):
    """Values in a few characters: floats to seven digits, of larger arrays the shape."""

    def repr_float(self, x: float, level: int) -> str:
        return f"{x:.7g}"

    def repr_ndarray(self, x: np.ndarray, level: int) -> str:
        return self.repr1(x.tolist(), level) if _small(x) else _shape(x)


_short = _Short()


def _small(x: np.ndarray) -> bool:
    return x.ndim < 2 and x.size <= 6


def _shape(x: np.ndarray) -> str:
    return str(list(x.shape)) if x.ndim else "a single value"


def _array(value: Any) -> np.ndarray:
    """Numbers or texts as an array; whatever is neither as an array of objects."""
    try:
        x = np.asarray(value)
        return x.astype(float) if x.dtype == object and isinstance(value, Real) else x  # a fraction, a huge integer
    except Exception:  # a list of lists of different lengths, a tensor with a gradient
        return np.asarray(None)
