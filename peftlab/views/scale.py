"""The same methods on backbones of several sizes: what they reach, and what moves an accuracy further."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from ..analysis.scale import OVERALL, by_backbone, moves
from ..results.ledger import task_titles
from .style import PALETTE, axes_or_new, method_style

DODGE = 1.05  # between methods on the log axis, so that their marks do not cover one another
LINE = 0.065  # of the axis' height: what a line of type takes


def accuracies(shared: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Mean accuracy against the parameters of the backbone (log) -> Axes, a line a method in its style.

    shared: from `analysis.scale.on_every_backbone`. Bars are 95 % intervals over test images. The methods of one
    backbone stand side by side, in the order of the largest one.
    """
    table = by_backbone(shared)
    on, sizes = table["on"].unique(), table["size"].unique()
    last = table[table["on"] == on[-1]].sort_values("mean")
    low, high = 100 * table["low"].min(), 100 * table["high"].max()
    ax, below = axes_or_new(ax, (6.5, 4.6)), low
    for i, (label, top) in enumerate(zip(last["label"], 100 * last["mean"], strict=True)):
        rows, (color, marker) = table[table["label"] == label], method_style(label)
        x = rows["size"] * DODGE ** (i - (len(last) - 1) / 2)
        ax.plot(x, 100 * rows["mean"], marker=marker, color=color, markersize=8, linewidth=1.5)
        ax.vlines(x, 100 * rows["low"], 100 * rows["high"], color=color, linewidth=1.5)
        below = max(top, below + LINE * (high - low))
        line = {"arrowstyle": "-", "color": "0.8", "shrinkB": 6}
        ax.annotate(label, (x.iloc[-1], top), (1.35 * sizes[-1], below), color=color, va="center", arrowprops=line)
    ax.set_xscale("log")
    names = table.groupby("size")["on"].unique().str.join(" and\n")  # those of one size share a place
    names = names.str.replace(".", "\n.").str.replace(", ", "\n")  # long ones on several lines
    ax.set_xticks(names.index, [f"{name}, {size / 1e6:.1f} M" for size, name in zip(sizes, names, strict=True)])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(sizes[0] / 1.6, 2.9 * sizes[-1])
    tasks = shared["task"].nunique()
    ax.set(xlabel="backbone and its parameters (log)", ylabel=f"test accuracy (%), mean over {tasks} tasks")
    overall = moves(shared).loc[OVERALL]
    ax.set_title(
        f"Another backbone moves the mean by {overall['backbone']:.0f} points,\n"
        f"another method by {overall['method']:.0f}"
    )
    return ax


def task_moves(shared: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Points by which another backbone (diamond) and another method (dot) move each task -> Axes, a row a task.

    shared: from `analysis.scale.on_every_backbone`. Above, the task where the backbone is ahead by most.
    """
    table = moves(shared).drop(OVERALL)
    ahead = table["backbone"] - table["method"]
    table = table.loc[ahead.sort_values(ascending=False, kind="stable").index]
    ax = axes_or_new(ax, (6.5, 1.8 + 0.5 * len(table)))
    y = range(len(table))
    ax.hlines(y, table.min(axis=1), table.max(axis=1), color="0.8", linewidth=2, zorder=0)
    ax.plot(table["backbone"], y, "D", color=PALETTE[0], markersize=9, label="another backbone")
    ax.plot(table["method"], y, "o", color=PALETTE[1], markersize=9, label="another method")
    ax.set_yticks(y, [task_titles(shared)[task] for task in table.index])
    ax.set(xlabel="points of test accuracy, mean over pairs", ylim=(len(table) - 0.5, -0.5))
    ax.set_xlim(left=0)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    ax.set_title(f"The backbone moves {(ahead > 0).sum()} of {len(table)} tasks further than the method does")
    return ax
