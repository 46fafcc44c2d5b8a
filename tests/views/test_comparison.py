"""Pictures of comparisons show the numbers that the statistics give."""

import numpy as np
import pandas as pd
import pytest

from peftlab.analysis.comparison import on_front
from peftlab.common.errors import PeftlabError
from peftlab.results.statistics import averages, paired, ranks
from peftlab.views import comparison
from peftlab.views.style import FREE

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


def test_heatmap_shows_points_above_the_baseline_and_greys_the_noise(ledger):
    ledger = ledger.assign(test_images=200)
    ax = comparison.heatmap(ledger)
    by_group = sorted(GROUPS, key=lambda task: (GROUPS[task], task))
    assert [t.get_text() for t in ax.get_xticklabels()] == [f"{task} (synthetic)" for task in by_group]
    means = ledger.groupby("method")["test_accuracy"].mean().drop("linear").sort_values(ascending=False)
    assert [t.get_text() for t in ax.get_yticklabels()] == [*means.index, "linear (%)"]
    table = ledger.pivot_table(index="method", columns="task", values="test_accuracy")[by_group]
    p, base = table.loc[means.index], table.loc["linear"]
    points = 100 * (p - base)
    assert [t.get_text() for t in ax.texts[: points.size]] == [f"{x:+.0f}" for x in points.to_numpy().ravel()]
    noise = points.abs() <= 196 * ((p * (1 - p) + base * (1 - base)) / 200) ** 0.5
    shown = ax.images[0]
    assert (np.ma.getmaskarray(np.ma.masked_invalid(shown.get_array())) == noise.to_numpy()).all()
    assert 0 < noise.to_numpy().sum() < noise.size
    assert shown.norm.vmin == -shown.norm.vmax and f"{noise.to_numpy().sum()} of 12 differences" in ax.get_title()


def test_a_difference_without_an_interval_is_grey(ledger):
    """Of two tasks nothing can be told, however far the means lie apart."""
    ax = comparison.differences(ledger[ledger["task"].isin([*GROUPS][:2])], "lora")
    assert {line.get_color() for line in ax.lines if line.get_markersize() == 7} == {FREE}
    assert ax.get_title() == "0 of 3 methods are behind lora beyond their interval, 0 ahead"


def test_differences_are_the_paired_ones(ledger):
    ax, (per_task, over) = comparison.differences(ledger, "lora"), paired(ledger, "lora")
    over = over.sort_values("difference")
    assert [t.get_text() for t in ax.get_yticklabels()] == list(over.index) and "lora" not in over.index
    drawn = [line for line in ax.lines if line.get_markersize() == 7]
    assert [line.get_xdata()[0] for line in drawn] == pytest.approx(list(100 * over["difference"]))
    open_ones = [low <= 0 <= high for low, high in zip(over["low"], over["high"], strict=True)]
    assert [line.get_color() == FREE for line in drawn] == open_ones
    dots = [x for line in ax.lines if line.get_markersize() == 4 for x in line.get_xdata()]
    assert sorted(dots) == pytest.approx(sorted(100 * per_task["difference"]))
    behind, ahead = (over["high"] < 0).sum(), (over["low"] > 0).sum()
    assert f"{behind} of 3 methods are behind lora beyond their interval, {ahead} ahead" in ax.get_title()


def test_front_names_itself_alone(ledger):
    cost = pd.Series({"linear": 0, "lora": 30_000, "norm": 5_000, "ssf": 26_000})
    ax = comparison.front(ledger, cost, "parameters")
    means = 100 * averages(ledger)["mean over tasks"]
    best = set(np.array(means.index)[on_front(cost[means.index], means)])
    drawn = {t.get_text().split()[0]: t.xy for t in ax.texts}
    assert set(drawn) == best and 0 < len(best) < len(METHODS)
    lowest = means.max() - comparison.SHOWN
    assert all(drawn[name] == pytest.approx((cost[name], max(means[name], lowest))) for name in best)
    assert "linear 50 %" in {t.get_text().strip() for t in ax.texts}  # below the axis, so its number is said
    assert ax.get_xlabel() == "parameters (log)" and f"{len(best)} of 4 are on the front" in ax.get_title()


def test_lines_of_a_front_reach_from_the_lowest_to_the_highest_seed(ledger):
    ax = comparison.front(ledger, pd.Series([1, 2, 3, 4], METHODS), "GFLOPs")
    seeds = 100 * ledger.groupby(["method", "seed"])["test_accuracy"].mean().unstack()
    lowest = seeds.mean(axis=1).max() - comparison.SHOWN
    drawn = [list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1]
    ends = seeds.agg(["min", "max"], axis=1).clip(lower=lowest)
    assert drawn == [pytest.approx(list(each)) for each in ends.to_numpy()]


def test_names_of_a_crowded_front_do_not_overlap(ledger):
    accuracy = 0.5 + 0.001 * ledger["method"].map(METHODS.index)
    ax = comparison.front(ledger.assign(test_accuracy=accuracy), pd.Series([1, 2, 3, 4], METHODS), "GFLOPs")
    heights = [t.get_position()[1] for t in ax.texts]
    assert len(heights) == 4 and (np.diff(heights) >= comparison.SHOWN / 14 - 1e-9).all()
    assert heights[-1] < ax.get_ylim()[1]


def test_critical_difference_greys_what_is_not_behind_the_best(ledger):
    ax, (table, _, critical) = comparison.critical_difference(ledger), ranks(ledger)
    texts = [t.get_text() for t in ax.texts]
    assert texts == [*(f"{rank:.1f}" for rank in table), f"critical difference {critical:.1f}"]
    (band,) = ax.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((table.iloc[0], critical))
    behind = [rank > table.iloc[0] + critical for rank in table]
    assert any(behind) and [line.get_color() != FREE for line in ax.lines] == behind
    assert ax.get_title().startswith(f"{sum(behind)} of 3 methods rank significantly behind")


def test_heatmap_asks_for_complete_ledgers(ledger):
    """The mean over fewer tasks is no place in an order."""
    holes = ledger.query("method != 'lora' or task != 'dtd'").assign(test_images=200)
    with pytest.raises(PeftlabError, match="lora on dtd, seed 0: 0 runs instead of one"):
        comparison.heatmap(holes)
