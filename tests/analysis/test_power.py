"""What a comparison could have seen: noise taken apart, differences that a simulated test finds as often as said."""

from math import inf, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from peftlab.analysis.power import cells_needed, noise, smallest_difference
from peftlab.common.errors import PeftlabError


def ledger(accuracies):
    """{method: {task: a value a seed}} -> DataFrame."""
    rows = [(m, t, s, a) for m, of_task in accuracies.items() for t, v in of_task.items() for s, a in enumerate(v)]
    return pd.DataFrame(rows, columns=["label", "task", "seed", "test_accuracy"]).assign(synthetic=False)


ZERO = {"dtd": [0.5, 0.5], "pets": [0.5, 0.5]}


def test_noise_of_seeds_and_spread_over_tasks_by_hand():
    # differences from "zero" in points: 1 and 3 on dtd, 9 and 11 on pets; variances 2 and 2, means 2 and 10
    runs = ledger({"zero": ZERO, "a": {"dtd": [0.51, 0.53], "pets": [0.59, 0.61]}})
    assert noise(runs) == pytest.approx((sqrt(2), sqrt(32 - 2 / 2)))


def test_seeds_alone_leave_no_spread_over_tasks():
    runs = ledger({"zero": ZERO, "a": {"dtd": [0.4, 0.6], "pets": [0.45, 0.55]}})
    assert noise(runs) == pytest.approx((sqrt((200 + 50) / 2), 0))


def test_what_two_methods_share_is_no_noise_of_their_difference():
    shared = {"dtd": [0.3, 0.7], "pets": [0.2, 0.9]}
    above = {task: [value + 0.02 for value in values] for task, values in shared.items()}
    runs = ledger({"a": shared, "b": above, "zero": ZERO})
    assert noise(runs, [("a", "b")]) == pytest.approx((0, 0), abs=1e-9)
    alone = [noise(runs, [pair])[0] ** 2 for pair in (("a", "b"), ("a", "zero"), ("b", "zero"))]
    assert noise(runs)[0] == pytest.approx(sqrt(np.mean(alone)))  # all pairs, pooled


def test_noise_says_what_is_missing():
    runs = ledger({"a": ZERO, "b": ZERO})
    with pytest.raises(PeftlabError, match="number of seeds is 1"):
        noise(runs[runs["seed"] == 0])
    with pytest.raises(PeftlabError, match="number of tasks is 1"):
        noise(runs[runs["task"] == "dtd"])
    with pytest.raises(PeftlabError, match="unknown label 'c'"):
        noise(runs, [("a", "c")])


@pytest.mark.parametrize(("tasks", "seeds", "power"), [(1, 2, 0.8), (1, 5, 0.5), (8, 2, 0.8), (4, 3, 0.9)])
def test_a_simulated_test_sees_the_difference_as_often_as_said(tasks, seeds, power):
    """Fixed tasks with effects of their own; the t-test is written out, and knows nothing of how it was planned."""
    sd, rounds, rng = 2.0, 40_000, np.random.default_rng(0)
    true = smallest_difference(sd, tasks * seeds, power, tasks=tasks)
    effects = rng.normal(0, 30, tasks)
    d = (true + effects - effects.mean())[:, None] + rng.normal(0, sd, (rounds, tasks, seeds))
    pooled = d.var(-1, ddof=1).mean(-1)  # tasks * (seeds - 1) degrees of freedom
    t = d.mean((1, 2)) / np.sqrt(pooled / (tasks * seeds))
    seen = t > stats.t.ppf(0.975, tasks * (seeds - 1))
    assert seen.mean() == pytest.approx(power, abs=4 * sqrt(power * (1 - power) / rounds))


def test_scipys_own_t_test_sees_it_too():
    rounds, rng = 20_000, np.random.default_rng(1)
    d = smallest_difference(1.0, 6, level=0.01) + rng.standard_normal((rounds, 6))
    assert (stats.ttest_1samp(d, 0, axis=1).pvalue < 0.01).mean() == pytest.approx(0.8, abs=0.012)


def test_many_cells_are_the_normal_approximation():
    errors = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert smallest_difference(3.0, 1_000_000) == pytest.approx(3.0 * errors / 1000, rel=1e-5)
    assert cells_needed(1.0, 0.01) == pytest.approx((errors / 0.01) ** 2, abs=3)
    assert smallest_difference(3.0, 20) > 3.0 * errors / sqrt(20)  # few are worse than it says


@pytest.mark.parametrize("tasks", [1, 3, 8])
@pytest.mark.parametrize("difference", [0.3, 1.0, 40.0])
def test_cells_needed_are_just_enough(tasks, difference):
    cells = cells_needed(2.0, difference, tasks=tasks)
    fewer = smallest_difference(2.0, cells - tasks, tasks=tasks) if cells > 2 * tasks else inf
    assert cells % tasks == 0 and smallest_difference(2.0, cells, tasks=tasks) <= difference < fewer


def test_no_degree_of_freedom_no_test():
    with pytest.raises(PeftlabError, match="cells is 8, but must be at least 9"):
        smallest_difference(1.0, 8, tasks=8)
    with pytest.raises(PeftlabError, match="difference is 0, but must be greater than 0"):
        cells_needed(1.0, 0)
