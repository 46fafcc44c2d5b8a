"""How good a guide 200 validation images are: what rates chosen on them reach, and what a vote of all rates does."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..common.errors import PeftlabError
from .agreement import predictions, vote

GUIDES = ("val200 of the task", "mean val200 of the tuned tasks", "vote of all rates")


def regrets(tuning: pd.DataFrame, tested: pd.DataFrame, table: str | Path) -> pd.DataFrame:
    """What each guide loses on test against the best rate, in points -> DataFrame, a row a task, seed and guide.

    tuning: runs judged on val200, with label, task, lr, val_accuracy, val_images. tested: each rate trained anew and
    tested, with labels such as 'lora, 1e-3'; table: the CSV file that their predictions stand beside. Of a method with
    several rates, a task and seed counts where each of its tuned rates was tested.
    Guides: the rate with the best accuracy on the task's own val200 (where it was tuned on); that with the best mean,
    which a sweep chooses for tasks it never saw, too; and no choice, but the plurality vote of all rates, which may be
    better than the best: FEWTRANS, arXiv 2603.00478. Ties go to the lower rate.
    Columns: label, method, task, synthetic, seed, guide, regret, and error, the binomial standard error of an accuracy
    on so many images. Raises PeftlabError where no task counts, DataError where a prediction is not kept.
    """
    tested = tested.assign(label=tested["label"].str.split(", ").str[0])
    known, rows = predictions(table, tested), []
    for (label, task, _), runs in tested.sort_values("lr").groupby(["label", "task", "seed"]):
        tuned = tuning[tuning["label"] == label]
        val = tuned.pivot_table(index="lr", columns="task", values="val_accuracy")  # sorted: the lower of equals first
        if len(val) < 2 or set(val.index) != set(runs["lr"]):
            continue
        accuracy = dict(zip(runs["lr"], runs["test_accuracy"], strict=True))
        chosen = {GUIDES[0]: val[task].idxmax()} if task in val else {}
        reached = {guide: accuracy[lr] for guide, lr in (chosen | {GUIDES[1]: val.mean(axis=1).idxmax()}).items()}
        predicted, labels = zip(*(known[run] for run in runs["run"]), strict=True)
        reached[GUIDES[2]] = (vote(np.stack(predicted)) == labels[0]).mean()
        best = max(accuracy.values())
        error = 100 * np.sqrt(best * (1 - best) / tuned["val_images"].iloc[0])
        first = runs.iloc[0][["label", "method", "task", "synthetic", "seed"]].to_dict()
        rows += [first | {"guide": g, "regret": 100 * (best - a), "error": error} for g, a in reached.items()]
    if not rows:
        raise PeftlabError("no method has all of its tuned learning rates tested, so there is nothing to compare")
    return pd.DataFrame(rows)
