"""Intervals around accuracies, and methods compared over tasks and seeds."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

from ..common.errors import PeftlabError, near


def accuracy_interval(accuracy: float, images: int | np.integer, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval (low, high) of one measured accuracy: the uncertainty that a finite test set leaves.

    It says nothing about seeds or about other training images.

    >>> for images in (100, 10_000):
    ...     low, high = accuracy_interval(0.5, images)
    ...     print(f"{low:.3f} to {high:.3f}")
    0.404 to 0.596
    0.490 to 0.510
    """
    interval = stats.binomtest(round(accuracy * images), images).proportion_ci(level, method="wilson")
    return interval.low, interval.high


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of a few repeated measurements, by Student's t. One value alone has no interval: nan.

    >>> print("{:.2f} ({:.2f} to {:.2f})".format(*mean_interval([0.70, 0.71, 0.75])))
    0.72 (0.65 to 0.79)
    """
    x = np.asarray(values, dtype=float)
    mean = x.mean()
    if len(x) < 2:
        return mean, np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return mean, mean - half, mean + half


def score_array(
    ledger: pd.DataFrame, by: str = "method", value: str = "test_accuracy"
) -> tuple[Float[np.ndarray, "methods tasks seeds"], list[str], list[str]]:
    """A ledger of complete comparisons -> (values, names of the methods, names of the tasks), names sorted.

    by: the column with the names of the methods. Raises PeftlabError where synthetic and real tasks are mixed, and
    where a run of some method, task and seed is missing or there twice.
    """
    if ledger["synthetic"].nunique() > 1:
        raise PeftlabError("synthetic and real tasks are never averaged together; take the ledger's rows of one kind")
    names, tasks, seeds = (sorted(ledger[column].unique()) for column in (by, "task", "seed"))
    runs = pd.MultiIndex.from_product([names, tasks, seeds])
    found = ledger.groupby([by, "task", "seed"])[value].agg(["count", "first"]).reindex(runs, fill_value=0)
    wrong = found["count"][found["count"] != 1]
    if len(wrong):
        (name, task, seed), n = wrong.index[0], wrong.iloc[0]
        raise PeftlabError(
            f"{name} on {task}, seed {seed}: {n} runs instead of one. Complete the ledger, or filter it"
        )
    return found["first"].to_numpy(float).reshape(len(names), len(tasks), len(seeds)), names, tasks


def averages(
    ledger: pd.DataFrame, by: str = "method", value: str = "test_accuracy", level: float = 0.95
) -> pd.DataFrame:
    """Both averages of a comparison with Student's intervals over tasks -> DataFrame, a row a method.

    'mean over tasks': every task weighs alike; 'mean over groups': every group of tasks does. Both are in use, and
    differ by points. Columns ending with ' low' and ' high': what other tasks might show, if they vary as these do.
    The spread of tasks holds that of seeds and of test images, too. Nan for fewer than three tasks: of two it is
    25 standard errors wide. (A bootstrap of so few is too narrow: drawn within three groups of two or
    three tasks, its 95 % intervals cover 73 to 87 %.)

    >>> runs = pd.DataFrame({"task": ["dtd", "caltech101", "eurosat"], "group": ["natural", "natural", "specialized"]})
    >>> runs = runs.assign(method="lora", seed=0, synthetic=False, test_accuracy=[0.5, 0.7, 0.9])
    >>> averages(runs)[["mean over tasks", "mean over groups"]].round(3).loc["lora"].to_dict()
    {'mean over tasks': 0.7, 'mean over groups': 0.75}
    """
    values, names, tasks = score_array(ledger, by, value)
    by_task, T = values.mean(-1), len(tasks)  # [methods, tasks]
    group = ledger.groupby("task")["group"].first().loc[tasks]
    in_groups = 1 / (group.nunique() * group.map(group.value_counts()).to_numpy())
    spread = by_task.std(axis=1, ddof=1) if T > 2 else np.full(len(names), np.nan)
    columns: dict[str, np.ndarray] = {}
    for name, weights in (("mean over tasks", np.full(T, 1 / T)), ("mean over groups", in_groups)):
        means = by_task @ weights
        half = stats.t.ppf((1 + level) / 2, T - 1) * spread * np.sqrt((weights**2).sum())
        columns |= {name: means, f"{name} low": means - half, f"{name} high": means + half}
    return pd.DataFrame(columns, index=pd.Index(names, name=by))


def paired(
    ledger: pd.DataFrame, baseline: str, by: str = "method", value: str = "test_accuracy", level: float = 0.95
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every method against a baseline, same task and seed -> (per task, over tasks), two DataFrames.

    Per task: the mean difference over seeds with Student's interval. Over tasks: its mean with the interval of
    `averages`, Wilcoxon's signed-rank p over the tasks' differences, and that p after Holm's correction for all
    methods compared. Raises PeftlabError for an unknown baseline, and where `score_array` does.
    """
    names = sorted(ledger[by].unique())
    if baseline not in names:
        raise PeftlabError(f"no baseline {baseline!r} in this ledger{near(baseline, names)}")
    score_array(ledger, by, value)  # complete, and of one kind
    of_baseline = ledger[ledger[by] == baseline].set_index(["task", "seed"])[value]
    keys = pd.MultiIndex.from_frame(ledger[["task", "seed"]])
    differences = ledger.assign(**{value: ledger[value] - of_baseline.loc[keys].to_numpy()})
    differences = differences[differences[by] != baseline]
    values, names, tasks = score_array(differences, by, value)
    rows = [
        (name, task, *mean_interval(seeds, level))
        for name, each in zip(names, values, strict=True)
        for task, seeds in zip(tasks, each, strict=True)
    ]
    p = np.array([stats.wilcoxon(d).pvalue if np.any(d) else 1.0 for d in values.mean(-1)])
    means = averages(differences, by, value, level).filter(like="over tasks")
    summary = means.set_axis(["difference", "low", "high"], axis=1).assign(**{"p": p, "p (Holm)": holm(p)})
    return pd.DataFrame(rows, columns=[by, "task", "difference", "low", "high"]), summary


def holm(p: ArrayLike) -> Float[np.ndarray, " tests"]:
    """P-values corrected for several tests: the k-th smallest of n times n - k + 1, never falling. Holm 1979.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p, float)
    order = raw.argsort()
    stepped = np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw))))
    corrected = np.empty_like(raw)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def ranks(
    ledger: pd.DataFrame, by: str = "method", value: str = "test_accuracy", level: float = 0.95
) -> tuple[pd.Series, float, float]:
    """Mean rank of every method over tasks, 1 the best -> (Series, Friedman's p, Nemenyi's critical difference).

    Ranks are of means over seeds; ties share theirs. Two methods are significantly different where their mean ranks
    are further apart than the critical difference. Demsar 2006, JMLR 7. Raises PeftlabError for fewer than three
    methods, and where `score_array` does.

    >>> runs = pd.DataFrame({"method": ["linear", "norm", "lora"] * 2, "task": ["dtd"] * 3 + ["eurosat"] * 3})
    >>> runs = runs.assign(seed=0, synthetic=False, test_accuracy=[0.5, 0.6, 0.7, 0.7, 0.9, 0.8])
    >>> table, p, critical = ranks(runs)
    >>> table.to_dict(), f"{critical:.2f}"
    ({'lora': 1.5, 'norm': 1.5, 'linear': 3.0}, '2.34')
    """
    values, names, tasks = score_array(ledger, by, value)
    if len(names) < 3:
        raise PeftlabError(f"ranks compare three methods or more, not {len(names)}; for two use `paired`")
    by_task = values.mean(-1)  # [methods, tasks]
    mean_ranks = stats.rankdata(-by_task, axis=0).mean(1)
    k, n = by_task.shape
    q = stats.studentized_range.ppf(level, k, np.inf) / np.sqrt(2)
    order = mean_ranks.argsort(kind="stable")
    table = pd.Series(mean_ranks[order], index=pd.Index([names[i] for i in order], name=by), name="mean rank")
    return table, stats.friedmanchisquare(*by_task).pvalue, q * np.sqrt(k * (k + 1) / (6 * n))
