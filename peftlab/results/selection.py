"""What test-set selection seems to gain: the habits of published code beside honest selection.

Several public training scripts for VTAB-1k evaluate on the test split every epoch, or every ten, and report the best.
The functions read what `peftlab sweep` writes for a grid that evaluates on val200 and test after each epoch.
"""

import pandas as pd

HABITS = ("honest", "best epoch", "best epoch and rate")


def habits(by_epoch: pd.DataFrame) -> pd.DataFrame:
    """One set of runs as reported by each habit -> label, task, group, synthetic, seed, test_accuracy, habit.

    by_epoch: a row a run and epoch, with label, task, group, synthetic, lr, seed, epoch, val200_accuracy and
    test_accuracy. 'honest': learning rate with the best mean val200 accuracy over seeds after the last epoch; that
    epoch's test accuracy. 'best epoch': the same learning rate, but the best test accuracy of any epoch. 'best epoch
    and rate': the best of any epoch and learning rate.

    >>> run = {"label": "lora", "task": "dtd", "group": "natural", "synthetic": False, "seed": 0, "lr": 0.01}
    >>> curves = pd.DataFrame({"epoch": [1, 2], "val200_accuracy": [0.5, 0.6], "test_accuracy": [0.62, 0.58]})
    >>> gains(habits(curves.assign(**run)))[["habit", "test_accuracy", "gain"]].round(2).to_numpy().tolist()
    [['honest', 0.58, 0.0], ['best epoch', 0.62, 4.0], ['best epoch and rate', 0.62, 4.0]]
    """
    last = by_epoch[by_epoch["epoch"] == by_epoch.groupby(["label", "task"])["epoch"].transform("max")]
    by_rate = last.groupby(["label", "task", "lr"])["val200_accuracy"].mean()
    chosen = by_rate.groupby(["label", "task"]).idxmax()
    is_chosen = lambda table: pd.MultiIndex.from_frame(table[["label", "task", "lr"]]).isin(chosen)  # noqa: E731
    reported = {HABITS[0]: last[is_chosen(last)], HABITS[1]: by_epoch[is_chosen(by_epoch)], HABITS[2]: by_epoch}
    keys = ["label", "task", "group", "synthetic", "seed"]
    best = [rows.groupby(keys)["test_accuracy"].max().reset_index().assign(habit=h) for h, rows in reported.items()]
    return pd.concat(best, ignore_index=True)


def gains(reported: pd.DataFrame) -> pd.DataFrame:
    """What each habit adds to the honest accuracy of the same run, in points -> `reported` with a column `gain`.

    reported: from `habits`.
    """
    keys = ["label", "task", "seed"]
    honest = reported[reported["habit"] == HABITS[0]].set_index(keys)["test_accuracy"]
    same_run = honest.loc[pd.MultiIndex.from_frame(reported[keys])].to_numpy()
    return reported.assign(gain=100 * (reported["test_accuracy"] - same_run))
