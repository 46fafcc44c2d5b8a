"""What the evidence of a comparison is worth: differences it could see, images that methods differ on, guides."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from ..analysis.guide import GUIDES
from ..analysis.power import cells_needed, noise, smallest_difference
from ..results.ledger import task_titles
from .style import PALETTE, axes_or_new, method_style

SEEDS = range(2, 21)  # one seed alone says nothing of noise, so no test begins there


def smallest_differences(
    ledger: pd.DataFrame, pairs: Iterable[tuple[str, str]] | None = None, by: str = "label", ax: Axes | None = None
) -> Axes:
    """Mean difference of two methods that shows with 80 % power against seeds, a line a number of tasks -> Axes.

    Seed noise alone, on tasks that are the same for all; the blue line has this table's tasks, the diamond is it. The
    second line of the title says what it would take for other tasks of the kind. pairs: whose noise counts, as in
    `power.noise`.
    """
    of_seeds, of_tasks = noise(ledger, pairs, by)
    tasks, seeds = ledger["task"].nunique(), ledger["seed"].nunique()
    ax = axes_or_new(ax, (7, 4.6))
    for i, n in enumerate(sorted({1, 4, 19, tasks})):
        y = [smallest_difference(of_seeds, n * s, tasks=n) for s in SEEDS]
        color = PALETTE[0] if n == tasks else "0.55"
        ax.plot(SEEDS, y, marker="osv^"[i], color=color, markersize=4)
        name = f"{n} task{'s' * (n > 1)}"
        ax.annotate(name, (SEEDS[-1], y[-1]), (7, 0), textcoords="offset points", va="center", color=color)
    here = smallest_difference(of_seeds, tasks * seeds, tasks=tasks)
    spot = f"this table: {tasks} tasks x {seeds} seeds"
    ax.plot(seeds, here, "D", color="black", markersize=9, label=spot)
    ax.axhline(1, color="0.4", linestyle="--", linewidth=1, label="1 point")
    ax.legend(loc="upper right")
    ax.set(xscale="log", yscale="log", xlim=(1.85, 29))  # names of the lines stand behind 20
    ax.set(xlabel="seeds", ylabel="smallest mean difference seen\nwith 80 % power (points)")
    for axis, ticks in ((ax.xaxis, (2, 3, 5, 10, 20)), (ax.yaxis, (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100))):
        low, high = axis.get_view_interval()
        axis.set_ticks([tick for tick in ticks if low <= tick <= high], labels=None)
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
    needed = cells_needed(of_seeds, 1, tasks=tasks) // tasks
    anew = smallest_difference(np.hypot(of_tasks, of_seeds / np.sqrt(seeds)), tasks)
    ax.set_title(
        f"{tasks} tasks with {seeds} seeds show differences from {here:.1f} points on; 1 point takes {needed} seeds\n"
        f"(SD {of_seeds:.1f} over seeds; {of_tasks:.1f} over tasks: for other tasks of the kind, {anew:.1f} points)",
    )
    return ax


def disagreement(shares: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Images on which exactly one of two runs is right, in %, a row a method, the best first -> Axes.

    shares: from `agreement.disagreement`. Grey dots: with every other method. The mark is the control: two seeds of
    this one.
    """
    percent = 100 * shares.to_numpy()
    n = len(percent)
    ax = axes_or_new(ax, (8, 1.8 + 0.27 * n))
    for y, (name, row) in enumerate(zip(shares.index, percent, strict=True)):
        color, marker = method_style(name)
        ax.plot(np.delete(row, y), [y] * (n - 1), "o", color="0.8", markersize=5)
        ax.plot(row[y], y, marker, color=color, markersize=8)
    between, control = np.median(percent[~np.eye(n, dtype=bool)]), np.median(np.diag(percent))
    ax.axvline(between, color="0.6", linestyle=":")
    ax.axvline(control, color="0.2", linestyle=":")
    ax.set_yticks(range(n), shares.index)
    ax.set(xlabel="images on which exactly one of two runs is right (%)", ylim=(n - 0.5, -0.5))
    ax.set_title(
        f"Two methods differ on {between:.1f} % of images (grey dots),\n"
        f"two seeds of one method on {control:.1f} % (marks; dotted: medians)"
    )
    return ax


def votes(gains: dict[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Points that votes gain over the mean of their members and over the best of them, a row a kind of vote -> Axes.

    gains: a name of the kind to its rows from `agreement.vote_gains`. A small mark is a vote, the line a kind's mean.
    """
    marks = {"over mean": ("o", "over the mean of its members"), "over best": ("D", "over the best of them")}
    ax = axes_or_new(ax, (8, 1.9 + 0.7 * len(gains)))
    for y, of_kind in enumerate(gains.values()):
        for k, (column, (marker, _)) in enumerate(marks.items()):
            height = y + 0.3 * (k - 0.5)
            ax.plot(of_kind[column], [height] * len(of_kind), marker, color=PALETTE[k], markersize=6, alpha=0.5)
            ax.plot([of_kind[column].mean()] * 2, [height - 0.12, height + 0.12], color="black", linewidth=2.5)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_yticks(range(len(gains)), list(gains))
    ax.set(xlabel="points that a vote gains, mean over tasks", ylim=(len(gains) - 0.5, -0.5))
    handles = [
        Line2D([], [], marker=marker, color=PALETTE[k], linestyle="", label=label)
        for k, (marker, label) in enumerate(marks.values())
    ]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.4, -0.28), ncols=2)
    means = "; ".join(f"{name}: {of_kind['over mean'].mean():+.1f}" for name, of_kind in gains.items())
    ax.set_title(f"A vote against the mean of its members, in points\n{means}")
    return ax


MARKERS = dict(zip(GUIDES, "o^D", strict=True))


def guides(regrets: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What each guide to a learning rate loses against the best one on test, by task -> Axes.

    regrets: from `guide.regrets`. A mark is a method; the grey bar is the binomial
    standard error of an accuracy on val200, mean over methods.
    """
    tasks = sorted(regrets["task"].unique())
    ax = axes_or_new(ax, (7, 1.9 + 0.42 * len(tasks)))
    for y, task in enumerate(tasks):
        of_task = regrets[regrets["task"] == task]
        ax.barh(y, of_task["error"].mean(), height=0.8, color="0.88")
        for k, (guide, marker) in enumerate(MARKERS.items()):
            for row in of_task[of_task["guide"] == guide].to_dict("records"):
                ax.plot(row["regret"], y + 0.25 * (k - 1), marker, color=PALETTE[k], markersize=7)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_yticks(range(len(tasks)), [task_titles(regrets)[task] for task in tasks])
    labels = ", ".join(sorted(set(regrets["label"])))
    ax.set(xlabel=f"points below the best rate on test ({labels})", ylim=(len(tasks) - 0.5, -0.5))
    handles: list[Artist] = [
        Line2D([], [], marker=marker, color=PALETTE[k], linestyle="", label=guide)
        for k, (guide, marker) in enumerate(MARKERS.items())
    ]
    handles += [Patch(facecolor="0.88", label="standard error of an accuracy on val200")]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=2)
    own, mean, voted = (regrets[regrets["guide"] == guide]["regret"] for guide in GUIDES)
    missed = f"{(own > 0).sum()} of {len(own)} cases"
    ax.set_title(
        f"The rate that val200 chose loses {mean.mean():.1f} points, a vote of all rates {voted.mean():.1f} "
        f"(means of {len(mean)})\nthe task's own val200 chose another than the best in {missed}",
    )
    return ax
