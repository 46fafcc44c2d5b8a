"""Pictures of what evidence is worth show the numbers of their analyses, and their titles say them."""

import numpy as np
import pandas as pd
import pytest

from peftlab.analysis.guide import GUIDES
from peftlab.analysis.power import cells_needed, noise, smallest_difference
from peftlab.views import evidence
from peftlab.views.style import PALETTE, method_style


@pytest.fixture
def ledger():
    rng = np.random.default_rng(0)
    rows = [(m, t, s, rng.normal(0.5, 0.02)) for m in "abc" for t in ("dtd", "pets", "cifar") for s in (0, 1)]
    return pd.DataFrame(rows, columns=["label", "task", "seed", "test_accuracy"]).assign(synthetic=False)


def test_smallest_differences_have_a_line_a_number_of_tasks_and_mark_this_table(ledger):
    ax = evidence.smallest_differences(ledger)
    of_seeds, of_tasks = noise(ledger)
    *lines, spot, one = ax.lines
    assert [t.get_text() for t in ax.texts] == ["1 task", "3 tasks", "4 tasks", "19 tasks"]
    for line, n in zip(lines, (1, 3, 4, 19), strict=True):
        seeds = list(range(2, 21))
        assert list(line.get_xdata()) == seeds
        assert list(line.get_ydata()) == pytest.approx([smallest_difference(of_seeds, n * s, tasks=n) for s in seeds])
    here = smallest_difference(of_seeds, 6, tasks=3)
    assert (*spot.get_xdata(), *spot.get_ydata()) == pytest.approx((2, here)) and set(one.get_ydata()) == {1}
    assert ax.get_xscale() == ax.get_yscale() == "log"
    needed = cells_needed(of_seeds, 1, tasks=3) // 3
    anew = smallest_difference((of_tasks**2 + of_seeds**2 / 2) ** 0.5, 3)
    assert f"from {here:.1f} points on; 1 point takes {needed} seeds" in ax.get_title()
    assert f"for other tasks of the kind, {anew:.1f} points" in ax.get_title()


def test_smallest_differences_of_some_pairs(ledger):
    ax = evidence.smallest_differences(ledger, [("a", "b")])
    assert f"SD {noise(ledger, [('a', 'b')])[0]:.1f} over seeds" in ax.get_title()


def test_disagreement_marks_the_control_among_the_others():
    names = ["lora", "norm", "ssf", "linear"]
    shares = pd.DataFrame(0.3, index=names, columns=names)
    shares.loc["lora", "norm"] = shares.loc["norm", "lora"] = 0.14
    for name, control in zip(names, (0.1, 0.12, 0.2, 0.4), strict=True):
        shares.loc[name, name] = control
    ax = evidence.disagreement(shares)
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    marks = [line for line in ax.lines if line.get_markersize() == 8]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([10, 12, 20, 40])
    assert [(line.get_color(), line.get_marker()) for line in marks] == [method_style(name) for name in names]
    first, second, *_ = [line for line in ax.lines if line.get_markersize() == 5]
    assert list(first.get_xdata()) == list(second.get_xdata()) == pytest.approx([14, 30, 30])
    assert "differ on 30.0 % of images (grey dots),\ntwo seeds of one method on 16.0 %" in ax.get_title()


def test_votes_show_every_gain_and_the_means_of_their_kinds():
    methods = pd.DataFrame({"over mean": [1.0, 2.0, 1.5], "over best": [-0.5, 0.5, 0.3]})
    seeds = pd.DataFrame({"over mean": [2.0], "over best": [1.0]})
    ax = evidence.votes({"methods": methods, "seeds": seeds})
    assert [t.get_text() for t in ax.get_yticklabels()] == ["methods", "seeds"]
    marks = [list(line.get_xdata()) for line in ax.lines if line.get_marker() in ("o", "D")]
    assert marks == [[1, 2, 1.5], [-0.5, 0.5, 0.3], [2], [1]]
    means = [line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 2.5]
    assert means == pytest.approx([1.5, 0.1, 2, 1])
    assert "methods: +1.5; seeds: +2.0" in ax.get_title()


def test_guides_show_every_regret_beside_the_error_of_val200():
    own, mean, voted = GUIDES
    rows = [("dtd", own, 0.0), ("dtd", mean, 1.0), ("dtd", voted, 3.0), ("pets", mean, 0.0), ("pets", voted, -2.0)]
    regrets = pd.DataFrame(rows, columns=["task", "guide", "regret"])
    regrets = regrets.assign(label="lora", method="lora", seed=0, error=2.5, synthetic=regrets["task"] == "pets")
    ax = evidence.guides(regrets)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["dtd", "pets (synthetic)"]
    dots = [line for line in ax.lines if line.get_marker() in "o^D"]
    assert [(line.get_marker(), line.get_xdata()[0]) for line in dots] == list(
        zip("o^D^D", (0, 1, 3, 0, -2), strict=True)
    )
    assert [line.get_color() for line in dots] == [PALETTE["o^D".index(line.get_marker())] for line in dots]
    assert [round(line.get_ydata()[0]) for line in dots] == [0, 0, 0, 1, 1]
    assert [bar.get_width() for bar in ax.patches] == [2.5, 2.5]
    assert [t.get_text() for t in ax.get_legend().get_texts()][:3] == list(GUIDES)
    assert "chose loses 0.5 points, a vote of all rates 0.5 (means of 2)" in ax.get_title()
    assert "another than the best in 0 of 1 cases" in ax.get_title()
