"""Methods compared on the images of one test set: each against the best, image by image and seed by seed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats


def seed_spread(of_methods: list[Float[np.ndarray, "seeds images"]]) -> tuple[float, int]:
    """Variance of a mean over images from seed to seed, pooled over methods -> (variance, degrees of freedom).

    Pooled, because a method's own two or three seeds say next to nothing of it. One seed says nothing: (0, 1).
    """
    seeds = len(of_methods[0])
    if seeds < 2:
        return 0.0, 1
    return float(np.mean([each.mean(1).var(ddof=1) for each in of_methods])), len(of_methods) * (seeds - 1)


def interval(
    values: Float[np.ndarray, "seeds images"],
    ends: tuple[float, float],
    times: int,
    level: float,
    spread: tuple[float, int] = (0.0, 1),
) -> tuple[float, float, float]:
    """(mean, low, high) of something between two ends that was measured on every image by every seed.

    The normal interval, with two made-up images added, `times` times, one at each end: where all images agree, few of
    them are no proof. For accuracies `times` is 2 (Agresti & Coull 1998, American Statistician 52), for differences of
    them 1 (Bonett & Price 2012, Journal of Educational and Behavioral Statistics 37). What seeds differ by
    (`seed_spread`) is added, with Student's quantile for so few of them.

    >>> "{:.2f} ({:.2f} to {:.2f})".format(*interval(np.ones((1, 10)), (0, 1), 2, 0.95))
    '1.00 (0.67 to 1.00)'
    """
    each, tail, (variance, freedom) = np.concatenate([values.mean(0), np.repeat(ends, times)]), (1 + level) / 2, spread
    of_images = stats.norm.ppf(tail) ** 2 * each.var() / len(each)
    half = np.sqrt(of_images + stats.t.ppf(tail, freedom) ** 2 * variance / len(values))
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
    scores = {name: each.astype(float) for name, each in right.items()}
    order = sorted(scores, key=lambda name: -scores[name].mean())
    each = 1 - (1 - level) / max(1, len(right) - 1)
    gaps = {name: scores[order[0]] - scores[name] for name in order[1:]}
    of_seeds = seed_spread([*scores.values()])
    of_gaps = seed_spread([*gaps.values()]) if gaps else (0.0, 1)
    rows = []
    for name in order:
        accuracy, low, high = interval(scores[name], (0, 1), 2, level, of_seeds)
        below, least, most = interval(gaps[name], (-1, 1), 1, each, of_gaps) if name in gaps else (0.0, 0.0, 0.0)
        rows.append((accuracy, low, high, below, least, most, least > 0))
    columns = ["accuracy", "low", "high", "below", "below low", "below high", "behind"]
    return pd.DataFrame(rows, pd.Index(order, name="method"), columns)
