"""Exercises of notebook 08_compare."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...results.statistics import holm
from .base import Exercise, Test, agrees

_GROUPS = (
    ({"natural": [0.8, 0.6, 0.7], "structured": [0.2]},),
    ({"natural": [0.9], "specialized": [0.5, 0.7], "structured": [0.1, 0.2, 0.3]},),
)
_P = (([0.01, 0.04, 0.03],), ([0.2, 0.001, 0.02, 0.04],), ([0.6, 0.9],))
_POINTS = (
    ([1, 2, 3, 4], [50, 70, 60, 80]),
    ([5, 5, 1, 9], [60, 65, 40, 65]),
    ([0, 10, 20], [30, 20, 10]),
    ([1, 1, 2], [5, 5, 4]),  # two equal points, both on the front
)
_LOOKS = tuple(
    tuple({lr: rng.random(4).round(2).tolist() for lr in (0.001, 0.01, 0.1)} for _ in ("val", "test"))
    for rng in map(np.random.default_rng, range(4))
)


def _front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    return [
        i
        for i in range(len(costs))
        if not any(
            c <= costs[i] and v >= values[i] and (c < costs[i] or v > values[i])
            for c, v in zip(costs, values, strict=True)
        )
    ]


def _points(reference: Callable[..., Any]) -> Test:
    return agrees(reference, *_POINTS, any_order=True)


def _capped(reference: Callable[..., Any]) -> Callable[[Any], bool]:
    """Does the answer give this, capped at 1 or not?"""
    return lambda answer: agrees(reference, *_P)(lambda p: np.minimum(1, answer(p)))


def _reports(reference: Callable[..., Any]) -> Test:
    return agrees(reference, *_LOOKS)


def _chosen_on_val(
    rate: Callable[[Sequence[float]], float], epoch: Callable[[Sequence[float]], int] = lambda epochs: -1
) -> Test:
    """The test accuracy of the learning rate that `rate` likes best, at the epoch that `epoch` gives, both on val."""

    def report(val: Mapping[float, Sequence[float]], test: Mapping[float, Sequence[float]]) -> float:
        lr = max(val, key=lambda lr: rate(val[lr]))
        return test[lr][epoch(val[lr])]

    return _reports(report)


def _last(epochs: Sequence[float]) -> float:
    return epochs[-1]


def _best_epoch(epochs: Sequence[float]) -> int:
    return epochs.index(max(epochs))


_EARLY = (_chosen_on_val(max), _chosen_on_val(max, _best_epoch), _chosen_on_val(_last, _best_epoch))


EXERCISES = {
    "compare.1": Exercise(
        agrees(lambda groups: np.mean([np.mean(tasks) for tasks in groups.values()]), *_GROUPS),
        "VTAB's groups hold 7, 4 and 8 tasks: the two averages of one table differ by points.",
        (
            (
                agrees(lambda groups: np.mean([a for tasks in groups.values() for a in tasks]), *_GROUPS),
                "that is the mean over tasks, where a large group weighs more; average each group first",
            ),
            (
                agrees(lambda groups: np.mean([np.sum(tasks) for tasks in groups.values()]), *_GROUPS),
                "a group's tasks are averaged, too, not added",
            ),
            (
                agrees(lambda groups: sum(np.mean(tasks) for tasks in groups.values()) / 3, *_GROUPS),
                "divide by the number of groups that are given",
            ),
        ),
        help="`groups.values()` gives the lists of accuracies; take the mean of each list first.",
    ),
    "compare.2": Exercise(
        agrees(holm, *_P),
        "Holm finds whatever Bonferroni finds, sometimes more, with as few false alarms: no reason to use the latter.",
        (
            (
                _capped(lambda p: np.minimum(1, np.array(p) * len(p))),
                "that is Bonferroni: only the smallest p is multiplied by n; the next by n - 1, and so on",
            ),
            (
                agrees(lambda p: np.array(p), *_P),
                "uncorrected: with twenty methods one of them has p < 0.05 by chance",
            ),
            (
                _capped(lambda p: np.minimum(1, np.array(p) * (len(p) - np.argsort(np.argsort(p, kind="stable"))))),
                "a larger p must not become smaller than one before it: take the running maximum",
            ),
            (
                _capped(lambda p: np.sort(holm(p))),
                "these stand in sorted order; give them back in the order in which p was given",
            ),
            (
                _capped(lambda p: np.sort(holm(p))[np.argsort(p)]),
                "[order] sorts once more; the way back is its inverse, [np.argsort(order)]",
            ),
            (_capped(holm), "no value exceeds 1: cap them by np.minimum(1, ...)"),
        ),
        help="np.argsort(p) sorts, np.maximum.accumulate is a running maximum; argsort once more gives the old order.",
    ),
    "compare.3": Exercise(
        _points(_front),
        "Whatever is not on the front is beaten by something no dearer.",
        (
            (
                _points(lambda c, v: [int(np.argmax(v))]),
                "that is the most accurate alone; a cheaper one may be the best for its budget",
            ),
            (
                _points(lambda c, v: _front([-x for x in c], v)),
                "cheap is good: a point is beaten by one that costs at most as much",
            ),
            (
                _points(
                    lambda c, v: [
                        i for i in range(len(c)) if not any(b < c[i] and w > v[i] for b, w in zip(c, v, strict=True))
                    ]
                ),
                "a point of the same cost is beaten by a better one, and one of the same accuracy by a cheaper one",
            ),
            (
                agrees(_front, *_POINTS[:-1], any_order=True),
                "two equal points do not beat each other: both are on the front",
            ),
            (_points(lambda c, v: []), "a point does not beat itself: it is equal in both"),
        ),
        help="First a function beats(a, b) of two pairs (cost, value); a point is on the front if no pair beats it.",
    ),
    "compare.4": Exercise(
        _chosen_on_val(_last),
        "The test split is read once, after everything has been decided.",
        (
            (
                _reports(lambda val, test: max(max(epochs) for epochs in test.values())),
                "that chooses learning rate and epoch on the test split",
            ),
            (
                _reports(lambda val, test: max(epochs[-1] for epochs in test.values())),
                "that chooses the learning rate on the test split; choose on val",
            ),
            (
                _reports(lambda val, test: max(test[max(val, key=lambda lr: val[lr][-1])])),
                "the learning rate is chosen rightly, but the epoch is chosen on the test split",
            ),
            (
                _reports(lambda val, test: max(epochs[-1] for epochs in val.values())),
                "that is the accuracy on val, which the choice has made too good; report the test split's",
            ),
            (lambda answer: any(test(answer) for test in _EARLY), "the last epoch counts, on val, too"),
        ),
        help="Decide on the learning rate with `val` alone; open `test` after that, for this one rate.",
    ),
}
