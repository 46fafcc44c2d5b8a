"""What the protocol alone does to a comparison: ranks that change, and what test-set selection seems to gain."""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import kendalltau

from ..analysis.comparison import overall_ranks
from ..results.ledger import task_titles
from ..results.selection import HABITS
from ..results.statistics import mean_interval
from .style import PALETTE, axes_or_new, method_style

HIGHLIGHTED, REST = 3, "0.75"  # methods in colour; the colour of all others


def rank_shifts(tables: Mapping[str, pd.DataFrame], by: str = "method", ax: Axes | None = None) -> Axes:
    """Ranks under several protocols, a column each; lines that cross are methods whose order changes -> Axes.

    tables: {name: ledger} of the same methods. The three that move most are coloured. In the title Kendall's tau of
    each column with the first, 1 for the same order.

    >>> runs = pd.DataFrame({"method": ["lora", "norm"], "task": "dtd", "seed": 0, "synthetic": False})
    >>> tables = {"ours": runs.assign(test_accuracy=[0.7, 0.6]), "theirs": runs.assign(test_accuracy=[0.6, 0.7])}
    >>> [text.get_text() for text in rank_shifts(tables).texts]
    ['lora  1', '2  lora', 'norm  2', '1  norm']
    """
    table = overall_ranks(tables, by)
    ax = axes_or_new(ax, (2.4 + 1.7 * len(table.columns), 1.4 + 0.24 * len(table)))
    x, moves = np.arange(len(table.columns)), np.ptp(table.to_numpy(), axis=1)
    most = np.argsort(-moves, kind="stable")[:HIGHLIGHTED]
    moved = table.index[most[moves[most] > 0]]
    for name, row in zip(table.index, table.to_numpy(), strict=True):
        color, marker = method_style(name) if name in moved else (REST, "o")
        width, text = (2.4, "black") if name in moved else (0.8, "0.5")
        ax.plot(x, row, color=color, marker=marker, markersize=6, linewidth=width, zorder=2 + (name in moved))
        ax.text(-0.1, row[0], f"{name}  {row[0]}", ha="right", va="center", color=text)
        ax.text(x[-1] + 0.1, row[-1], f"{row[-1]}  {name}", ha="left", va="center", color=text)
    tau = [kendalltau(table.iloc[:, 0], table[column]).statistic for column in table.columns[1:]]
    ax.set_xticks(x, [textwrap.fill(str(name), 16) for name in table.columns])
    ax.set(xlim=(-1.1, x[-1] + 1.1), ylim=(len(table) + 0.5, 0.5), yticks=[])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    agree = " and ".join(f"{t:.2f}" for t in tau)
    moving = [f"{name} has ranks {table.loc[name].min()} to {table.loc[name].max()}" for name in moved[:1]]
    ax.set_title("; ".join([f"τ = {agree}", *moving]))
    return ax


def selection_gain(gains: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Points that habits of choosing on the test split add to the honest accuracy, by task -> Axes.

    gains: from `test_selection.gains`. A dot is a run of one method and seed; a diamond the mean over them with
    Student's 95 % interval.
    """
    tasks, shown = sorted(gains["task"].unique()), HABITS[1:]
    ax = axes_or_new(ax, (7.5, 1.8 + 0.7 * len(tasks)))
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
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.22), ncols=2)
    chosen = gains[gains["habit"].isin(shown)].groupby(["habit", "task"])["gain"].apply(mean_interval)
    habit, task = max(chosen.index, key=lambda pair: chosen[pair][0])
    mean, low, high = chosen[habit, task]
    ax.set_title(
        f"{habit} chosen on test: up to {mean:+.1f} points ({low:+.1f} to {high:+.1f}, {task_titles(gains)[task]})"
    )
    return ax
