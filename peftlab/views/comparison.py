"""Methods compared over tasks and seeds: points above a baseline, differences, fronts of cost, ranks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from ..analysis.comparison import on_front
from ..results.ledger import task_titles
from ..results.statistics import paired, ranks, score_array
from .style import DIVERGING, FREE, PALETTE, axes_or_new, method_color, method_style

NOISE, REST = "0.93", "0.6"  # background of cells within the noise; names and dots of what is not on the front


def heatmap(ledger: pd.DataFrame, by: str = "method", baseline: str = "linear", ax: Axes | None = None) -> Axes:
    """Points above a baseline, mean over seeds, a row a method, a column a task by group -> Axes.

    One diverging scale for all tasks. Grey: within 1.96 standard errors that the test images leave a difference, as
    if the two were measured on different ones. Last row: the baseline's own accuracy in %. Rows are ordered by mean.
    Raises PeftlabError where `score_array` does.

    >>> runs = {"method": ["lora", "linear"], "task": "dtd", "group": "natural", "seed": 0, "synthetic": False}
    >>> ax = heatmap(pd.DataFrame(runs | {"test_accuracy": [0.6, 0.4], "test_images": 500}))
    >>> [label.get_text() for label in ax.get_yticklabels()], [text.get_text() for text in ax.texts]
    (['lora', 'linear (%)'], ['+20', '40'])
    """
    score_array(ledger, by)  # complete, or a mean over fewer tasks would have a place in the order
    groups = ledger.groupby("task")["group"].first().sort_values(kind="stable")
    accuracy = ledger.pivot_table(index=by, columns="task", values="test_accuracy")[groups.index]
    images = ledger.groupby("task")["test_images"].first()[groups.index]
    base = accuracy.loc[baseline]
    order = accuracy.mean(axis=1).drop(baseline).sort_values(ascending=False).index
    points = 100 * (accuracy.loc[order] - base)
    error = 100 * np.sqrt((accuracy * (1 - accuracy)).loc[order].add(base * (1 - base)) / images)
    signal = points.abs() > norm.ppf(0.975) * error
    ax = axes_or_new(ax, (0.95 * len(base) + 3.4, 0.3 * len(order) + 2.2))
    ax.set_facecolor(NOISE)
    end = points.abs().to_numpy().max()
    shown = ax.imshow(points.where(signal), cmap=DIVERGING, vmin=-end, vmax=end, aspect="auto")
    for (y, x), value in np.ndenumerate(points.to_numpy()):
        color = "0.5" if not signal.iloc[y, x] else "white" if abs(value) > 0.6 * end else "black"
        ax.text(x, y, f"{value:+.0f}", ha="center", va="center", color=color)
    for x, value in enumerate(100 * base):
        ax.text(x, len(order), f"{value:.0f}", ha="center", va="center", weight="bold")
    ax.set_ylim(len(order) + 0.5, -0.5)
    ax.set_yticks(range(len(order) + 1), [*order, f"{baseline} (%)"])
    names = [task_titles(ledger)[task] for task in groups.index]
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(shown, ax=ax, label=f"points above {baseline}", fraction=0.04, pad=0.02)
    best = points.max()
    ax.set_title(
        f"The best method is {best.max():.0f} points above {baseline} on {best.idxmax()}, {best.min():.0f} on "
        f"{best.idxmin()}\n{(~signal).to_numpy().sum()} of {signal.size} differences are within the noise (grey)"
    )
    return ax


def differences(ledger: pd.DataFrame, baseline: str, by: str = "method", ax: Axes | None = None) -> Axes:
    """What every method adds to a baseline, in points -> Axes. Pale dots are tasks (means over paired seeds).

    Marks are means over tasks with the intervals of `statistics.paired`; grey where these contain 0, or
    where there are none.
    """
    per_task, over = paired(ledger, baseline, by)
    over = 100 * over.sort_values("difference")[["difference", "low", "high"]]
    ax = axes_or_new(ax, (8, 0.28 * len(over) + 1.5))
    for y, (name, mean, low, high) in enumerate(over.itertuples()):
        color, marker = method_style(name)
        if not (low > 0 or high < 0):
            color = FREE
        dots = 100 * per_task[per_task[by] == name]["difference"]
        ax.plot(dots, [y] * len(dots), "o", color="0.85", markersize=4, zorder=0)
        ax.plot([low, high], [y, y], color=color, linewidth=2, alpha=0.5 if color == FREE else 1)
        ax.plot(mean, y, marker, color=color, markersize=7, markerfacecolor="white" if color == FREE else color)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_yticks(range(len(over)), over.index)
    ax.set(xlabel=f"points above {baseline}, mean over {per_task['task'].nunique()} tasks")
    behind, ahead = (over["high"] < 0).sum(), (over["low"] > 0).sum()
    ax.set_title(f"{behind} of {len(over)} methods are behind {baseline} beyond their interval, {ahead} ahead")
    return ax


NEAR = 2.0  # points below the best that a budget may cost: about what a learning rate moves
SHOWN = 8.0  # points below the best where a front's axis ends


def front(ledger: pd.DataFrame, cost: pd.Series, label: str, by: str = "method", ax: Axes | None = None) -> Axes:
    """Mean accuracy over tasks against a cost -> Axes. The Pareto front is coloured and named, the rest is grey.

    cost: Series {method: cost}. label: of its axis, with the unit. Lines reach from the lowest to the highest seed (of
    the mean over tasks); the spread over tasks is common to all methods. Triangles that point down are methods below
    the axis.
    """
    (values, names, tasks), ax = score_array(ledger, by), axes_or_new(ax, (7, 4.6))
    seeds = 100 * values.mean(1)  # [methods, seeds]
    x, y = cost.loc[names].to_numpy(float), seeds.mean(1)
    best, lowest = on_front(x, y), y.max() - SHOWN
    line = np.flatnonzero(best)[np.argsort(x[best], kind="stable")]
    ax.step(x[line], y[line].clip(lowest), where="post", color="0.7", linewidth=1, zorder=0)
    for i, name in enumerate(names):
        color, marker = method_style(name) if best[i] else ("0.75", "o")
        low, high = seeds[i].min().clip(lowest), seeds[i].max().clip(lowest)
        ax.plot([x[i]] * 2, [low, high], color=color, linewidth=1)
        ax.plot(x[i], max(y[i], lowest), marker if y[i] > lowest else "v", color=color, markersize=9 if best[i] else 5)
    if x.max() > 50 * max(x.min(), 1):
        ax.set_xscale("symlog", linthresh=max(1.0, x[x > 0].min()))
        label = f"{label} (log)"
    ax.margins(x=0.12)
    top = lowest  # names keep a line of type from one another
    for i in line:
        name, side = (f"{names[i]}  ", "right") if y[i] > lowest else (f"  {names[i]} {y[i]:.0f} %", "left")
        point = max(y[i], lowest)
        top = max(point + SHOWN / 50, top + SHOWN / 14)
        arrow = {"arrowstyle": "-", "color": "0.8", "shrinkB": 5} if top > point + SHOWN / 30 else None
        ax.annotate(name, (x[i], point), (x[i], top), ha=side, color=method_color(names[i]), arrowprops=arrow)
    ax.set_ylim(lowest - SHOWN / 20, top + SHOWN / 12)
    ax.set(xlabel=label, ylabel=f"test accuracy (%), mean over {len(tasks)} tasks")
    cheap = next(i for i in line if y[i] > y.max() - NEAR)
    ax.set_title(
        f"{best.sum()} of {len(names)} are on the front; cheapest within {NEAR:.0f} points of the best: {names[cheap]}"
    )
    return ax


def critical_difference(ledger: pd.DataFrame, by: str = "method", ax: Axes | None = None) -> Axes:
    """Mean ranks over tasks; grey: not significantly different from the best -> Axes.

    Nemenyi's test at 5 %, the band that it leaves behind the best: Demsar 2006, JMLR 7.
    """
    table, p, critical = ranks(ledger, by)
    end = table.iloc[0] + critical
    ax = axes_or_new(ax, (8, 1.6 + 0.26 * len(table)))
    ax.axvspan(table.iloc[0], end, color="0.94", zorder=0)
    for y, (name, rank) in enumerate(table.items()):
        color, marker = method_style(str(name)) if rank > end else (FREE, "o")
        ax.plot(rank, y, marker, color=color, markersize=7)
        ax.annotate(f"{rank:.1f}", (rank, y), (8, 0), textcoords="offset points", va="center", color=color)
    ax.annotate(
        f"critical difference {critical:.1f}", ((table.iloc[0] + end) / 2, len(table) - 0.6), ha="center", va="bottom"
    )
    ax.set_yticks(range(len(table)), table.index)
    ax.set(ylim=(len(table) - 0.4, -0.6), xlim=(0.5, len(table) + 0.5))
    ax.set(xlabel=f"mean rank over {ledger['task'].nunique()} tasks, 1 is best")
    behind = (table > end).sum()
    ax.set_title(f"{behind} of {len(table) - 1} methods rank significantly behind the best (Friedman's p = {p:.2g})")
    return ax


MARKERS = "so^vDPX"  # a source each: colours alone are too alike for some


def against_published(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Published means over VTAB-1k's 19 tasks by source, at the right ours; two axes that share only their rows.

    ours: `statistics.averages` by method. published: `published.published_means`. Neither level nor distance can be
    carried over from one side to the other: backbone, images and training differ. Colours and marks are sources.
    """
    names = [name for name in ours["mean over tasks"].sort_values().index if name in set(published["method"])]
    printed = published[published["method"].isin(names)]
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.2 + 0.3 * len(names)), sharey=True, layout="constrained")
    for i, (source, rows) in enumerate(printed.groupby("source", sort=False)):
        at = [names.index(method) for method in rows["method"]]
        axes[0].plot(
            rows["mean over tasks"], at, MARKERS[i % len(MARKERS)], color=PALETTE[i], markersize=7, label=source
        )
    for y, name in enumerate(names):
        row = 100 * ours.loc[name]
        axes[1].plot(row[["mean over tasks low", "mean over tasks high"]], [y, y], color="0.5")
        axes[1].plot(row["mean over tasks"], y, "o", color="0.2")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set(xlabel="mean over tasks (%)", title="published, ViT-B/16, VTAB-1k")
    axes[1].set(xlabel="mean over tasks (%)", title="measured here, 95 % interval over tasks")
    figure.legend(loc="outside lower center", ncols=2)
    spread = printed.groupby("method")["mean over tasks"].agg(["min", "max"])
    most = np.ptp(spread.to_numpy(), axis=1).argmax()
    low, high = spread.iloc[most]
    figure.suptitle(
        f"{spread.index[most]} is printed as {low:.1f} and as {high:.1f}: the source moves it by {high - low:.1f}"
    )
    return figure
