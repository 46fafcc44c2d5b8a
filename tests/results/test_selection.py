"""Test-set selection: habits of reporting, on a table small enough to be read."""

import pandas as pd
import pytest

from peftlab.results.selection import HABITS, gains, habits

COLUMNS = ["label", "lr", "seed", "epoch", "val200_accuracy", "test_accuracy"]
ROWS = [
    ("lora", 0.1, 0, 1, 0.1, 0.60),
    ("lora", 0.1, 0, 2, 0.5, 0.50),  # chosen: 0.5 and 0.7 on val200
    ("lora", 0.1, 1, 1, 0.1, 0.40),
    ("lora", 0.1, 1, 2, 0.7, 0.55),
    ("lora", 0.2, 0, 1, 0.9, 0.90),  # a good epoch that is not the last
    ("lora", 0.2, 0, 2, 0.8, 0.40),  # a good seed, of two whose mean is no better
    ("lora", 0.2, 1, 1, 0.9, 0.10),
    ("lora", 0.2, 1, 2, 0.3, 0.30),
]


@pytest.fixture
def by_epoch():
    return pd.DataFrame(ROWS, columns=COLUMNS).assign(task="dtd", group="natural", synthetic=False)


def test_what_each_habit_reports(by_epoch):
    table = habits(by_epoch.sample(frac=1, random_state=1)).set_index(["habit", "seed"])["test_accuracy"]
    assert table.to_dict() == {
        ("honest", 0): 0.50,
        ("honest", 1): 0.55,
        ("best epoch", 0): 0.60,
        ("best epoch", 1): 0.55,
        ("best epoch and rate", 0): 0.90,
        ("best epoch and rate", 1): 0.55,
    }


def test_gains_are_points_of_the_same_run(by_epoch):
    table = gains(habits(by_epoch)).set_index(["habit", "seed"])["gain"]
    assert table["honest"].eq(0).all() and table[HABITS[1], 0] == pytest.approx(10)
    assert table[HABITS[2], 0] == pytest.approx(40) and table[HABITS[2], 1] == pytest.approx(0)


def test_tasks_and_methods_choose_apart(by_epoch):
    both = pd.concat([by_epoch, by_epoch.assign(task="eurosat", val200_accuracy=1 - by_epoch["val200_accuracy"])])
    table = habits(pd.concat([both, both.assign(label="ssf", epoch=by_epoch["epoch"] * 3)]))
    honest = table[table["habit"] == "honest"].groupby(["label", "task"])["test_accuracy"].mean()
    assert len(table) == 3 * 2 * 2 * 2
    for label in ("lora", "ssf"):
        assert honest[label, "dtd"] == pytest.approx(0.525) and honest[label, "eurosat"] == pytest.approx(0.35)
