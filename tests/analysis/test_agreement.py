"""Where methods are right, image by image: differences between methods and between seeds, and votes, by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from peftlab.analysis.agreement import disagreement, predictions, vote, vote_gains
from peftlab.common.errors import DataError, PeftlabError
from peftlab.results.predictions import table_file, write_table_predictions

LABELS = {"dtd": [0, 0, 0, 0], "pets": [0, 0]}


def sweep(tmp_path, predicted):
    """{(label, seed): {task: predictions}} -> (table, rows) with predictions beside the table, in mixed order."""
    kept, rows = {f"labels {task} test": torch.tensor(classes) for task, classes in LABELS.items()}, []
    for (label, seed), of_task in predicted.items():
        for task, classes in of_task.items():
            run = f"{task}-{label}-{seed}"
            kept[f"{run} test"] = torch.tensor(classes, dtype=torch.uint8)
            accuracy = np.mean(np.array(classes) == LABELS[task])
            rows.append(
                {"label": label, "run": run, "task": task, "data": task, "seed": seed, "test_accuracy": accuracy}
            )
    write_table_predictions(tmp_path / "all.csv", kept)
    return tmp_path / "all.csv", pd.DataFrame(rows).assign(synthetic=False).sample(frac=1, random_state=0)


TWO = {
    ("a", 0): {"dtd": [1, 1, 0, 0], "pets": [1, 1]},
    ("a", 1): {"dtd": [1, 0, 0, 1], "pets": [1, 2]},
    ("b", 0): {"dtd": [0, 0, 0, 0], "pets": [0, 0]},
    ("b", 1): {"dtd": [0, 0, 0, 2], "pets": [0, 1]},
}


def test_disagreement_by_hand(tmp_path):
    shares = disagreement(*sweep(tmp_path, TWO))
    assert list(shares.index) == list(shares.columns) == ["b", "a"]  # the better one first
    # dtd: a0 and a1 differ on images 2 and 4; pets: wrong alike, though not by the same class
    assert shares.loc["a", "a"] == pytest.approx((2 / 4 + 0) / 2)
    assert shares.loc["b", "b"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    # a0 with b1: 3 of 4 and 1 of 2; a1 with b0: 2 of 4 and 2 of 2. Runs of one seed (2 of 4, 1 of 4) do not count
    assert shares.loc["a", "b"] == shares.loc["b", "a"] == pytest.approx(((3 + 2) / 8 + (1 + 2) / 4) / 2)


def test_a_method_that_changes_only_the_name_differs_like_a_seed(tmp_path):
    alike = {(label, seed): TWO["a", seed] for label in "xyz" for seed in (0, 1)}
    shares = disagreement(*sweep(tmp_path, alike))
    assert np.unique(shares).tolist() == [0.25]


def test_disagreement_of_three_seeds_is_the_mean_over_pairs(tmp_path):
    three = {("a", s): {"dtd": p} for s, p in enumerate(([0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]))}
    assert disagreement(*sweep(tmp_path, three)).to_numpy() == pytest.approx((1 + 3 + 2) / 3 / 4)


def test_what_is_missing_is_said(tmp_path):
    table, rows = sweep(tmp_path, TWO)
    with pytest.raises(PeftlabError, match="number of seeds is 1"):
        disagreement(table, rows[rows["seed"] == 0])
    with pytest.raises(PeftlabError, match="instead of one"):
        disagreement(table, rows.iloc[1:])
    with pytest.raises(DataError, match=r"all.predictions.safetensors: 'gone test' is not kept there"):
        predictions(table, rows.assign(run="gone"))
    table_file(table).unlink()
    with pytest.raises(DataError, match="is not kept there"):
        vote_gains(table, rows, size=2)


def test_votes_by_majority_and_ties_by_the_member_before():
    assert vote(np.array([[3, 0], [1, 1], [1, 2]])).tolist() == [1, 0]  # a majority; all differ: the first
    assert vote(np.array([[5], [2], [1], [1], [2]])).tolist() == [2]  # 2 and 1 tie, the second says 2
    assert vote(np.array([[7, 4]])).tolist() == [7, 4]


def test_gains_of_methods_and_of_seeds(tmp_path):
    wrong_on = lambda *images: {"dtd": [int(i in images) for i in range(4)]}  # noqa: E731
    apart = {("a", 0): wrong_on(0), ("b", 0): wrong_on(1), ("c", 0): wrong_on(2, 3)}
    gains = vote_gains(*sweep(tmp_path, apart))
    assert gains["members"].tolist() == [[("a", 0), ("b", 0), ("c", 0)]] and gains["kind"].tolist() == ["methods"]
    # the vote is right everywhere; members on 3, 3 and 2 of 4
    assert gains[["over mean", "over best"]].to_numpy().tolist() == [pytest.approx([100 / 3, 25])]

    seeds = {(label, seed): wrong_on(0, seed) for label in ("a", "b", "c") for seed in (1, 2, 3)}
    gains = vote_gains(*sweep(tmp_path, seeds)).set_index("kind")
    assert len(gains.loc["methods"]) == len(gains.loc["seeds"]) == 3
    assert gains.loc["methods", "over mean"].tolist() == pytest.approx([0, 0, 0])  # they agree
    assert gains.loc["seeds", ["over mean", "over best"]].to_numpy() == pytest.approx(25)  # one image stays wrong
    assert gains.loc["seeds", "members"].tolist()[1] == [("b", 1), ("b", 2), ("b", 3)]


def test_the_best_member_is_that_of_the_mean_over_tasks(tmp_path):
    members = {
        ("a", 0): {"dtd": [0, 0, 0, 0], "pets": [1, 1]},
        ("b", 0): {"dtd": [0, 0, 1, 1], "pets": [0, 0]},
        ("c", 0): {"dtd": [1, 1, 0, 1], "pets": [0, 1]},
    }
    gains = vote_gains(*sweep(tmp_path, members)).iloc[0]
    # votes: dtd right on 3 of 4, pets on 1 of 2; means 0.5, 0.75 and 0.375
    assert gains["over best"] == pytest.approx(100 * (0.625 - 0.75))
    assert gains["over mean"] == pytest.approx(100 * (0.625 - 1.625 / 3))
