"""What rates chosen on val200 lose on test, and what a vote does, on a table whose answers are known."""

import pandas as pd
import pytest
import torch

from peftlab.analysis.guide import GUIDES, regrets
from peftlab.common.errors import DataError, PeftlabError
from peftlab.results.predictions import table_file, write_table_predictions

OWN, MEAN, VOTE = GUIDES
RATES = {"1e-3": 0.001, "3e-3": 0.003, "1e-2": 0.01}
# right on so many of ten test images, a rate; the vote of three is right on those where two are
WRONG = {"dtd": [{0, 1, 2}, {3}, {0, 1, 3, 4, 5}], "pets": [{0}, {0, 1}, {0, 1, 2}], "cifar": [{1}, {2}, {1, 3, 4}]}
VAL = {"dtd": [0.5, 0.6, 0.9], "pets": [0.7, 0.7, 0.1]}  # cifar is tested and was not tuned on


@pytest.fixture
def sweep(tmp_path):
    """(tuning, tested, table); `norm` has one tested rate of three."""
    rows, kept, val = [], {}, []
    for task, of_rates in WRONG.items():
        kept[f"labels {task} test"] = torch.zeros(10, dtype=torch.uint8)
        for (text, lr), wrong in zip(RATES.items(), of_rates, strict=True):
            run = f"{task}-lora-{text}"
            kept[f"{run} test"] = torch.tensor([int(i in wrong) for i in range(10)], dtype=torch.uint8)
            row = {"label": f"lora, {text}", "method": "lora", "run": run, "task": task, "data": task, "lr": lr}
            rows.append(row | {"test_accuracy": 1 - len(wrong) / 10})
    for task, accuracies in VAL.items():
        for lr, accuracy in zip(RATES.values(), accuracies, strict=True):
            val += [{"label": name, "task": task, "lr": lr, "val_accuracy": accuracy} for name in ("lora", "norm")]
    rows.append(rows[0] | {"label": "norm, 1e-3", "method": "norm"})
    write_table_predictions(tmp_path / "rates.csv", kept)
    tested = pd.DataFrame(rows).assign(seed=0, synthetic=False).sample(frac=1, random_state=1)
    return pd.DataFrame(val).assign(val_images=200), tested, tmp_path / "rates.csv"


def test_regrets_by_hand(sweep):
    found = regrets(*sweep).set_index(["task", "guide"])["regret"]
    # the means over val200 are 0.60, 0.65 and 0.50: 3e-3 for all. pets alone has a tie, so the lower rate: the best
    expected = {
        ("dtd", OWN): 40,  # 1e-2, best of val200, is right on 5; 3e-3 on 9
        ("dtd", MEAN): 0,
        ("dtd", VOTE): 20,  # images 0, 1 and 3 are wrong twice
        ("pets", OWN): 0,
        ("pets", MEAN): 10,
        ("pets", VOTE): 10,
        ("cifar", MEAN): 0,
        ("cifar", VOTE): 0,  # only image 1 is wrong twice
    }
    assert found.to_dict() == pytest.approx(expected)


def test_a_vote_can_beat_the_best_rate_and_ties_go_to_the_lowest(sweep):
    tuning, tested, table = sweep
    kept = {f"{run} test": torch.zeros(10, dtype=torch.uint8) for run in tested["run"]}
    for rate, wrong in zip(RATES, (0, 1, 2), strict=True):
        kept[f"cifar-lora-{rate} test"][wrong] = 1
        kept[f"cifar-lora-{rate} test"][9] = wrong  # three answers of equal weight: the lowest rate's is right
    write_table_predictions(
        table, kept | {f"labels {task} test": torch.zeros(10, dtype=torch.uint8) for task in WRONG}
    )
    cifar = tested[tested["task"] == "cifar"].assign(test_accuracy=0.9).sort_values("lr", ascending=False)
    assert regrets(tuning, cifar, table).set_index("guide")["regret"][VOTE] == pytest.approx(-10)


def test_rows_say_whose_they_are_and_how_sure_200_images_are(sweep):
    found = regrets(*sweep)
    assert set(found["label"]) == set(found["method"]) == {"lora"}  # norm lacks two of its rates
    dtd = found[found["task"] == "dtd"]
    assert dtd["error"].to_numpy() == pytest.approx(100 * (0.9 * 0.1 / 200) ** 0.5)


def test_what_is_missing_is_said(sweep):
    tuning, tested, table = sweep
    with pytest.raises(PeftlabError, match="no method has all of its tuned learning rates tested"):
        regrets(tuning, tested[tested["lr"] != 0.003], table)
    with pytest.raises(PeftlabError, match="no method has all of its tuned learning rates tested"):
        regrets(tuning[tuning["lr"] == 0.001], tested[tested["lr"] == 0.001], table)  # one rate is no choice
    table_file(table).unlink()
    with pytest.raises(DataError, match="is not kept there"):
        regrets(tuning, tested, table)
