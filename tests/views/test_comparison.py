"""Pictures of comparisons show the numbers that the statistics give."""

import numpy as np
import pandas as pd
import pytest

from peftlab.analysis.comparison import on_front
from peftlab.results.statistics import averages, paired, ranks
from peftlab.views import comparison

GROUPS = {"dtd": "natural", "eurosat": "specialized", "dsprites_loc": "structured", "clevr_count": "structured"}
METHODS = ("linear", "lora", "norm", "ssf")


@pytest.fixture
def ledger():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "method": m,
                "task": t,
                "group": g,
                "seed": s,
                "synthetic": True,
                "test_accuracy": 0.5 + 0.05 * METHODS.index(m) + 0.02 * rng.standard_normal(),
            }
            for m in METHODS
            for t, g in GROUPS.items()
            for s in range(3)
        ]
    )


def test_heatmap_prints_means_and_tags_synthetic_tasks(ledger):
    ax = comparison.heatmap(ledger)
    by_group = sorted(GROUPS, key=lambda task: (GROUPS[task], task))
    assert [t.get_text() for t in ax.get_xticklabels()] == [f"{task} (synthetic)" for task in by_group]
    rows = [t.get_text() for t in ax.get_yticklabels()]
    means = ledger.groupby("method")["test_accuracy"].mean()
    assert rows == list(means.sort_values(ascending=False).index)
    first = ledger[(ledger["method"] == rows[0]) & (ledger["task"] == by_group[0])]["test_accuracy"].mean()
    assert ax.texts[0].get_text() == f"{100 * first:.1f}"


def test_strips_show_every_seed(ledger):
    ax = comparison.strips(ledger, "eurosat")
    shown = sorted(x for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata())
    assert shown == pytest.approx(sorted(100 * ledger[ledger["task"] == "eurosat"]["test_accuracy"]))
    assert ax.get_title() == "eurosat (synthetic)"
    assert len(comparison.strips(ledger[ledger["seed"] == 0], "eurosat").lines) == 2 * len(METHODS)  # no intervals


def test_differences_are_the_paired_ones(ledger):
    ax, (per_task, over) = comparison.differences(ledger, "lora"), paired(ledger, "lora")
    over = over.sort_values("difference")
    assert [t.get_text() for t in ax.get_yticklabels()] == list(over.index) and "lora" not in over.index
    drawn = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert drawn == pytest.approx(list(100 * over["difference"]))
    dots = [x for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata()]
    assert sorted(dots) == pytest.approx(sorted(100 * per_task["difference"]))


def test_front_is_drawn_from_averages(ledger):
    cost = pd.Series({"linear": 0, "lora": 30_000, "norm": 5_000, "ssf": 26_000})
    ax = comparison.front(ledger, cost, "parameters")
    means = 100 * averages(ledger)["mean over tasks"]
    drawn = {t.get_text(): t.xy for t in ax.texts}
    assert [t.get_text() for t in ax.texts] == list(means.sort_values().index)  # from below
    assert all(drawn[name] == pytest.approx((cost[name], means[name])) for name in METHODS)
    bold = {t.get_text() for t in ax.texts if t.get_weight() == "bold"}
    assert bold == set(np.array(means.index)[on_front(cost[means.index], means)])


def test_critical_difference_names_ranks(ledger):
    ax, (table, _, critical) = comparison.critical_difference(ledger), ranks(ledger)
    texts = " ".join(t.get_text() for t in ax.texts)
    assert all(f"{rank:.2f}" in texts for rank in table) and f"critical difference {critical:.2f}" in texts
