"""What a comparison of this size could have seen: the noise of seeds and the spread over tasks, in points.

Seeds say how sure a difference is on these tasks, tasks how sure it is beyond them. The first is cheap to lower.
"""

from collections.abc import Iterable
from itertools import combinations
from math import floor, sqrt

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ..common.errors import Range, check_at_least, check_choice
from ..results.statistics import score_array


def noise(
    ledger: pd.DataFrame, pairs: Iterable[tuple[str, str]] | None = None, by: str = "label"
) -> tuple[float, float]:
    """(SD over seeds, SD over tasks) of the difference between two methods, same task and seed, in points.

    Over seeds: of one task, pooled (root of the mean variance) over tasks and pairs. Over tasks: of the differences
    without that noise, pooled over pairs; its variance is that of the means over seeds less what seeds add to them, 0
    where that is negative. pairs: of names; all where not given. Raises PeftlabError for unknown names, for fewer than
    two seeds or tasks, and where `score_array` does.

    >>> runs = pd.DataFrame({"label": ["a"] * 4 + ["b"] * 4, "task": ["dtd", "dtd", "pets", "pets"] * 2})
    >>> runs = runs.assign(seed=[0, 1] * 4, synthetic=False, test_accuracy=[0.52, 0.56, 0.62, 0.66] + [0.5] * 4)
    >>> "{:.2f} {:.2f}".format(*noise(runs))  # differences 2 and 6, 12 and 16: means 4 and 14
    '2.83 6.78'
    """
    values, names, tasks = score_array(ledger, by)
    seeds = values.shape[-1]
    check_at_least("number of seeds", seeds, 2)
    check_at_least("number of tasks", len(tasks), 2)
    chosen = list(combinations(names, 2) if pairs is None else pairs)
    for name in {name for pair in chosen for name in pair}:
        check_choice(by, name, names)
    first, second = np.array([[names.index(name) for name in pair] for pair in chosen]).T
    differences = 100 * (values[first] - values[second])  # [pairs, tasks, seeds]
    of_seeds = differences.var(-1, ddof=1).mean()
    of_tasks = differences.mean(-1).var(-1, ddof=1).mean() - of_seeds / seeds
    return float(np.sqrt(of_seeds)), float(np.sqrt(max(of_tasks, 0.0)))


def smallest_difference(sd: float, cells: int, power: float = 0.8, level: float = 0.05, tasks: int = 1) -> float:
    """Smallest true mean difference that a two-sided t-test shows with this power, in the unit of sd.

    cells: paired differences, tasks x seeds, of standard deviation sd. tasks: fixed ones among the cells, whose own
    differences may be any; each takes a degree of freedom, so that cells - tasks are left. sd is then the noise of
    seeds, pooled over tasks. For tasks that stand for others: sd of their means, a cell for each, tasks=1. Raises
    PeftlabError where no degree of freedom is left.

    >>> f"{smallest_difference(1.0, 2):.2f}, {smallest_difference(1.0, 10_000):.4f}"  # 1.960 + 0.842 for many
    '11.55, 0.0280'
    """
    check_at_least("cells", cells, tasks + 1)
    freedom = cells - tasks
    critical = stats.t.ppf(1 - level / 2, freedom)
    # how many standard errors; a significant difference of the wrong sign does not count as seen
    missing = lambda errors: stats.nct.sf(critical, freedom, errors) - power  # noqa: E731
    return float(optimize.brentq(missing, 0, 10 * (1 + critical))) * sd / sqrt(cells)


def cells_needed(sd: float, difference: float, power: float = 0.8, level: float = 0.05, tasks: int = 1) -> int:
    """Fewest cells, a multiple of tasks, with which a difference shows: `smallest_difference` the other way round.

    >>> cells_needed(sd=2.0, difference=1.0), cells_needed(sd=2.0, difference=1.0, tasks=8) // 8  # seeds
    (34, 5)
    """
    Range(above=0).check("difference", difference)
    # from what the normal distribution asks for, which is never more
    normal = ((stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)) * sd / difference) ** 2
    cells = tasks * max(2, floor(normal / tasks))
    while smallest_difference(sd, cells, power, level, tasks) > difference:
        cells += tasks
    return cells
