"""Comparisons over tasks and seeds: against numbers worked out by hand and in the literature."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from peftlab.common.errors import PeftlabError
from peftlab.results.statistics import accuracy_interval, averages, holm, mean_interval, paired, ranks, score_array
from peftlab.results.tables import comparison_table

GROUPS = {"dtd": "natural", "cifar": "natural", "eurosat": "specialized", "dsprites_loc": "structured"}


def ledger(score, methods=("a", "b", "c"), tasks=GROUPS, seeds=(0, 1, 2), synthetic=False):
    """score(method, task, seed) -> accuracy"""
    return pd.DataFrame(
        [
            {
                "method": m,
                "task": t,
                "group": GROUPS[t],
                "seed": s,
                "synthetic": synthetic,
                "test_accuracy": score(m, t, s),
            }
            for m, t, s in itertools.product(methods, tasks, seeds)
        ]
    )


def noisy(m, t, s):
    rng = np.random.default_rng([ord(m), *map(ord, t), s])
    return {"a": 0.5, "b": 0.6, "c": 0.55}[m] + 0.05 * rng.standard_normal()


def test_cube_is_complete_and_in_order():
    table = ledger(lambda m, t, s: ord(m) + list(GROUPS).index(t) / 10 + s / 100).sample(frac=1, random_state=0)
    values, names, tasks = score_array(table)
    assert values.shape == (3, 4, 3) and names == ["a", "b", "c"] and tasks == sorted(GROUPS)
    assert values[1, tasks.index("eurosat"), 2] == pytest.approx(ord("b") + 0.2 + 0.02)


def test_incomplete_double_and_mixed_ledgers_are_refused():
    table = ledger(noisy)
    with pytest.raises(PeftlabError, match="a on dtd, seed 0: 0 runs instead of one"):
        score_array(table[1:])
    with pytest.raises(PeftlabError, match="a on dtd, seed 0: 2 runs instead of one"):
        score_array(pd.concat([table, table[:1]]))
    with pytest.raises(PeftlabError, match="synthetic and real tasks are never averaged"):
        averages(pd.concat([table, ledger(noisy, tasks=["eurosat"], synthetic=True)]))


def test_both_averages_by_name():
    """Natural has two tasks, the other groups one each."""
    score = {"dtd": 0.1, "cifar": 0.3, "eurosat": 0.6, "dsprites_loc": 1.0}
    row = averages(ledger(lambda m, t, s: score[t])).loc["a"]
    assert row["mean over tasks"] == pytest.approx(0.5) and row["mean over groups"] == pytest.approx(
        (0.2 + 0.6 + 1) / 3
    )


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_over_tasks_are_students(level):
    """No spread, no width; of tasks that weigh alike, scipy's interval; of groups, wider where tasks weigh unlike."""
    row = averages(ledger(lambda m, t, s: 0.5)).loc["a"]
    assert row["mean over tasks low"] == row["mean over tasks high"] == 0.5
    table = ledger(noisy)
    row = averages(table, level=level).loc["a"]
    by_task = table[table["method"] == "a"].groupby("task")["test_accuracy"].mean()
    theirs = stats.ttest_1samp(by_task, 0).confidence_interval(level)
    assert (row["mean over tasks low"], row["mean over tasks high"]) == pytest.approx((theirs.low, theirs.high))
    over_tasks, over_groups = (np.ptp(row.filter(like=f"over {of} ")) for of in ("tasks", "groups"))
    assert over_groups / over_tasks == pytest.approx(np.sqrt(4 * (2 / 36 + 2 / 9)))  # natural has two of four


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("tasks", [["dtd", "cifar", "eurosat", "dsprites_loc"], ["cifar", "eurosat", "dsprites_loc"]])
def test_intervals_over_tasks_cover_the_truth(tasks, seeds):
    """A thousand comparisons whose tasks and seeds are drawn: 95 % of the intervals hold the mean, 0."""
    rng, methods = np.random.default_rng(0), [f"m{i}" for i in range(1000)]
    of_task = rng.normal(0, 2, (1000, len(tasks), 1)) + rng.normal(0, 1, (1000, len(tasks), seeds))
    runs = pd.MultiIndex.from_product([methods, tasks, range(seeds)], names=["method", "task", "seed"]).to_frame(False)
    found = averages(runs.assign(group=runs["task"].map(GROUPS), synthetic=False, test_accuracy=of_task.ravel()))
    for name in ("mean over tasks", "mean over groups"):
        assert 0.93 <= ((found[f"{name} low"] <= 0) & (found[f"{name} high"] >= 0)).mean() <= 0.97


@pytest.mark.parametrize("tasks", [["cifar"], ["cifar", "eurosat"]])
def test_one_or_two_tasks_have_no_interval_over_tasks(tasks):
    runs = ledger(lambda m, t, s: 0.6 + s / 10 + list(GROUPS).index(t) / 100, methods=["lora"], tasks=tasks)
    assert averages(runs).filter(regex="low|high").isna().all(axis=None)
    assert comparison_table(runs, by="method").loc["lora", "mean over tasks"].startswith("7")
    assert "(" not in comparison_table(runs, by="method").loc["lora", "mean over tasks"]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_paired_differences(level):
    table = ledger(noisy)
    per_task, over = paired(table, "a", level=level)
    assert set(per_task["method"]) == {"b", "c"} and len(per_task) == 8
    pick = lambda m: table[(table["method"] == m) & (table["task"] == "dtd")]["test_accuracy"].to_numpy()  # noqa: E731
    row = per_task[(per_task["method"] == "b") & (per_task["task"] == "dtd")].iloc[0]
    expected = stats.ttest_rel(pick("b"), pick("a")).confidence_interval(level)
    assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    means = table.groupby(["method", "task"])["test_accuracy"].mean()
    assert over.loc["c", "p"] == stats.wilcoxon(means["c"] - means["a"]).pvalue
    assert over.loc["b", "difference"] == pytest.approx((means["b"] - means["a"]).mean())
    expected = stats.ttest_1samp(means["b"] - means["a"], 0).confidence_interval(level)
    assert (over.loc["b", "low"], over.loc["b", "high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    shifted = table.assign(test_accuracy=table["test_accuracy"] + 0.1 * table["seed"])  # what a pair shares goes away
    in_disorder = shifted.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(paired(in_disorder, "a", level=level)[1], over)
    with pytest.raises(PeftlabError, match="no baseline 'd'"):
        paired(table, "d")


def test_a_copy_of_the_baseline_is_no_discovery():
    _, over = paired(ledger(lambda m, t, s: 0.5), "a")
    assert over["p"].eq(1).all() and over["p (Holm)"].eq(1).all()


def test_holm_by_hand():
    """0.01, 0.04, 0.03, 0.005 of four: 4 x 0.005, 3 x 0.01, 2 x 0.03, then not less than that."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])


def test_ranks_and_critical_differences():
    """Demsar 2006, table 5: q at 0.05 is 2.343 for three methods, 2.728 for five, 3.164 for ten; at 0.1, 2.052."""
    table = ledger(lambda m, t, s: {"a": 0.1, "b": 0.3, "c": 0.3}[m])
    found, p, critical = ranks(table)
    assert found.to_dict() == {"b": 1.5, "c": 1.5, "a": 3.0} and list(found.index) == ["b", "c", "a"] and p < 0.05
    for k, q, level in ((3, 2.343, 0.95), (5, 2.728, 0.95), (10, 3.164, 0.95), (3, 2.052, 0.9)):
        names = "abcdefghij"[:k]
        table = ledger(lambda m, t, s: (31 * ord(m) + 17 * ord(t[0]) + s) % 97 / 97, methods=names)
        assert ranks(table, level=level)[2] == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 4)), rel=1e-3)
    with pytest.raises(PeftlabError, match="three methods or more, not 2"):
        ranks(ledger(noisy, methods="ab"))


def test_intervals_agree_with_textbook_values():
    low, high = accuracy_interval(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    found = accuracy_interval(0.29, 100, level=0.8)  # 0.29 x 100 is a little less than 29 in floating point
    assert found == pytest.approx(stats.binomtest(29, 100).proportion_ci(0.8, method="wilson"))
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(4.3027 / 3**0.5, abs=1e-4) == mean - low
    assert all(value != value for value in mean_interval([1.0])[1:])  # nan: one value has no interval
