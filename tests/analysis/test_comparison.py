"""Fronts and ranks of methods, against what their definitions say."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from peftlab.analysis.comparison import on_front, overall_ranks


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_front_is_what_nothing_beats(points):
    costs, values = zip(*points, strict=True)
    front = on_front(costs, values)
    assert front.any()
    for i, (c, v) in enumerate(points):
        beaten = any((d <= c and w >= v) and (d < c or w > v) for d, w in points)
        assert front[i] == (not beaten)


def test_ranks_are_of_means_over_tasks_and_seeds():
    rows = [(m, t, s, a + s / 100) for m, a in {"a": 0.7, "b": 0.6}.items() for t in ("x", "y") for s in (0, 1)]
    ours = pd.DataFrame(rows, columns=["label", "task", "seed", "test_accuracy"]).assign(synthetic=True)
    theirs = ours.assign(test_accuracy=1 - ours["test_accuracy"])
    table = overall_ranks({"ours": ours, "theirs": theirs}, "label")
    assert table.to_dict() == {"ours": {"a": 1, "b": 2}, "theirs": {"a": 2, "b": 1}}
