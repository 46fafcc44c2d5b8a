"""What an exercise is, and the usual ways to recognise an answer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Test = Callable[[Any], bool]
"""Whether something holds for an answer, which is whatever a reader wrote; a test that raises does not hold."""


@dataclass(frozen=True)
class Exercise:
    """How an answer is judged.

    correct: the test that a right answer passes. praise: what to add to "right".
    mistakes: (the test that recognises a mistake, its hint), most telling first.
    """

    correct: Test
    praise: str
    mistakes: tuple[tuple[Test, str], ...] = ()


def equals(*expected: float | str) -> Test:
    """The answer is one of these numbers (to 1e-6 relative) or texts.

    >>> equals(209, 210)(210), equals("val200")("test")
    (True, False)
    """

    def test(answer: Any) -> bool:
        return any(answer == e if isinstance(e, str) else math.isclose(answer, e, rel_tol=1e-6) for e in expected)

    return test


def agrees(reference: Callable[..., Any], *cases: tuple[Any, ...]) -> Test:
    """The answer is a function that gives the same as `reference` for all cases, to 1e-6 relative.

    >>> agrees(lambda width, rank: 2 * width * rank, (192, 8), (768, 4))(lambda width, rank: width * rank * 2)
    True
    """

    def test(answer: Callable[..., Any]) -> bool:
        return all(np.allclose(answer(*case), reference(*case), rtol=1e-6, atol=0) for case in cases)

    return test
