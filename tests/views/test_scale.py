"""Pictures of methods on several backbones show what the analysis gives, in the methods' styles."""

import numpy as np
import pandas as pd
import pytest

from peftlab.analysis.scale import OVERALL, by_backbone, moves, on_every_backbone
from peftlab.views import scale
from peftlab.views.style import PALETTE, method_style

BACKBONES = {"mini": (64, 2_700_000), "small": (112, 21_600_000), "base.tag": (224, 86_000_000)}
METHODS = {"linear": 0.0, "full": 0.07, "gist lora": 0.14, "lora": 0.142}  # the last two nearly alike


@pytest.fixture
def shared():
    rows = [
        (name, side, size, label, task, 0.2 + 0.1 * b + gain * (1 - 0.2 * t))
        for b, (name, (side, size)) in enumerate(BACKBONES.items())
        for label, gain in METHODS.items()
        for t, task in enumerate(("cifar", "eurosat"))
    ]
    table = pd.DataFrame(rows, columns=["backbone", "img_size", "parameters", "label", "task", "test_accuracy"])
    return on_every_backbone(
        table.assign(method=table["label"], seed=0, synthetic=True, train_split="all", test_images=1000)
    )


def test_accuracies_have_a_line_a_method_through_all_backbones(shared):
    ax, table = scale.accuracies(shared), by_backbone(shared)
    assert ax.get_xscale() == "log" and len(ax.lines) == len(METHODS)
    for text, line, bars in zip(ax.texts, ax.lines, ax.collections, strict=True):
        rows = table[table["label"] == text.get_text()]
        assert list(line.get_ydata()) == pytest.approx(list(100 * rows["mean"]))
        assert list(line.get_xdata()) == pytest.approx(list(rows["size"]), rel=0.1)
        assert (line.get_color(), line.get_marker()) == method_style(text.get_text())
        ends = [tuple(segment[:, 1]) for segment in bars.get_segments()]
        assert ends == [pytest.approx(pair) for pair in zip(100 * rows["low"], 100 * rows["high"], strict=True)]
    assert [text.get_text() for text in ax.texts] == list(METHODS)  # from below
    heights = [text.get_position()[1] for text in ax.texts]
    marks = [line.get_ydata()[-1] for line in ax.lines]
    assert min(np.diff(heights)) > 2 > min(np.diff(marks))  # names keep a line from one another
    shown = ["mini\n64 px, 2.7 M", "small\n112 px, 21.6 M", "base\n.tag\n224 px, 86.0 M"]
    assert [t.get_text() for t in ax.get_xticklabels()] == shown
    overall = moves(shared).loc[OVERALL]
    assert f"Another backbone moves the mean by {overall['backbone']:.0f} points" in ax.get_title()
    assert f"another method by {overall['method']:.0f}" in ax.get_title()
    assert "mean over 2 tasks" in ax.get_ylabel()


def test_backbones_of_one_size_share_a_place_on_the_axis(shared):
    alike = shared.assign(size=shared["size"].replace(2_700_000, 21_600_000))
    names = [t.get_text() for t in scale.accuracies(alike).get_xticklabels()]
    assert len(names) == 2 and "mini" in names[0] and "small" in names[0] and "base" in names[1]


def test_task_moves_show_both_moves_of_every_task(shared):
    ax, table = scale.task_moves(shared), moves(shared)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["eurosat (synthetic)", "cifar (synthetic)"]
    backbone, method = ax.lines
    assert list(backbone.get_xdata()) == pytest.approx(list(table.loc[["eurosat", "cifar"], "backbone"]))
    assert list(method.get_xdata()) == pytest.approx(list(table.loc[["eurosat", "cifar"], "method"]))
    assert (backbone.get_color(), method.get_color()) == (PALETTE[0], PALETTE[1])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["another backbone", "another method"]
    assert "moves 2 of 2 tasks further" in ax.get_title()


def test_task_moves_begin_where_the_backbone_is_ahead_by_most(shared):
    flat = shared.assign(test_accuracy=shared["test_accuracy"].where(shared["task"] == "eurosat", 0.5))
    # on cifar nothing moves anything, so it comes last and is not counted
    ax = scale.task_moves(flat)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["eurosat (synthetic)", "cifar (synthetic)"]
    assert "moves 1 of 2 tasks further" in ax.get_title()
