"""Methods compared: which are on the front of cost and accuracy, how they rank."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool

from ..results.statistics import score_array


def on_front(costs: Iterable[float], values: Iterable[float]) -> Bool[np.ndarray, " points"]:
    """The Pareto front: no other point costs at most as much and is worth more, or costs less and is worth as much.

    >>> on_front([0, 10, 20, 30], [50.0, 70.0, 60.0, 75.0])  # the third costs more than the second and is worth less
    array([ True,  True, False,  True])
    """
    cost, value = np.array(list(costs), float), np.array(list(values), float)
    cheaper, better = cost[:, None] >= cost, value[:, None] <= value
    strictly = (cost[:, None] > cost) | (value[:, None] < value)
    return np.asarray(~(cheaper & better & strictly).any(1))


def overall_ranks(tables: Mapping[str, pd.DataFrame], by: str = "method") -> pd.DataFrame:
    """Rank of every method by its mean over tasks and seeds, 1 the best; a row a method, a column a table.

    tables: {name: ledger} of the same methods. by: the column with the names of the methods.
    """
    means = {}
    for name, table in tables.items():
        values, methods, _ = score_array(table, by)
        means[name] = pd.Series(values.mean((1, 2)), methods)
    return pd.DataFrame(means).rank(ascending=False, method="first").astype(int)
