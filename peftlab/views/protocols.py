"""What the protocol alone does to a comparison: ranks that change, and what test-set selection seems to gain."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import kendalltau

from ..analysis.comparison import overall_ranks
from ..results.ledger import task_titles
from ..results.selection import HABITS
from ..results.statistics import mean_interval
from .style import PALETTE, axes_or_new, method_color


def rank_shifts(tables: Mapping[str, pd.DataFrame], by: str = "method", ax: Axes | None = None) -> Axes:
    """Ranks under several protocols, a column each; lines that cross are methods whose order changes -> Axes.

    tables: {name: ledger} of the same methods. Below: Kendall's tau of each column with the first, 1 for the same.

    >>> runs = pd.DataFrame({"method": ["lora", "norm"], "task": "dtd", "seed": 0, "synthetic": False})
    >>> tables = {"ours": runs.assign(test_accuracy=[0.7, 0.6]), "theirs": runs.assign(test_accuracy=[0.6, 0.7])}
    >>> [text.get_text() for text in rank_shifts(tables).texts]
    ['lora  1', '2  lora', 'norm  2', '1  norm']
    """
    table = overall_ranks(tables, by)
    ax = axes_or_new(ax, (1.2 + 1.7 * len(table.columns), 1.2 + 0.24 * len(table)))
    x = np.arange(len(table.columns))
    for name, row in zip(table.index, table.to_numpy(), strict=True):
        ax.plot(x, row, "o-", color=method_color(name), markersize=5, linewidth=1.2)
        ax.text(-0.1, row[0], f"{name}  {row[0]}", ha="right", va="center")
        ax.text(x[-1] + 0.1, row[-1], f"{row[-1]}  {name}", ha="left", va="center")
    tau = [kendalltau(table.iloc[:, 0], table[column]).statistic for column in table]
    names = [f"{name}\nτ = {t:.2f}" if i else str(name) for i, (name, t) in enumerate(zip(table, tau, strict=True))]
    ax.set_xticks(x, names)
    ax.set(xlim=(-1.1, x[-1] + 1.1), ylim=(len(table) + 0.5, 0.5), yticks=[])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def selection_gain(gains: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Points that habits of choosing on the test split add to the honest accuracy, by task -> Axes.

    gains: from `test_selection.gains`. A dot is a run of one method and seed; a diamond the mean over them with
    Student's 95 % interval.
    """
    tasks, shown = sorted(gains["task"].unique()), HABITS[1:]
    ax = axes_or_new(ax, (6, 1.2 + 0.7 * len(tasks)))
    for k, habit in enumerate(shown):
        color = PALETTE[(0, 3)[k]]
        for t, task in enumerate(tasks):
            values, y = gains[(gains["task"] == task) & (gains["habit"] == habit)]["gain"], t + 0.3 * k - 0.15
            ax.plot(values, [y] * len(values), "o", color=color, alpha=0.3, markersize=4)
            mean, low, high = mean_interval(values)
            ax.plot([low, high], [y, y], color=color, linewidth=2)
            ax.plot(mean, y, "D", color=color, markersize=6, label=None if t else f"{habit} on test")
    ax.set_yticks(range(len(tasks)), [task_titles(gains)[task] for task in tasks])
    ax.axvline(0, color="0.5", linewidth=1)
    ax.set(xlabel="points above the honest accuracy of the same run", ylim=(len(tasks) - 0.5, -0.5))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return ax
