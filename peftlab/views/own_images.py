"""A reader's own images: classes, copies, what frozen features know, methods against the best."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..tasks.task import load_image
from .style import CONTROL, FREE, PALETTE, Color, axes_or_new, bare, class_label, method_color

NAMED = 12  # classes that have a bar of their own at either end of a long list
PAIRS = 5  # copies shown


def class_bars(counts: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Images of each class to train, choose and test on, as bars; of many classes the largest and smallest -> Axes."""
    shown = counts if len(counts) <= 2 * NAMED else pd.concat([counts.head(NAMED), counts.tail(NAMED)])
    ax, left = axes_or_new(ax, (6.4, 0.9 + 0.26 * len(shown))), pd.Series(0, shown.index)
    for color, (name, values) in zip(PALETTE, shown.items(), strict=False):
        ax.barh(range(len(shown)), values, left=left, color=color, label=name)
        left = left + values
    for y, total in enumerate(left):
        ax.annotate(str(total), (total, y), (4, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(shown)), [class_label(str(name), 30) for name in shown.index])
    ax.set(xlabel="images", ylim=(len(shown) - 0.5, -0.5))
    ax.margins(x=0.08)
    if len(shown) < len(counts):
        ax.axhline(NAMED - 0.5, color="0.4", linestyle=":")
    ax.figure.legend(loc="outside upper center", ncols=3)
    return ax


def copies(groups: Sequence[Sequence[Path]]) -> Figure:
    """The first two images of some groups of near-copies, one below the other -> Figure."""
    shown = groups[:PAIRS]
    figure, axes = plt.subplots(2, len(shown), figsize=(1.5 * len(shown), 3.2), layout="constrained", squeeze=False)
    for column, group in zip(axes.T, shown, strict=True):
        for ax, path in zip(column, group[:2], strict=True):
            bare(ax).imshow(load_image(path))
        column[0].set_title(f"{len(group)} alike")
    return figure


def learning_curve(table: pd.DataFrame, guess: float, ax: Axes | None = None) -> Axes:
    """Test accuracy of frozen features over training images, a line a probe, its draws as dots -> Axes.

    table: from `analysis.own_images.learning_curve`. guess: accuracy of who always says the largest class, in [0, 1].
    """
    ax = axes_or_new(ax, (5.4, 4))
    for color, marker, name in zip(PALETTE, "os", ("linear probe", "5 nearest neighbours"), strict=False):
        means = 100 * table.groupby("images")[name].mean()
        ax.plot(table["images"], 100 * table[name], marker, color=color, alpha=0.3, markersize=4)
        ax.plot(means.index, means, marker=marker, color=color, label=name)
    ax.axhline(100 * guess, color=CONTROL, linestyle="--", label="always the largest class")
    ax.set(xscale="log", xlabel="training images (log)", ylabel="test accuracy (%)", ylim=(0, 102))
    sizes = sorted(table["images"].unique())
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.set_xticks([], minor=True)
    ax.figure.legend(loc="outside lower center", ncols=3)
    return ax


def against_best(table: pd.DataFrame) -> Figure:
    """Above, accuracies with their intervals; below, how far each method is behind the best; grey is no difference.

    table: from `results.images.against_best`. One method alone has no part below.
    """
    parts = min(len(table), 2)
    size = (6, parts * (1 + 0.3 * len(table)))
    figure, axes = plt.subplots(parts, 1, figsize=size, sharey=True, layout="constrained", squeeze=False)
    axes[0, 0].set_yticks(range(len(table)), table.index)
    axes[0, 0].set_ylim(len(table) - 0.5, -0.5)
    _accuracies(axes[0, 0], table)
    if parts == 2:
        _differences(axes[1, 0], table)
    return figure


def _accuracies(ax: Axes, table: pd.DataFrame) -> None:
    for y, (name, row) in enumerate((100 * table[["accuracy", "low", "high"]]).iterrows()):
        own = method_color(str(name))
        ax.plot([row["low"], row["high"]], [y, y], color=own, linewidth=2)
        ax.plot(row["accuracy"], y, "o", color=own, markersize=8)
        _beside(ax, y, f"{row['accuracy']:.1f}", own)
    ax.set_xlabel("test accuracy (%), 95 % interval")


def _differences(ax: Axes, table: pd.DataFrame) -> None:
    for y, row in enumerate(table.to_dict("records")):
        color = PALETTE[3] if row["behind"] else FREE
        ax.plot([-100 * row["below high"], -100 * row["below low"]], [y, y], color=color, linewidth=2)
        fill = color if row["behind"] else "white"
        ax.plot(-100 * row["below"], y, "o", color=color, markersize=8, markerfacecolor=fill)
        _beside(ax, y, "behind" if row["behind"] else "not significantly\ndifferent" if y else "the best mean", color)
    ax.axvline(0, color="0.4", linewidth=1)
    ax.set_xlabel(f"points against {table.index[0]}, intervals for all together")


def _beside(ax: Axes, y: int, text: str, color: Color) -> None:
    ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", color=color)
