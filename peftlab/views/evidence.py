"""What the evidence of a comparison is worth: differences it could see, images that methods differ on, guides."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullFormatter

from ..analysis.guide import GUIDES
from ..analysis.power import cells_needed, noise, smallest_difference
from ..methods import METHODS
from ..results.ledger import task_titles
from .style import PALETTE, SEQUENTIAL, axes_or_new, family_color

SEEDS = range(2, 21)  # one seed alone says nothing of noise, so no test begins there


def smallest_differences(
    ledger: pd.DataFrame, pairs: Iterable[tuple[str, str]] | None = None, by: str = "label", ax: Axes | None = None
) -> Axes:
    """Mean difference of two methods that shows with 80 % power against seeds, a line a number of tasks -> Axes.

    Seed noise alone, on tasks that are the same for all; the diamond is this table. The second line of the title says
    what it would take for other tasks of the kind. pairs: whose noise counts, as in `power.noise`.
    """
    of_seeds, of_tasks = noise(ledger, pairs, by)
    tasks, seeds = ledger["task"].nunique(), ledger["seed"].nunique()
    ax = axes_or_new(ax, (7, 4.6))
    for i, n in enumerate(sorted({1, 4, 19, tasks})):
        y = [smallest_difference(of_seeds, n * s, tasks=n) for s in SEEDS]
        ax.plot(SEEDS, y, marker="osv^"[i], color=PALETTE[i], markersize=4)
        name = f"{n} task{'s' * (n > 1)}"
        ax.annotate(name, (SEEDS[-1], y[-1]), (7, 0), textcoords="offset points", va="center", color=PALETTE[i])
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
    """Images on which exactly one of two runs is right, in %, the best method first -> Axes.

    shares: from `agreement.disagreement`. The framed diagonal is the control: two seeds of one method. Colours end
    where a tenth of the cells is still above, for a method far from all others would take the scale for itself.
    """
    percent = 100 * shares.to_numpy()
    n = len(percent)
    ax = axes_or_new(ax, (2.4 + 0.34 * n, 2.2 + 0.3 * n))
    low, high = np.quantile(percent, [0.01, 0.9])
    ax.imshow(percent, cmap=SEQUENTIAL, aspect="auto", vmin=low, vmax=high)
    for (i, j), value in np.ndenumerate(percent):
        color = "black" if value > (low + high) / 2 else "white"
        ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=color)
    for i in range(n):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=PALETTE[3], linewidth=1.8))
    ax.set_xticks(range(n), shares.columns, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n), shares.index)
    between, control = _medians(percent)
    half_between, half_control = _medians(percent[: -(-n // 2), : -(-n // 2)])
    ax.set_title(
        f"Two methods differ on {between:.1f} % of images, two seeds of one (framed) on {control:.1f} %\n"
        f"among the better half of them: {half_between:.1f} % and {half_control:.1f} % (medians)",
    )
    return ax


def _medians(square: np.ndarray) -> tuple[float, float]:
    """(beside, on) the diagonal."""
    return float(np.median(square[~np.eye(len(square), dtype=bool)])), float(np.median(np.diag(square)))


MARKERS = dict(zip(GUIDES, "o^D", strict=True))


def guides(regrets: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What each guide to a learning rate loses against the best one on test, by task -> Axes.

    regrets: from `guide.regrets`. A dot is a method, in the colour of its family; the grey bar is the binomial
    standard error of an accuracy on val200, mean over methods.
    """
    tasks = sorted(regrets["task"].unique())
    ax = axes_or_new(ax, (7, 1.9 + 0.42 * len(tasks)))
    for y, task in enumerate(tasks):
        of_task = regrets[regrets["task"] == task]
        ax.barh(y, of_task["error"].mean(), height=0.8, color="0.88")
        for k, (guide, marker) in enumerate(MARKERS.items()):
            for row in of_task[of_task["guide"] == guide].to_dict("records"):
                color = family_color(METHODS[row["method"]].family)
                ax.plot(row["regret"], y + 0.25 * (k - 1), marker, color=color, markersize=6)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_yticks(range(len(tasks)), [task_titles(regrets)[task] for task in tasks])
    labels = ", ".join(sorted(set(regrets["label"])))
    ax.set(xlabel=f"points below the best rate on test ({labels})", ylim=(len(tasks) - 0.5, -0.5))
    families = dict.fromkeys(METHODS[name].family for name in regrets["method"])
    handles: list[Artist] = [Line2D([], [], marker=m, color="0.3", linestyle="", label=g) for g, m in MARKERS.items()]
    handles += [Patch(facecolor="0.88", label="standard error of an accuracy on val200")]
    handles += [Patch(facecolor=family_color(family), label=family) for family in families]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=2)
    own, mean, voted = (regrets[regrets["guide"] == guide]["regret"] for guide in GUIDES)
    missed = f"{(own > 0).sum()} of {len(own)} cases"
    ax.set_title(
        f"The rate that val200 chose loses {mean.mean():.1f} points, a vote of all rates {voted.mean():.1f} "
        f"(means of {len(mean)})\nthe task's own val200 chose another than the best in {missed}",
    )
    return ax
