"""Exercises of notebook 06_two_stage."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Exercise, Test, agrees

_rng = np.random.default_rng(0)
_PAIRS = tuple((_rng.normal(size=(5, 3)), _rng.normal(size=(5, 3))) for _ in range(3))
_SCORES = (
    (np.array([0.3, 0.9, 0.1, 0.5]), 2),
    (np.array([5.0, 1, 4, 2, 3, 0]), 3),
    (np.array([2.0, 2, 1]), 1),
    (np.tile([1.0, 2.0], 20), 5),  # long enough for an unstable sort to mix ties up
)
_SETS = (({1, 2, 3}, {2, 3, 4}), ({0, 5}, {1, 2}), ({1, 2, 3, 4}, {1}))
_SIZES = ((12, 768, 96), (6, 192, 24), (24, 1024, 64))


def _chooses(reference: Callable[..., Any]) -> Test:
    return agrees(reference, *_SCORES, any_order=True)


def _reaches(reference: Callable[..., Any]) -> Callable[[Any], bool]:
    """Does the answer choose channels of these scores, whichever of those that are tied?"""
    return lambda answer: _chooses(reference)(lambda scores, k: scores[sorted(set(answer(scores, k)))])


EXERCISES = {
    "two_stage.1": Exercise(
        agrees(lambda h, g: np.abs((h * g).sum(0)), *_PAIRS),
        "Tokens may push the loss in opposite directions; only their sum is what removal would change.",
        (
            (
                agrees(lambda h, g: np.abs(h * g).sum(0), *_PAIRS),
                "sum over the tokens first, then take the absolute value: contributions may cancel",
            ),
            (
                agrees(lambda h, g: (h * g).sum(0), *_PAIRS),
                "a channel that lowers the loss matters as much as one that raises it: take the absolute value",
            ),
            (
                agrees(lambda h, g: np.abs((h * g).sum(1)), *_PAIRS),
                "that is one number for each token; sum over tokens and keep the channels",
            ),
            (
                agrees(lambda h, g: np.abs(g.sum(0)), *_PAIRS),
                "that is the gradient alone; removing a channel moves it by -h, so h belongs into the product",
            ),
        ),
        help="Multiply h and g first; then decide which axis to sum over, and when to take the absolute value.",
    ),
    "two_stage.2": Exercise(
        _chooses(lambda scores, k: (-scores).argsort(kind="stable")[:k]),
        "A stable sort lets ties go to the lower index, so that everybody chooses the same channels.",
        (
            (
                _reaches(lambda scores, k: np.sort(scores)[:k]),
                "those are the least important ones; sort in falling order",
            ),
            (
                _chooses(lambda scores, k: np.flatnonzero(scores >= np.sort(scores)[-k])),
                "a threshold gives more than k where scores are tied; sort and take the first k",
            ),
            (
                _chooses(lambda scores, k: np.sort(scores)[-k:]),
                "those are the scores; their channels' indices are wanted",
            ),
            (
                _reaches(lambda scores, k: np.sort(scores)[-k:]),
                "ties go to the lower index: sort -scores by a stable sort",
            ),
        ),
        help="`argsort` gives the indices in rising order; look up how it treats ties.",
    ),
    "two_stage.3": Exercise(
        agrees(lambda depth, width, k: (2 * depth + 1) * 2 * width + depth * (k**2 + k), *_SIZES),
        "38,400 + 111,744 = 150,144 for ViT-B/16 with 96 channels.",
        (
            (
                agrees(lambda depth, width, k: depth * (k**2 + k), *_SIZES),
                "that is stage 2; gamma and beta of stage 1 are stored for the task, too",
            ),
            (
                agrees(lambda depth, width, k: 2 * depth * 2 * width + depth * (k**2 + k), *_SIZES),
                "do not forget the final LayerNorm",
            ),
            (
                agrees(lambda depth, width, k: (2 * depth + 1) * 2 * width + depth * k**2, *_SIZES),
                "the map has a shift u besides U",
            ),
            (
                agrees(lambda depth, width, k: (2 * depth + 1) * width + depth * (k**2 + k), *_SIZES),
                "each LayerNorm has a gamma and a beta",
            ),
        ),
        help="Count the stages one by one: how many LayerNorms are there, and how many numbers has one map?",
    ),
    "two_stage.4": Exercise(
        agrees(lambda a, b: len(a & b) / len(a | b), *_SETS),
        "Two random sets of 24 out of 192 channels reach 0.07: compare with that, not with 0.",
        (
            (
                agrees(lambda a, b: len(a & b) / len(a), *_SETS),
                "divide by the union: what at least one of them chose",
            ),
            (agrees(lambda a, b: len(a & b), *_SETS), "that is a number of channels; divide by the union's"),
            (
                agrees(lambda a, b: len(a & b) / (len(a) + len(b)), *_SETS),
                "the sum counts what both chose twice; divide by the union",
            ),
        ),
        help="Python's sets have `a & b` and `a | b`.",
    ),
}
