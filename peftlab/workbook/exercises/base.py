"""What an exercise is, and the usual ways to recognise an answer."""

import copy
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .explain import described, difference, named, raised, returned, wrong_arguments


@dataclass(frozen=True)
class Test:
    """What an answer, which is whatever a reader wrote, should be.

    explain: "" for an answer that is so, for any other a sentence (without its full stop) that says what is wrong.
    """

    explain: Callable[[Any], str]

    def __call__(self, answer: Any) -> bool:
        return not self.explain(answer)


@dataclass(frozen=True)
class Exercise:
    """How an answer is judged.

    correct: the test that a right answer passes. praise: what to add to "right".
    mistakes: (the test that recognises a mistake, its hint), most telling first; a test that raises does not hold.
    help: a hint on how to begin, given on request.
    """

    correct: Test
    praise: str
    mistakes: tuple[tuple[Callable[[Any], bool], str], ...] = ()
    help: str = field(kw_only=True)


def equals(*expected: float | str) -> Test:
    """The answer is one of these numbers (to 1e-6 relative) or texts.

    >>> equals(209, 210)(210), equals("val200")("test")
    (True, False)
    >>> equals(209).explain("209")
    "yours is '209' (a text), expected a number"
    """

    def explain(answer: Any) -> str:
        found = [difference(answer, each, reveal=False) for each in expected]
        return "" if "" in found else found[0]

    return Test(explain)


def entries(**expected: float | bool) -> Test:
    """The answer is a dict with these entries and no others.

    >>> entries(lora=True, vpt=False).explain({"lora": True, "vpt": "no"})
    "vpt: yours is 'no' (a text), expected True or False"
    """

    def explain(answer: Any) -> str:
        if not isinstance(answer, Mapping):
            return f"yours is {described(answer)}, expected a dict with {', '.join(expected)}"
        if set(answer) != set(expected):
            return f"yours has {', '.join(map(str, answer)) or 'nothing'}, expected a dict with {', '.join(expected)}"
        found = {name: difference(answer[name], each, reveal=False) for name, each in expected.items()}
        return next((f"{name}: {wrong}" for name, wrong in found.items() if wrong), "")

    return Test(explain)


def agrees(reference: Callable[..., Any], *cases: tuple[Any, ...], any_order: bool = False) -> Test:
    """The answer is a function that gives the same as `reference` for all cases, to 1e-6 relative and in shape.

    any_order: the values count, not their order.

    >>> test = agrees(lambda width, rank: 2 * width * rank, (192, 8), (768, 4))
    >>> test(lambda width, rank: width * rank * 2)
    True
    >>> test.explain(lambda width, rank: width * rank)
    'for width = 192, rank = 8: yours 1536, expected 3072'
    """
    names = list(inspect.signature(reference).parameters)

    def explain(answer: Any) -> str:
        if not callable(answer):
            return f"yours is {described(answer)}, expected a function of {', '.join(names)}"
        if wrong := wrong_arguments(answer, names):
            return wrong
        for case in cases:
            given = ", ".join(map(named, names, case))
            try:
                yours = answer(*copy.deepcopy(case))  # the answer may change what it is given
            except Exception as error:
                return raised(error, answer, f"when called with ({given})")
            expected = reference(*case)
            if any_order:
                expected = sorted(expected)
                with suppress(Exception):  # what cannot be sorted is of another type, and that is said
                    yours = yours if isinstance(yours, str | Mapping) else sorted(yours)
            if wrong := returned(yours, expected):
                return f"for {given}: {wrong}"
        return ""

    return Test(explain)
