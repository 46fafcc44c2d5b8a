"""What an exercise is, and the usual ways to recognise an answer."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exercise:
    """correct(answer) -> bool. mistakes: (recognises(answer) -> bool, hint), most telling first."""

    correct: Callable
    praise: str
    mistakes: tuple = ()


def equals(*expected):
    """The answer is this number (to 1e-6 relative) or text."""

    def test(answer):
        if isinstance(expected[0], str):
            return answer in expected
        return any(math.isclose(answer, e, rel_tol=1e-6) for e in expected)

    return test


def agrees(reference, *cases):
    """The answer is a function that gives the same as `reference` for all cases, values and types of numbers alike."""

    def test(answer):
        return all(np.allclose(answer(*case), reference(*case), rtol=1e-6, atol=0) for case in cases)

    return test
