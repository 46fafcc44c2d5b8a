"""Pictures of what the protocol does: ranks and gains are those of the tables."""

import numpy as np
import pandas as pd
import pytest

from peftlab.results.selection import HABITS
from peftlab.views import comparison, protocols


def ledger(scores):
    return pd.DataFrame(
        [
            {"label": m, "task": t, "group": "natural", "seed": s, "synthetic": True, "test_accuracy": a + s / 100}
            for m, a in scores.items()
            for t in ("dtd", "cifar")
            for s in range(2)
        ]
    )


TABLES = {
    "ours": ledger({"lora": 0.7, "norm": 0.6, "ssf": 0.5}),
    "theirs": ledger({"lora": 0.6, "norm": 0.7, "ssf": 0.5}),
}


def test_rank_shifts_show_ranks_and_their_agreement():
    ax = protocols.rank_shifts(TABLES, "label")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["ours", "theirs"]
    assert ax.get_title() == "τ = 0.33; lora has ranks 1 to 2"  # 2 of 3 pairs agree
    assert {line.get_linewidth() for line in ax.lines if line.get_ydata()[0] == 3} == {0.8}  # ssf does not move
    assert {tuple(line.get_ydata()) for line in ax.lines} == {(1, 2), (2, 1), (3, 3)}
    assert {"lora  1", "2  lora", "norm  2", "1  norm"} <= {t.get_text() for t in ax.texts}


def test_gains_by_task_and_habit():
    rng = np.random.default_rng(0)
    rows = [(t, h, s, rng.random()) for t in ("dtd", "pets") for h in HABITS for s in range(3)]
    gains = pd.DataFrame(rows, columns=["task", "habit", "seed", "gain"]).assign(synthetic=True)
    ax = protocols.selection_gain(gains)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["dtd (synthetic)", "pets (synthetic)"]
    means = gains[gains["habit"] != HABITS[0]].groupby(["task", "habit"])["gain"].mean()
    drawn = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert sorted(drawn) == pytest.approx(sorted(means))
    habit = means.groupby("habit").max().idxmax()
    assert ax.get_title().startswith(f"{habit} chosen on test: up to {means.max():+.1f} points")


def test_published_and_ours_keep_to_their_sides():
    ours = pd.DataFrame(
        {"mean over tasks": [0.4, 0.5, 0.3], "mean over tasks low": 0.2, "mean over tasks high": 0.6},
        index=["lora", "norm", "mine"],
    )
    published = pd.DataFrame(
        {
            "method": ["lora", "norm", "lora", "other"],
            "source": ["A", "A", "B", "A"],
            "mean over tasks": [72, 70, 74, 60],
        }
    )
    figure = comparison.against_published(ours, published)
    theirs, measured = figure.axes
    assert [t.get_text() for t in theirs.get_yticklabels()] == ["lora", "norm"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"A", "B"}
    points = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in theirs.lines}
    assert points == {"A": ([72, 70], [0, 1]), "B": ([74], [0])}
    assert len({line.get_color() for line in measured.lines if line.get_marker() == "o"}) == 1  # colours are sources
    assert figure.get_suptitle() == "lora is printed as 72.0 and as 74.0: the source moves it by 2.0"
    assert [line.get_xdata()[0] for line in measured.lines if len(line.get_xdata()) == 1] == [40, 50]
