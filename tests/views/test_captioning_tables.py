"""Pictures of captioning's measurements: means, intervals and titles are those of their tables."""

import pandas as pd
import pytest

from peftlab.views import captioning_tables as tables

COLUMNS = ["label", "test_perplexity", "parameters"]


def test_losses_behind_tokens_are_means_with_intervals():
    losses = pd.DataFrame({"nothing": [1.0, 1.0], "words": [2.0, 4.0]})
    ax = tables.losses_behind(losses)
    assert [bar.get_width() for bar in ax.patches] == [1.0, 3.0]
    assert [text.get_text() for text in ax.texts] == ["1.00 ± 0.00", "3.00 ± 1.96"]
    assert ax.get_title().endswith("3.0 times behind words")
    assert "raise" not in tables.losses_behind(losses / [1, 10]).get_title()  # 0.3 times


def test_perplexities_order_ways_and_count_those_that_look():
    values = {"all weights, 800 scenes": 1.5, "lora, by domain": 2.0, "connector only": 5.0}
    rows = [(label, value + shift, 7) for label, value in values.items() for shift in (-0.01, 0, 0.01)]
    ax = tables.perplexities(pd.DataFrame(rows, columns=COLUMNS), 2.0, 1.2)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["all weights (7)", "lora, by domain (7)", "connector only (7)"]
    means = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert means == pytest.approx([1.5, 2.0, 5.0])
    for blind in (2.0, 2.005):  # the second interval contains both, and its mean is below the latter
        title = tables.perplexities(pd.DataFrame(rows, columns=COLUMNS), blind, 1.2).get_title()
        assert title == f"1 of 3 ways are below the image-blind {blind:.2f} with their whole interval"


def test_own_object_compares_the_two_solids():
    rows = [(s, b, 1.0 + 0.1 * s, 1.0) for s in (0, 1, 2) for b in (1, 2)]
    table = pd.DataFrame(rows, columns=["scene", "block", "own", "other"])
    ax = tables.own_object(table)
    first, _ = ax.containers[0][2][0].get_segments()
    assert first[:, 1].tolist() == pytest.approx([1.1 - 1.96 * 0.1 / 3**0.5, 1.1 + 1.96 * 0.1 / 3**0.5], abs=1e-3)
    assert "no more than to the other: +0.10" in ax.get_title()
    assert "name more than to the other: +1.10" in tables.own_object(table.assign(own=table["own"] + 1)).get_title()


def test_by_data_says_who_is_ahead_with_equal_steps_and_when_each_is_stopped():
    values = {
        "all weights": {"50 scenes": 4.0, "800 scenes": 1.5, "50 scenes, stopped": 1.8, "800 scenes, stopped": 1.4},
        "lora, by domain": {
            "50 scenes": 2.0,
            "800 scenes": 1.8,
            "50 scenes, stopped": 1.9,
            "800 scenes, stopped": 1.7,
        },
    }
    rows = [
        {"label": f"{way}, {what}", "train_images": int(what.split()[0]), "test_perplexity": value + shift}
        for way, by_what in values.items()
        for what, value in by_what.items()
        for shift in (-0.1, 0.1)
    ]
    rows.append({"label": "lora, by domain, attention alone", "train_images": 800, "test_perplexity": 9.0})
    left, right = tables.by_data(pd.DataFrame(rows), {"all": "all weights", "LoRA": "lora, by domain"}).axes
    assert left.get_title() == "As many steps for everybody; the lower mean:\nLoRA with 50; all with 800 scenes"
    assert right.get_title() == "Each stopped by val; the lower mean:\nall with 50, 800 scenes"
    means = [line.get_ydata().tolist() for line in right.lines if line.get_label() in ("all", "LoRA")]
    assert means == [pytest.approx([1.8, 1.4]), pytest.approx([1.9, 1.7])]


def test_own_and_other_say_how_much_the_photograph_is_worth():
    rows = [("connector only", 50.0, 52.0, 0.01), ("lora", 10.0, 10.5, 0.3), ("lora", 12.0, 12.6, 0.5)]
    measured = pd.DataFrame(rows, columns=["label", "test_perplexity", "other_perplexity", "CIDEr"])
    ax = tables.own_and_other(measured)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["connector only", "lora"]
    own, other, *seeds = [line.get_xdata().tolist() for line in ax.lines]
    assert (own, other) == ([50.0, 11.0], [52.0, pytest.approx(11.55)])
    assert seeds == [[50.0, 10.0, 12.0], [52.0, 10.5, 12.6]] and ax.lines[2].get_ydata().tolist() == [0, 1, 1]
    assert "by 4 % (connector only)\nto 5 % (lora)" in ax.get_title() and [t.get_text() for t in ax.texts] == [
        "0.01",
        "0.40",
        "CIDEr",
    ]
