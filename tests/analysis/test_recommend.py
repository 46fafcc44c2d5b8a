"""Which method to take: the text says what the numbers allow, and no more."""

import numpy as np
import pandas as pd
import pytest
import torch

from peftlab.analysis.recommend import advise, caption, costs_table, right_by_image, runs_table
from peftlab.results.images import against_best
from peftlab.results.predictions import write_predictions

COST = {"linear": 1.0, "norm": 2.0, "lora": 3.0, "gist": 3.1}
MERGE = ["linear", "norm", "lora"]


def right(share, images=400, seeds=2):
    """Right on the first images."""
    return np.tile(np.arange(images) < share * images, (seeds, 1))


def advice(shares, mergeable=MERGE, **options):
    found = {name: right(share, **options) for name, share in shares.items()}
    seeds, images = next(iter(found.values())).shape
    return advise(against_best(found), COST, images, seeds, mergeable)


def test_the_cheapest_of_those_that_are_not_behind_is_taken():
    method, text = advice({"linear": 0.7, "norm": 0.895, "lora": 0.9})
    assert method == "norm"
    assert text.startswith("**Take `norm`.** The best mean has `lora`: 90.0 % of the test images right (95 % interval")
    assert "**not significantly different** (-0.5 points" in text and "0.67 times" in text
    assert "Significantly behind `lora`: `linear` (-20.0 points" in text
    assert "until then `lora` is the careful choice" in text and "400 test images and 2 seeds" in text


def test_a_clear_winner_needs_no_excuse():
    method, text = advice({"linear": 0.5, "lora": 0.9})
    assert method == "lora" and "not significantly" not in text.lower() and "does not mean equal" not in text


def test_the_limits_are_those_of_the_widest_interval():
    """Of the methods that are not behind: 5 points for ssf, 2 for norm."""
    below = {"below": [0, 0.01, 0.02, 0.4], "below low": [0, -0.01, -0.03, 0.2], "below high": [0, 0.03, 0.07, 0.6]}
    table = pd.DataFrame(below, index=["lora", "norm", "ssf", "linear"])
    table = table.assign(accuracy=0.9 - table["below"], low=0.8, high=0.95, behind=table["below low"] > 0)
    text = advise(table, dict.fromkeys(table.index, 1.0), 400, 2, list(table.index)).text
    assert "cannot show differences below about 5.0 points" in text


def test_one_seed_asks_for_another():
    assert "and a second seed, will tell" in advice({"norm": 0.9, "lora": 0.9}, seeds=1).text


def test_what_cannot_be_merged_is_taken_only_where_nothing_else_is_as_good():
    found = {"gist": right(0.91), "lora": right(0.905)}
    assert advise(against_best(found), {"gist": 0.5, "lora": 3.0}, 400, 2, ["lora"]).method == "lora"
    assert advice({"gist": 0.95, "linear": 0.6}).method == "gist"


def test_one_method_alone():
    method, text = advice({"lora": 0.9})
    assert method == "lora" and text.count("\n") == 0
    assert text.startswith("**Only `lora` was trained**, so it is compared with nothing: 90.0 % of the test images")


def test_the_caption_counts_who_is_behind():
    table = against_best({name: right(share) for name, share in {"linear": 0.5, "norm": 0.9, "lora": 0.9}.items()})
    assert caption(table, 400).endswith("its difference to the best: 1 of 2 others is significantly behind norm.")
    assert caption(table.head(2), 400).endswith("0 of 1 other is significantly behind norm.")
    assert caption(table.head(1), 400) == "Test accuracy of norm on 400 images."


def test_predictions_are_read_from_the_runs(tmp_path):
    rows = []
    for seed, said in ((1, [0, 1, 1]), (0, [0, 0, 1])):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_predictions(folder, "test", torch.tensor(said), torch.tensor([0, 1, 1]))
        rows.append({"method": "lora", "seed": seed, "folder": str(folder)})
    assert right_by_image(pd.DataFrame(rows))["lora"].tolist() == [[True, False, True], [True, True, True]]


def test_tables_have_words_and_units():
    runs = pd.DataFrame({"method": ["lora", "lora"], "seed": [1, 0], "test_accuracy": [0.92, 0.9]})
    runs = runs.assign(train_accuracy=1.0, lr=0.00166667, epochs=10, train_images=200, seconds=[30.0, 31.0])
    row = runs_table(runs).loc["lora"]
    assert row.tolist() == ["90.0, 92.0", "100.0, 100.0", "0.001667", 10, 200, 30.5]
    card = pd.DataFrame({"parameters": [147456], "gflops_training": 6.21, "peak_mib": 396.4}, index=["lora"])
    card = card.assign(step_ms=831.2, latency_ms=3.14, merged=True)
    assert costs_table(card).loc["lora"].tolist() == ["147,456", "6.21", "396", "831", "3.1", "yes"]


@pytest.mark.parametrize("methods", [["lora"], ["lora", "norm", "linear", "gist"]])
def test_the_text_is_markdown_of_whole_sentences(methods):
    text = advice({name: 0.9 for name in methods}).text
    assert all(part.endswith((".", "choice.")) for part in text.split("\n\n"))
