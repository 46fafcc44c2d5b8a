"""Methods on several backbones: what is compared is common to all, and distances are those by hand."""

import numpy as np
import pandas as pd
import pytest
import yaml

from peftlab.analysis.scale import OVERALL, by_backbone, moves, on_every_backbone
from peftlab.common.errors import PeftlabError
from peftlab.common.paths import REPOSITORY
from peftlab.results.published import read_results
from peftlab.training.grid import read_grid

SIZES = {"mini": 2_000_000, "small": 20_000_000}
VALUES = {  # [dtd, cifar] for the methods of each backbone
    "mini": {"full": [0.4, 0.2], "linear": [0.3, 0.2], "lora": [0.5, 0.5]},
    "small": {"full": [0.6, 0.6], "linear": [0.5, 0.2], "lora": [0.9, 0.7]},
}


@pytest.fixture
def table():
    rows = [
        (backbone, label, task, seed, accuracy + (0.02 if seed else -0.02))
        for backbone, methods in VALUES.items()
        for label, values in methods.items()
        for task, accuracy in zip(("dtd", "cifar"), values, strict=True)
        for seed in (0, 1)
    ]
    runs = pd.DataFrame(rows, columns=["backbone", "label", "task", "seed", "test_accuracy"])
    return runs.assign(
        method=runs["label"],
        synthetic=False,
        train_split="train800val200",
        img_size=runs["backbone"].map({"mini": 64, "small": 112}),
        parameters=runs["backbone"].map(SIZES).where(runs["label"] == "full", 7),
        test_images=runs["task"].map({"dtd": 400, "cifar": 900}),
    )


def test_only_runs_that_every_backbone_has_are_compared(table):
    cells = table[["label", "task", "seed"]].apply(tuple, axis=1)
    alone = (table["backbone"] == "small") & ((table["seed"] == 1) | (cells == ("lora", "cifar", 0)))
    searched = table[table["seed"] == 0].assign(train_split="train800")
    shared = on_every_backbone(pd.concat([table[~alone], searched]))
    left = {(label, task, 0) for label in VALUES["mini"] for task in ("dtd", "cifar")} - {("lora", "cifar", 0)}
    assert set(shared["train_split"]) == {"train800val200"} and len(shared) == 10
    for on, rows in shared.groupby("on"):
        assert set(rows[["label", "task", "seed"]].itertuples(index=False, name=None)) == left
        assert set(rows["size"]) == {SIZES[on.split(",")[0]]}
    assert set(shared["on"]) == {"mini, 64 px", "small, 112 px"}


def test_one_backbone_at_two_sides_counts_as_two(table):
    mini = table[table["backbone"] == "mini"]
    shared = on_every_backbone(pd.concat([mini, mini.assign(img_size=128)]))
    assert set(shared["on"]) == {"mini, 64 px", "mini, 128 px"}


def test_what_cannot_be_compared_is_refused(table):
    mini, small = (table[table["backbone"] == name] for name in SIZES)
    with pytest.raises(PeftlabError, match="runs of 1 backbone, but a comparison takes two"):
        on_every_backbone(mini)
    with pytest.raises(PeftlabError, match="have no label, task and seed in common"):
        on_every_backbone(pd.concat([mini[mini["seed"] == 0], small[small["seed"] == 1]]))
    with pytest.raises(PeftlabError, match="no run of full on small, 112 px"):
        on_every_backbone(pd.concat([mini, small[small["label"] != "full"]]))
    with pytest.raises(PeftlabError, match="runs of 1 method, but a comparison takes two"):
        moves(on_every_backbone(table).query("label == 'full'"))


def test_means_have_the_interval_of_the_test_images(table):
    rows = by_backbone(on_every_backbone(table))
    assert list(rows["size"]) == [2_000_000] * 3 + [20_000_000] * 3
    assert list(rows["label"]) == ["full", "linear", "lora"] * 2
    assert list(rows["mean"]) == pytest.approx([0.3, 0.25, 0.5, 0.6, 0.35, 0.8])
    lora = rows.iloc[-1]
    half = 1.959964 * np.sqrt(0.9 * 0.1 / 400 + 0.7 * 0.3 / 900) / 2
    assert (lora["low"], lora["high"]) == pytest.approx((0.8 - half, 0.8 + half))


def test_moves_are_mean_distances_of_pairs(table):
    rows = moves(on_every_backbone(table))
    assert list(rows.index) == ["cifar", "dtd", OVERALL]
    # cifar: full 40, linear 0, lora 20; on mini 0, 30, 30; on small 40, 10, 50
    assert list(rows.loc["cifar"]) == pytest.approx([20, 160 / 6])
    # dtd: 20, 20, 40; on mini 10, 10, 20; on small 10, 30, 40
    assert list(rows.loc["dtd"]) == pytest.approx([80 / 3, 20])
    # of means, not means of moves: 30, 10, 30; on mini 5, 20, 25; on small 25, 20, 45
    assert list(rows.loc[OVERALL]) == pytest.approx([70 / 3, 140 / 6])


def test_the_grid_attaches_on_a_larger_backbone():
    """As `peftlab sweep grids/scale.yaml --backbone` reads it; another task for readers without the images."""
    larger = {"backbone": "vit_base_patch16_224.augreg_in21k", "tasks": ["clevr_count"], "root": "synthetic"}
    grid = read_grid(REPOSITORY / "grids" / "scale.yaml", tune_on=["clevr_count"], **larger)
    assert len(grid.methods) == 5 and grid.img_size is None


def test_its_rates_and_tasks_choose_what_the_larger_grid_chose():
    """Fewer rates and tasks than in grids/strength.yaml; on `peftlab_vit_small` they lead to the same rates."""
    grid, table = yaml.safe_load((REPOSITORY / "grids" / "scale.yaml").read_text()), read_results("strength")
    searched = table[(table["train_split"] == "train800") & table["task"].isin(grid["tune_on"])]
    final = table[table["train_split"] != "train800"].groupby("label")["lr"].first()
    for label, entry in grid["methods"].items():
        rates = searched[(searched["label"] == label) & searched["lr"].isin([float(lr) for lr in entry["lr"]])]
        assert rates.groupby("lr")["val_accuracy"].mean().idxmax() == final[label]
