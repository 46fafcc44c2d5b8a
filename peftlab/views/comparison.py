"""Methods compared over tasks and seeds: a table as colours, dots for seeds, fronts of cost, ranks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.comparison import cliques, on_front
from ..results.ledger import task_titles
from ..results.statistics import mean_interval, paired, ranks, score_array
from .style import PALETTE, SEQUENTIAL, axes_or_new, method_color, method_style


def heatmap(ledger: pd.DataFrame, by: str = "method", ax: Axes | None = None) -> Axes:
    """Mean test accuracy in % over seeds, a row a method, a column a task, by group -> Axes.

    Colours compare within a task: its best method is brightest, its worst darkest. Rows are ordered by the mean over
    tasks.

    >>> runs = {"method": ["lora", "norm"], "task": "dtd", "group": "natural", "seed": 0, "synthetic": False}
    >>> ax = heatmap(pd.DataFrame(runs | {"test_accuracy": [0.6, 0.7]}))
    >>> [label.get_text() for label in ax.get_yticklabels()], [text.get_text() for text in ax.texts]
    (['norm', 'lora'], ['70.0', '60.0'])
    """
    table = 100 * ledger.pivot_table(index=by, columns="task", values="test_accuracy")
    groups = ledger.groupby("task")["group"].first().sort_values(kind="stable")
    table = table.loc[table.mean(axis=1).sort_values(ascending=False).index, groups.index]
    within = (table - table.min()) / (table.max() - table.min()).replace(0, 1)
    ax = axes_or_new(ax, (1.0 * len(table.columns) + 2.2, 0.32 * len(table) + 1.4))
    sns.heatmap(within, annot=table.round(1), fmt=".1f", cmap=SEQUENTIAL, cbar=False, ax=ax, annot_kws={"size": 9})
    names = task_titles(ledger)
    ax.set_xticklabels([names[task] for task in table.columns], rotation=30, ha="right")
    ax.tick_params("y", rotation=0)
    ax.set(xlabel="", ylabel="")
    ax.set_title("test accuracy (%), mean over seeds; colours within a task")
    return ax


def strips(ledger: pd.DataFrame, task: str, by: str = "method", ax: Axes | None = None) -> Axes:
    """Every seed of every method on one task as a dot, with means and Student's 95 % intervals -> Axes."""
    rows = ledger[ledger["task"] == task]
    order = rows.groupby(by)["test_accuracy"].mean().sort_values().index
    ax = axes_or_new(ax, (4.8, 0.28 * len(order) + 1.2))
    for y, name in enumerate(order):
        values = 100 * rows[rows[by] == name]["test_accuracy"]
        mean, low, high = mean_interval(values)
        ax.plot(values, [y] * len(values), "o", color="0.65", markersize=4)
        color, marker = method_style(name)
        if low == low:  # one seed has no interval
            ax.plot([low, high], [y, y], color=color, linewidth=1.5)
        ax.plot(mean, y, marker, color=color, markersize=6)
    ax.set_yticks(range(len(order)), order)
    ax.set(xlabel="test accuracy (%)", title=task_titles(ledger)[task])
    return ax


def differences(ledger: pd.DataFrame, baseline: str, by: str = "method", ax: Axes | None = None) -> Axes:
    """What every method adds to a baseline, in points -> Axes. Grey dots are tasks (means over paired seeds).

    Diamonds are means over tasks with the bootstrap intervals of `statistics.paired`.
    """
    per_task, over = paired(ledger, baseline, by)
    over = over.sort_values("difference")
    ax = axes_or_new(ax, (6, 0.28 * len(over) + 1.2))
    for y, (name, row) in enumerate(zip(over.index, over.to_dict("records"), strict=True)):
        dots = 100 * per_task[per_task[by] == name]["difference"]
        ax.plot(dots, [y] * len(dots), "o", color="0.75", markersize=4)
        ax.plot([100 * row["low"], 100 * row["high"]], [y, y], color=method_color(name), linewidth=2)
        ax.plot(100 * row["difference"], y, "D", color=method_color(name), markersize=6)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_yticks(range(len(over)), over.index)
    ax.set(xlabel=f"points above {baseline}")
    return ax


def front(ledger: pd.DataFrame, cost: pd.Series, label: str, by: str = "method", ax: Axes | None = None) -> Axes:
    """Mean accuracy over tasks against a cost, with the Pareto front -> Axes. Names stand at the right, in order.

    cost: Series {method: cost}. label: of its axis, with the unit. Lines reach from the lowest to the highest seed (of
    the mean over tasks); the spread over tasks is common to all methods.
    """
    (values, names, tasks), ax = score_array(ledger, by), axes_or_new(ax, (6, 4.2))
    seeds = 100 * values.mean(1)  # [methods, seeds]
    x, y = cost.loc[names].to_numpy(float), seeds.mean(1)
    best = on_front(x, y)
    line = np.argsort(x[best], kind="stable")
    ax.step(x[best][line], y[best][line], where="post", color="0.6", linewidth=1, zorder=0)
    for i, name in enumerate(names):
        ax.plot([x[i]] * 2, [seeds[i].min(), seeds[i].max()], color=method_color(name), linewidth=1)
        ax.plot(x[i], y[i], "o" if best[i] else "x", color=method_color(name), markersize=6)
    if x.max() > 50 * max(x.min(), 1):
        ax.set_xscale("symlog", linthresh=max(1.0, x[x > 0].min()))
    ax.margins(0.05)
    bottom, top = ax.get_ylim()
    for height, i in zip(np.linspace(0.01, 0.99, len(names)), y.argsort(), strict=True):
        arrow = {"arrowstyle": "-", "color": "0.85", "linewidth": 0.6, "zorder": -1}
        text = ax.annotate(names[i], (x[i], y[i]), (1.07, height), textcoords="axes fraction", arrowprops=arrow)
        text.set(va="center", weight="bold" if best[i] else "normal")
    ax.set(xlabel=label, ylabel=f"test accuracy (%), mean over {len(tasks)} tasks", ylim=(bottom, top))
    return ax


def critical_difference(ledger: pd.DataFrame, by: str = "method", ax: Axes | None = None) -> Axes:
    """Mean ranks over tasks; bars join methods that are not significantly different -> Axes.

    Nemenyi's test at 5 %: Demsar 2006, JMLR 7.
    """
    table, p, critical = ranks(ledger, by)
    groups = cliques(table.to_numpy(), critical)
    ax = axes_or_new(ax, (7, 1.2 + 0.2 * len(table) + 0.12 * len(groups)))
    half = -(-len(table) // 2)
    for i, (name, rank) in enumerate(zip(table.index, table, strict=True)):
        left = i < half
        depth = -1 - (i if left else len(table) - 1 - i)
        edge = 0.6 if left else len(table) + 0.4
        ax.plot([rank, rank, edge], [0, depth, depth], color=method_color(name), linewidth=1)
        text, side = (f"{name} {rank:.2f} ", "right") if left else (f" {rank:.2f} {name}", "left")
        ax.text(edge, depth, text, ha=side, va="center")
    for k, (low, high) in enumerate(groups):
        ax.plot([low - 0.06, high + 0.06], [0.35 + 0.3 * k] * 2, color="0.2", linewidth=3, solid_capstyle="butt")
    ax.plot([1, 1 + critical], [0.9 + 0.3 * len(groups)] * 2, color=PALETTE[3], marker="|")
    ax.text(1 + critical / 2, 1.1 + 0.3 * len(groups), f"critical difference {critical:.2f}", ha="center")
    ax.axhline(0, color="0.2", linewidth=1)
    ax.set_xticks(range(1, len(table) + 1))
    ax.xaxis.tick_top()
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set(xlim=(-1.5, len(table) + 2.5))
    ax.set_title(f"mean rank over {ledger['task'].nunique()} tasks, 1 is best; Friedman's p = {p:.2g}")
    return ax


MARKERS = "so^vD"


def against_published(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Published means over VTAB-1K's 19 tasks by source, at the right ours; two axes that share only their rows.

    ours: `statistics.averages` by method. published: `published.published_means`. Neither level nor distance can be
    carried over from one side to the other: backbone, images and training differ.
    """
    names = [name for name in ours["mean over tasks"].sort_values().index if name in set(published["method"])]
    size = (9.5, 1.4 + 0.3 * len(names))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for i, (source, rows) in enumerate(published.groupby("source", sort=False)):
        rows = rows[rows["method"].isin(names)]
        at = [names.index(method) for method in rows["method"]]
        axes[0].plot(rows["mean over tasks"], at, MARKERS[i % len(MARKERS)], color=PALETTE[i], alpha=0.8, label=source)
    for y, name in enumerate(names):
        row, color = 100 * ours.loc[name], method_color(name)
        axes[1].plot(row[["mean over tasks low", "mean over tasks high"]], [y, y], color=color)
        axes[1].plot(row["mean over tasks"], y, "o", color=color)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set(xlabel="mean over tasks (%)", title="published, ViT-B/16, VTAB-1K")
    axes[1].set(xlabel="mean over tasks (%)", title="measured here")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
