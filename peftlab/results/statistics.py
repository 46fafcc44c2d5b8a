"""Intervals around accuracies, and methods compared over tasks and seeds."""

import numpy as np
import pandas as pd
from scipy import stats

from ..common.errors import PeftlabError, near


def accuracy_interval(accuracy, images, level=0.95):
    """Wilson interval (low, high) of one measured accuracy: the uncertainty that a finite test set leaves.

    It says nothing about seeds or about other training images.
    """
    interval = stats.binomtest(round(accuracy * images), images).proportion_ci(level, method="wilson")
    return interval.low, interval.high


def mean_interval(values, level=0.95):
    """(mean, low, high) of a few repeated measurements, by Student's t. One value alone has no interval: nan."""
    values = np.asarray(values, dtype=float)
    mean = values.mean()
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def cube(ledger, by="method", value="test_accuracy"):
    """A ledger of complete comparisons -> (array [methods, tasks, seeds], names of the methods, names of the tasks).

    by: the column that tells methods apart. Raises PeftlabError where synthetic and real tasks are mixed, and where a
    run of some method, task and seed is missing or there twice.
    """
    if ledger["synthetic"].nunique() > 1:
        raise PeftlabError("synthetic and real tasks are never averaged together; take the ledger's rows of one kind")
    names, tasks, seeds = (sorted(ledger[column].unique()) for column in (by, "task", "seed"))
    runs = pd.MultiIndex.from_product([names, tasks, seeds])
    found = ledger.groupby([by, "task", "seed"])[value].agg(["count", "first"]).reindex(runs, fill_value=0)
    for (name, task, seed), n in found["count"][found["count"] != 1].items():
        raise PeftlabError(
            f"{name} on {task}, seed {seed}: {n} runs instead of one. Complete the ledger, or filter it"
        )
    return found["first"].to_numpy(float).reshape(len(names), len(tasks), len(seeds)), names, tasks


def averages(ledger, by="method", value="test_accuracy", level=0.95, resamples=5000, seed=0):
    """Both averages of a comparison with bootstrap intervals over tasks and seeds -> DataFrame, a row a method.

    'mean over tasks': every task weighs alike; 'mean over groups': every group of tasks does. Both are in use, and
    differ by points. Each resample draws tasks (within their groups) and, for each of them, seeds; all methods get
    the same draws. Columns ending with ' low' and ' high': percentile intervals.
    """
    values, names, tasks = cube(ledger, by, value)
    group = ledger.groupby("task")["group"].first().loc[tasks].to_numpy()
    rng, (_, T, S) = np.random.default_rng(seed), values.shape
    members = {g: np.flatnonzero(group == g) for g in sorted(set(group))}
    drawn = np.concatenate([rng.choice(rows, (resamples, len(rows))) for rows in members.values()], axis=1)
    each = values[:, drawn[:, :, None], rng.integers(S, size=(resamples, T, S))].mean(
        -1
    )  # [methods, resamples, tasks]
    parts = np.split(each, np.cumsum([len(rows) for rows in members.values()])[:-1], axis=-1)
    sampled = {"mean over tasks": each.mean(-1), "mean over groups": np.mean([p.mean(-1) for p in parts], axis=0)}
    by_task = values.mean(-1)
    exact = {
        "mean over tasks": by_task.mean(1),
        "mean over groups": np.mean([by_task[:, rows].mean(1) for rows in members.values()], axis=0),
    }
    columns = {}
    for name, means in exact.items():
        low, high = np.quantile(sampled[name], [(1 - level) / 2, (1 + level) / 2], axis=1)
        columns |= {name: means, f"{name} low": low, f"{name} high": high}
    return pd.DataFrame(columns, index=pd.Index(names, name=by))


def paired(ledger, baseline, by="method", value="test_accuracy", level=0.95):
    """Every method against a baseline, same task and seed -> (per task, over tasks), two DataFrames.

    Per task: the mean difference over seeds with Student's interval. Over tasks: its mean with the bootstrap interval
    of `averages`, Wilcoxon's signed-rank p over the tasks' differences, and that p after Holm's correction for all
    methods compared.
    """
    names = sorted(ledger[by].unique())
    if baseline not in names:
        raise PeftlabError(f"no baseline {baseline!r} in this ledger{near(baseline, names)}")
    cube(ledger, by, value)  # complete, and of one kind
    of_baseline = ledger[ledger[by] == baseline].set_index(["task", "seed"])[value]
    keys = pd.MultiIndex.from_frame(ledger[["task", "seed"]])
    differences = ledger.assign(**{value: ledger[value] - of_baseline.loc[keys].to_numpy()})
    differences = differences[differences[by] != baseline]
    values, names, tasks = cube(differences, by, value)
    rows = [
        (name, task, *mean_interval(seeds, level))
        for name, each in zip(names, values, strict=True)
        for task, seeds in zip(tasks, each, strict=True)
    ]
    p = np.array([stats.wilcoxon(d).pvalue if np.any(d) else 1.0 for d in values.mean(-1)])
    means = averages(differences, by, value, level).filter(like="over tasks")
    summary = means.set_axis(["difference", "low", "high"], axis=1).assign(**{"p": p, "p (Holm)": holm(p)})
    return pd.DataFrame(rows, columns=[by, "task", "difference", "low", "high"]), summary


def holm(p):
    """P-values corrected for having been several: the k-th smallest of n times n - k + 1, never falling. Holm 1979."""
    p = np.asarray(p, float)
    order = p.argsort()
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def ranks(ledger, by="method", value="test_accuracy", level=0.95):
    """Mean rank of every method over tasks, 1 the best -> (Series, Friedman's p, Nemenyi's critical difference).

    Ranks are of means over seeds; ties share theirs. Two methods whose mean ranks lie closer than the critical
    difference are not told apart. Demsar 2006, JMLR 7. Raises PeftlabError for fewer than three methods.
    """
    values, names, tasks = cube(ledger, by, value)
    if len(names) < 3:
        raise PeftlabError(f"ranks compare three methods or more, not {len(names)}; for two use `paired`")
    by_task = values.mean(-1)  # [methods, tasks]
    mean_ranks = stats.rankdata(-by_task, axis=0).mean(1)
    k, n = by_task.shape
    q = stats.studentized_range.ppf(level, k, np.inf) / np.sqrt(2)
    order = mean_ranks.argsort(kind="stable")
    table = pd.Series(mean_ranks[order], index=pd.Index([names[i] for i in order], name=by), name="mean rank")
    return table, stats.friedmanchisquare(*by_task).pvalue, q * np.sqrt(k * (k + 1) / (6 * n))
