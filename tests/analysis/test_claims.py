"""Claims are judged by our tables: effects known by hand, verdicts that need both intervals, and a file in step."""

import numpy as np
import pandas as pd
import pytest
import torch

from peftlab.analysis.claims import ALONE, VERDICTS, as_markdown, effect, judge, read_claims
from peftlab.common.errors import DataError
from peftlab.results.predictions import write_table_predictions
from peftlab.results.published import FOLDER

CONTRAST = {"table": "all", "of": "new", "than": "old", "expected": "better"}


@pytest.fixture
def folder(tmp_path):
    """A table of two methods, three tasks, two seeds, 100 images, of which the new one has 20, 18 and 22 more right.

    A third method has one seed; a run of another split is there to be left out.
    """
    rows, kept = [], {"labels 0f test": torch.zeros(100, dtype=torch.uint8)}
    for label, gain, seeds in (("old", (0, 0, 0), 2), ("new", (20, 18, 22), 2), ("young", (1, 1, 1), 1)):
        for t, more in enumerate(gain):
            for seed in range(seeds):
                row = {"label": label, "run": f"{label}{t}{seed}", "task": f"task{t}", "seed": seed, "data": "0f"}
                row |= {"group": "natural", "synthetic": False, "train_split": "train800val200"}
                rows.append(row | {"test_accuracy": (40 + more) / 100})
                kept[f"{row['run']} test"] = (torch.arange(100) >= 40 + more).to(torch.uint8)
    rows.append(rows[0] | {"run": "tuned", "train_split": "train800", "test_accuracy": None})
    pd.DataFrame(rows).to_csv(tmp_path / "all.csv", index=False)
    write_table_predictions(tmp_path / "all.csv", kept)
    return tmp_path


def test_effect_is_the_mean_difference_with_both_intervals(folder):
    found = effect(folder, **CONTRAST)
    assert (found["tasks"], found["seeds"], found["ahead"], found["verdict"]) == (3, 2, 3, VERDICTS[0])
    assert found["difference"] == pytest.approx(20)
    assert (found["low"], found["high"]) == pytest.approx((15.03, 24.97), abs=0.01)  # 4.30 x 2 / sqrt(3)
    variances = [share * (1 - share) / 99 for share in (0.2, 0.18, 0.22)]  # of differences that are 0 or 1
    assert found["images"] == pytest.approx(1.959964 * 100 * np.sqrt(sum(variances)) / 3, rel=1e-5)
    back = effect(folder, **CONTRAST | {"of": "old", "than": "new"})
    assert back["difference"] == pytest.approx(-20) and back["verdict"] == VERDICTS[1] and back["ahead"] == 0
    assert effect(folder, **CONTRAST | {"expected": "equal"})["verdict"] == VERDICTS[1]


def test_both_intervals_have_their_say(folder):
    table = pd.read_csv(folder / "all.csv")
    table.loc[table["label"] == "new", "test_accuracy"] = 0.41  # every task and seed a point ahead
    table.to_csv(folder / "all.csv", index=False)
    found = effect(folder, **CONTRAST)
    assert found["low"] == pytest.approx(1) and found["images"] > 1 and found["verdict"] == VERDICTS[2]


def test_one_seed_leaves_the_question_open(folder):
    found = effect(folder, **CONTRAST | {"of": "young"})
    assert found["seeds"] == 1 and found["verdict"] == ALONE and found["difference"] == pytest.approx(1)


def test_perplexities_of_one_task_are_compared_over_seeds(tmp_path):
    rows = [
        {
            "label": label,
            "run": f"{label}{seed}",
            "task": "scenes",
            "seed": seed,
            "data": "0f",
            "test_perplexity": value,
        }
        for label, values in (("new", (2.0, 2.1, 2.2)), ("old", (2.5, 2.7, 2.6)))
        for seed, value in enumerate(values)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "all.csv", index=False)
    found = effect(tmp_path, **CONTRAST)
    assert found["difference"] == pytest.approx(0.5) and found["low"] == pytest.approx(0.5 - 4.302653 * 0.1 / 3**0.5)
    assert np.isnan(found["images"]) and found["verdict"] == VERDICTS[0]


def test_what_is_not_there_is_named(folder):
    claims = [{"contrasts": [CONTRAST | {"of": "nwe"}]}]
    with pytest.raises(DataError, match=r"claim 1, nwe - old: no final run is labelled 'nwe'; did you mean 'new'"):
        judge(claims, folder)


def test_the_file_in_results_is_what_the_tables_say():
    claims = read_claims()
    assert as_markdown(claims, judge(claims)) == (FOLDER / "claims.md").read_text(encoding="utf-8")
