"""A task looked at: names fit over their images; bars are shares, the line what is to be expected."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from peftlab.views.task_samples import class_balance, samples


def test_bars_are_shares_beside_what_is_expected(tiny_task):
    ax = class_balance(tiny_task, splits=("test",), expected=np.array([0.5, 0.25, 0.25]))
    labels = tiny_task.labels("test")
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(list(100 * np.bincount(labels) / len(labels)))
    assert list(ax.lines[0].get_ydata()) == [50, 25, 25, 25]
    assert ax.get_title() == f"{tiny_task.title}: the largest class should have 2.0 times the smallest"


def test_long_names_over_images_stay_beside_one_another(tiny_task):
    names = ("PermanentCropLandOfOldAge", "antidisestablishmentarian", "staffordshire_bull_terriers")
    figure = samples(replace(tiny_task, classes=names), columns=8, rows=1)
    figure.canvas.draw()
    titles = [ax.title.get_window_extent() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 8 and not any(one.overlaps(other) for one, other in combinations(titles, 2))
