"""Methods compared on the images of one test set: each against the best, image by image and seed by seed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats


def interval(
    values: Float[np.ndarray, "seeds images"], ends: tuple[float, float], times: int, level: float
) -> tuple[float, float, float]:
    """(mean, low, high) of something between two ends that was measured on every image by every seed.

    The normal interval, with two made-up images added, `times` times, one at each end: where all images agree, few of
    them are no proof. For accuracies `times` is 2 (Agresti & Coull 1998, American Statistician 52), for differences of
    them 1 (Agresti & Min 2005, Statistics in Medicine 24). What seeds differ by is added; one seed says nothing of it.

    >>> "{:.2f} ({:.2f} to {:.2f})".format(*interval(np.ones((1, 10)), (0, 1), 2, 0.95))
    '1.00 (0.67 to 1.00)'
    """
    each = np.concatenate([values.mean(0), np.repeat(ends, times)])
    variance = each.var() / len(each)
    if len(values) > 1:
        variance += values.mean(1).var(ddof=1) / len(values)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(variance)
    low, high = np.clip([each.mean() - half, each.mean() + half], *ends)
    return float(values.mean()), float(low), float(high)


def against_best(right: Mapping[str, Bool[np.ndarray, "seeds images"]], level: float = 0.95) -> pd.DataFrame:
    """{method: where each seed was right} -> DataFrame, a row a method, the best mean first.

    Columns: accuracy, low, high; below: how far the method is below the best on the same images and seeds, with
    below low, below high; behind: whether that interval excludes 0. Intervals of differences hold for all methods
    together (Bonferroni: one false alarm among them in 1 of 20 comparisons). The best was found on these images, so
    that it is a little flattered.

    >>> good, same, bad = np.ones((2, 40), bool), np.ones((2, 40), bool), np.eye(2, 40, dtype=bool)
    >>> against_best({"linear": bad, "lora": good, "norm": same})[["below", "behind"]].round(2).to_dict("index")
    {'lora': {'below': 0.0, 'behind': False}, 'norm': {'below': 0.0, 'behind': False}, \
'linear': {'below': 0.98, 'behind': True}}
    """
    order = sorted(right, key=lambda name: -right[name].mean())
    each = 1 - (1 - level) / max(1, len(right) - 1)
    rows = []
    for name in order:
        accuracy, low, high = interval(right[name].astype(float), (0, 1), 2, level)
        gap = right[order[0]].astype(float) - right[name]
        below, least, most = interval(gap, (-1, 1), 1, each) if name != order[0] else (0.0, 0.0, 0.0)
        rows.append((accuracy, low, high, below, least, most, least > 0))
    columns = ["accuracy", "low", "high", "below", "below low", "below high", "behind"]
    return pd.DataFrame(rows, pd.Index(order, name="method"), columns)
