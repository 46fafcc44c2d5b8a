"""The same methods on several backbones: what each reaches on them, and which of the two moves an accuracy further."""

from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm

from ..common.errors import PeftlabError
from ..results.statistics import score_array

OVERALL = "mean over tasks"


def on_every_backbone(table: pd.DataFrame) -> pd.DataFrame:
    """The final runs whose label, task and seed every backbone of a table has -> its rows, with two more columns.

    `on` is the backbone with the side of its images, which belongs to it; `size` its parameters, as many as its runs
    of `full` train. Raises PeftlabError for fewer than two backbones, for nothing in common, and without such a run.
    """
    table = table[table["train_split"] != "train800"]
    table = table.assign(on=table["backbone"] + ", " + table["img_size"].astype(str) + " px")
    backbones = table["on"].nunique()
    if backbones < 2:
        raise PeftlabError(f"runs of {backbones} backbone, but a comparison takes two; join the tables of several")
    shared = table[table.groupby(["label", "task", "seed"])["on"].transform("nunique") == backbones]
    if shared.empty:
        raise PeftlabError(f"the {backbones} backbones have no label, task and seed in common; run one grid on all")
    sizes = table[table["method"] == "full"].groupby("on")["parameters"].max()
    for name in sorted(set(table["on"]) - set(sizes.index)):
        raise PeftlabError(f"no run of full on {name}, so its parameters are not known; add one to the grid")
    return shared.assign(size=shared["on"].map(sizes))


def by_backbone(shared: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over tasks of each method on each backbone -> DataFrame, the smallest backbone first.

    shared: from `on_every_backbone`. Columns: on, size, label, mean, low, high. The interval of 95 % is what the test
    images leave, these tasks and seeds given: the normal one of a mean of proportions.
    """
    rows = []
    for (size, on), runs in shared.groupby(["size", "on"]):
        values, labels, tasks = score_array(runs, "label")
        images = runs.groupby("task")["test_images"].first().loc[tasks].to_numpy()
        for label, p in zip(labels, values.mean(-1), strict=True):
            half = norm.ppf(0.975) * np.sqrt((p * (1 - p) / images).sum()) / len(p)
            rows.append((on, size, label, p.mean(), p.mean() - half, p.mean() + half))
    return pd.DataFrame(rows, columns=["on", "size", "label", "mean", "low", "high"])


def moves(shared: pd.DataFrame) -> pd.DataFrame:
    """Points by which another backbone, and by which another method moves an accuracy -> DataFrame, a row a task.

    shared: from `on_every_backbone`. `backbone`: mean distance of two backbones for the same method; `method`: of two
    methods on the same backbone, both over all pairs, so that the number of either does not matter. The last row is of
    the mean over tasks. Raises PeftlabError for fewer than two methods, and where `score_array` does.

    >>> runs = pd.DataFrame({"label": ["lora", "full"] * 2, "on": ["mini", "mini", "small", "small"], "task": "dtd"})
    >>> runs = runs.assign(seed=0, synthetic=False, test_accuracy=[0.5, 0.6, 0.8, 0.8])  # 30 and 20; 10 and 0
    >>> moves(runs).round(1).loc["dtd"].to_dict()
    {'backbone': 25.0, 'method': 5.0}
    """
    scores = {on: score_array(rows, "label") for on, rows in shared.groupby("on")}
    _, methods, tasks = next(iter(scores.values()))
    if len(methods) < 2:
        raise PeftlabError(f"runs of {len(methods)} method, but a comparison takes two; add one")
    values = 100 * np.stack([each.mean(-1) for each, *_ in scores.values()])  # [backbones, methods, tasks]
    values = np.concatenate([values, values.mean(-1, keepdims=True)], axis=-1)
    columns = {"backbone": mean_distance(values), "method": mean_distance(values.swapaxes(0, 1))}
    return pd.DataFrame(columns, index=pd.Index([*tasks, OVERALL], name="task"))


def mean_distance(values: Float[np.ndarray, "levels others tasks"]) -> Float[np.ndarray, " tasks"]:
    """Mean |difference| of two levels, over all pairs of them and over the others.

    >>> mean_distance(np.array([[[1.0]], [[2.0]], [[4.0]]]))  # of 1, 3 and 2
    array([2.])
    """
    return np.mean([np.abs(values[i] - values[j]).mean(0) for i, j in combinations(range(len(values)), 2)], axis=0)
