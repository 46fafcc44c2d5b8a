"""What choosing on the test split seems to gain: the habits of published code beside honest selection.

Several public training scripts for VTAB-1K evaluate on the test split every epoch, or every ten, and report the best.
The functions read what `peftlab sweep` writes for a grid that looks at val200 and test after each epoch.
"""

import pandas as pd

HABITS = ("honest", "best epoch", "best epoch and rate")


def habits(looks):
    """One set of runs as reported by each habit -> DataFrame: label, task, group, seed, habit, test_accuracy.

    looks: a row a run and epoch, with label, task, lr, seed, epoch, val200_accuracy, test_accuracy.
    'honest': learning rate with the best mean val200 accuracy over seeds after the last epoch; that epoch's test
    accuracy. 'best epoch': the same learning rate, but the best test accuracy of any epoch. 'best epoch and rate': the
    best of any epoch and learning rate.
    """
    last = looks[looks["epoch"] == looks.groupby(["label", "task"])["epoch"].transform("max")]
    by_rate = last.groupby(["label", "task", "lr"])["val200_accuracy"].mean()
    chosen = by_rate.groupby(["label", "task"]).idxmax()
    is_chosen = lambda table: pd.MultiIndex.from_frame(table[["label", "task", "lr"]]).isin(chosen)  # noqa: E731
    kept = {HABITS[0]: last[is_chosen(last)], HABITS[1]: looks[is_chosen(looks)], HABITS[2]: looks}
    keys = ["label", "task", "group", "synthetic", "seed"]
    best = [rows.groupby(keys)["test_accuracy"].max().reset_index().assign(habit=name) for name, rows in kept.items()]
    return pd.concat(best, ignore_index=True)


def gains(table):
    """What each habit adds to the honest accuracy of the same run, in points -> the table with a column `gain`."""
    keys = ["label", "task", "seed"]
    honest = table[table["habit"] == HABITS[0]].set_index(keys)["test_accuracy"]
    return table.assign(gain=100 * (table["test_accuracy"] - honest.loc[pd.MultiIndex.from_frame(table[keys])].values))
