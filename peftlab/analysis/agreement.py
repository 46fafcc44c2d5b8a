"""Where methods are right: do two of them differ on more images than two seeds of one, and do they gain by voting?"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Integer

from ..common.errors import DataError, check_at_least
from ..results.predictions import answers, table_file
from ..results.statistics import score_array


def disagreement(table: str | Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Share of test images on which exactly one of two runs is right -> DataFrame, methods x methods, the best first.

    Mean over tasks and over all pairs of runs of different seeds, so that the diagonal, two seeds of one method, is
    the control: a method that changes nothing but the seed would differ from another as much as from itself. What is
    above it is not all of another kind: a share is never less than the difference of the accuracies.
    table: the CSV file that the predictions stand beside. rows: complete, of two seeds or more. Raises DataError where
    a prediction is not kept, PeftlabError for one seed and where `score_array` does.
    """
    values, names, tasks = score_array(rows, "label")
    methods, seeds = len(names), values.shape[-1]
    check_at_least("number of seeds", seeds, 2)
    known, ordered = predictions(table, rows), rows.sort_values(["label", "seed"])
    shares = []
    for task in tasks:
        runs = [known[run] for run in ordered.loc[ordered["task"] == task, "run"]]
        right = np.array([predicted == labels for predicted, labels in runs], float)
        alone = right @ (1 - right).T / right.shape[1]  # the one right, the other wrong
        of_pairs = (alone + alone.T).reshape(methods, seeds, methods, seeds)
        same_seed = np.einsum("asbs->ab", of_pairs)
        shares.append((of_pairs.sum((1, 3)) - same_seed) / (seeds * (seeds - 1)))
    order = [names[i] for i in np.argsort(-values.mean((1, 2)), kind="stable")]
    return pd.DataFrame(np.mean(shares, 0), index=names, columns=names).loc[order, order]


def vote(predicted: Integer[np.ndarray, "members images"]) -> Integer[np.ndarray, " images"]:
    """The class that most members predict for each image; of classes with as many votes, that of the member before.

    >>> vote(np.array([[0, 0, 1], [1, 2, 2], [1, 3, 2]])).tolist()
    [1, 0, 2]
    """
    agreeing = (predicted[:, None] == predicted).sum(0)
    return predicted[agreeing.argmax(0), np.arange(predicted.shape[1])]


def vote_gains(table: str | Path, rows: pd.DataFrame, size: int = 3) -> pd.DataFrame:
    """What a vote gains over its members, in points of the mean over tasks -> kind, members, over mean, over best.

    A row for every `size` methods of one seed (kind 'methods') and, as control, for every `size` seeds of one method
    ('seeds'); two seeds have no majority, so a table of two has no control. 'over best': the member with the best mean
    over tasks, chosen with hindsight. Members are listed by name and seed, so ties know nothing of accuracies. Raises
    DataError where a prediction is not kept, and PeftlabError where `score_array` does.
    """
    values, names, tasks = score_array(rows, "label")
    known, run_of = predictions(table, rows), rows.set_index(["label", "seed", "task"])["run"]
    seeds = sorted(rows["seed"].unique())
    accuracies = {(n, s): values[i, :, j].mean() for i, n in enumerate(names) for j, s in enumerate(seeds)}
    groups = [("methods", [(name, s) for name in some]) for s in seeds for some in combinations(names, size)]
    groups += [("seeds", [(name, s) for s in some]) for name in names for some in combinations(seeds, size)]
    found = []
    for kind, members in groups:
        voted = [_vote_accuracy([known[run_of[name, s, task]] for name, s in members]) for task in tasks]
        alone = [accuracies[member] for member in members]
        gains = [100 * (np.mean(voted) - reference) for reference in (np.mean(alone), max(alone))]
        found.append((kind, members, *gains))
    return pd.DataFrame(found, columns=["kind", "members", "over mean", "over best"])


def predictions(table: str | Path, rows: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`answers` on test of rows, all of them. Raises DataError where one is not kept."""
    found = answers(table, rows)
    for run in rows["run"]:
        if run not in found:
            raise DataError(f"{table_file(Path(table))}: {f'{run} test'!r} is not kept there")
    return found


def _vote_accuracy(runs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float((vote(np.stack([predicted for predicted, _ in runs])) == runs[0][1]).mean())
