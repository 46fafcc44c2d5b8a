"""The logit lens draws own heads, trained ones and random weights, and its titles hold two of them together."""

import numpy as np
import pandas as pd
import pytest

import peftlab.views as views
from peftlab.views.style import CONTROL, method_color

LINES = [
    ("lora", "own head", (0.1, 0.2, 0.9)),
    ("lora", "head trained for the block", (0.3, 0.6, 0.8)),
    ("norm (stage 1)", "own head", (0.1, 0.1, 0.7)),
    ("norm (stage 1)", "head trained for the block", (0.3, 0.5, 0.6)),
    ("random weights", "random weights", (0.2, 0.2, 0.2)),
]


def lens_rows(task):
    rows = [
        {"task": task, "source": source, "reading": reading, "block": block, "accuracy": value}
        for source, reading, values in LINES
        for block, value in enumerate(values, 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(low=table["accuracy"] - 0.1, high=table["accuracy"] + 0.05)


def test_lines_bands_and_titles():
    figure = views.logit_lens.by_block(pd.concat([lens_rows("counting"), lens_rows("pets")]))
    assert len(figure.axes) == 2
    drawn = {line.get_label(): line for line in figure.axes[1].lines}
    assert list(drawn) == [
        "lora: own head",
        "norm (stage 1): own head",
        "lora: head trained for the block",
        "random weights: head trained for the block",
    ]
    assert list(drawn["norm (stage 1): own head"].get_ydata()) == pytest.approx([10, 10, 70])
    assert drawn["lora: own head"].get_color() == method_color("lora")
    assert drawn["lora: head trained for the block"].get_color() == CONTROL
    band = figure.axes[1].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0, 95))
    title = figure.axes[1].get_title()
    assert title == "pets: LoRA's head reads 20 % after\nblock 2, 90 % after 3; one trained for 2: 60 %"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(drawn)


def test_recorded_rows_are_whole():
    from peftlab.results.published import read_results

    table = read_results("logit_lens")
    lines = table.groupby(["task", "source", "reading"])
    assert lines["block"].apply(list).map(lambda blocks: blocks == list(range(1, 13))).all()
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()
    own = table[table["reading"] == "own head"]
    assert own.loc[own["block"] == 12, ["agreement", "settled"]].eq(1).all(axis=None)
    assert np.isfinite(own.select_dtypes("number")).all(axis=None)
    assert table.groupby("task")["reading"].nunique().eq(3).all()
