"""Channels by importance: scores against removal, what removing costs, which tasks and blocks agree."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import spearmanr
from torch import Tensor

from ..analysis.two_stage import agreement, jaccard, top_share
from ..results.statistics import accuracy_interval
from .style import CONTROL, DIVERGING, MARKERS, PALETTE, SEQUENTIAL, axes_or_new


def against_removal(
    scores: Float[Tensor, " channels"],
    truth: Float[Tensor, " channels"],
    step: float = 1.0,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Estimated importance against the measured change of the loss, a dot a channel -> Axes.

    step: the part of each channel that was taken away, in (0, 1]. On the dotted line the loss changes by the score
    times the step.
    """
    ax = axes_or_new(ax, (3.4, 3))
    ax.loglog(np.asarray(scores), np.asarray(truth), "o", markersize=3, alpha=0.6, color=PALETTE[0])
    ends = np.array([scores[scores > 0].min(), scores.max()])
    ax.plot(ends, step * ends, ":", color="0.4", zorder=0)
    rank = spearmanr(scores, truth).statistic
    ax.set(xlabel="Taylor score (log scale)", ylabel="measured change of the loss (log)")
    ax.set_title(f"{title}\nrank correlation {rank:.3f}".strip())
    return ax


def removal(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Test accuracy when K channels of one block are removed, a line a way to choose them -> Axes.

    table: rows of `read_results("removal")` of one task and block. Bars are 95 % Wilson intervals over test images,
    the grey band the range of random draws around their mean.
    """
    ax, rows = axes_or_new(ax, (5.6, 4.6)), table[table["k"] > 0]
    sizes, whole = sorted(rows["k"].unique()), 100 * table.loc[table["k"] == 0, "accuracy"].item()
    ax.axhline(whole, color="black", linestyle="--", linewidth=1, label="nothing removed")
    draws = 100 * rows[rows["choice"] == "random"].groupby("k")["accuracy"].agg(["min", "max", "mean"])
    ax.fill_between(range(len(sizes)), draws["min"], draws["max"], color=CONTROL, alpha=0.25, linewidth=0)
    ax.plot(range(len(sizes)), draws["mean"], marker="x", color=CONTROL, label="random (range of draws)")
    for i, choice in enumerate(c for c in rows["choice"].unique() if c != "random"):
        x = np.arange(len(sizes)) + 0.05 * (i - 2)  # beside one another
        _intervals(ax, x, rows[rows["choice"] == choice].sort_values("k"), i, choice)
    top = rows[rows["choice"] == "top"]
    low = top.sort_values("accuracy").iloc[0]
    worst, by_chance = 100 * low["accuracy"], draws.loc[low["k"], "mean"]
    ax.set_xticks(range(len(sizes)), [str(k) for k in sizes])
    ax.set(xlabel="channels removed", ylabel="test accuracy (%)", ylim=(0, 100))
    ax.set_title(
        f"The top {low['k']} channels of block {low['block']} take {low['task']}\n"
        f"from {whole:.0f} to {worst:.0f} %, {low['k']} random ones to {by_chance:.0f} %"
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return ax


def removal_by_depth(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Test accuracy without the top channel of each block, set to zero or to its mean over images -> Axes.

    table: rows of `read_results("removal")` of one task; bars as in `removal`.
    """
    ax, ones = axes_or_new(ax, (5.6, 4.6)), table[table["k"] == 1]
    ax.axhline(100 * table.loc[table["k"] == 0, "accuracy"].item(), color="black", linestyle="--", linewidth=1)
    rows = {choice: ones[ones["choice"] == choice].sort_values("block") for choice in ("top", "top, at its mean")}
    for i, label in {0: "top channel set to zero", 4: "set to its mean over training images"}.items():
        of_choice = rows["top" if i == 0 else "top, at its mean"]
        _intervals(ax, of_choice["block"].to_numpy() + 0.02 * i, of_choice, i, label)
    zero, mean = (100 * of_choice.set_index("block")["accuracy"] for of_choice in rows.values())
    block = zero.index[int(zero.argmin())]
    ax.set(xlabel="block", ylabel="test accuracy (%)", ylim=(0, 100))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(
        f"The top channel of block {block} at zero: {zero[block]:.0f} %,\nat its mean over images: {mean[block]:.0f} %"
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return ax


def _intervals(ax: Axes, x: np.ndarray, rows: pd.DataFrame, style: int, label: str) -> None:
    """Accuracies with their Wilson intervals as a line."""
    pairs = zip(rows["accuracy"], rows["images"], strict=True)
    percent, ends = 100 * rows["accuracy"].to_numpy(), 100 * np.array([accuracy_interval(*pair) for pair in pairs]).T
    ax.errorbar(x, percent, abs(ends - percent), marker=MARKERS[style], color=PALETTE[style], capsize=2, label=label)


def scores_by_task(
    scores: Mapping[str, Float[Tensor, "2 blocks channels"]], shown: Sequence[str], k: int, first: int = 64
) -> Figure:
    """Log scores of some tasks, and the same less their mean over all tasks, channels by falling mean -> Figure.

    scores: of two halves of each task. shown: tasks to draw, first: so many channels. Scores count in means of their
    block; one order and, in each row, one scale for all.
    """
    raw = torch.stack(list(scores.values()))
    logs = (raw / raw.mean(-1, keepdim=True)).clamp_min(1e-6).log10()
    logs = logs[..., logs.mean((0, 1, 2)).argsort(descending=True)]
    rest = logs - logs.mean(0)
    figure, axes = plt.subplots(2, len(shown), figsize=(3.6 * len(shown), 5.4), layout="constrained", squeeze=False)
    top = float(np.quantile(rest.abs(), 0.99))
    low, high = np.quantile(logs[..., :first], [0.01, 0.99])
    scales = ({"cmap": SEQUENTIAL, "vmin": low, "vmax": high}, {"cmap": DIVERGING, "vmin": -top, "vmax": top})
    units = ("log10 (score / block's mean)", "less the mean over tasks")
    extent = (0.5, first + 0.5, logs.shape[-2] + 0.5, 0.5)
    for row, values, scale, unit in zip(axes, (logs, rest), scales, units, strict=True):
        for ax, name in zip(row, shown, strict=True):
            half_means = values[list(scores).index(name)].mean(0)[:, :first].numpy()
            image = ax.imshow(half_means, aspect="auto", interpolation="nearest", extent=extent, **scale)
        row[0].set_ylabel("block")
        figure.colorbar(image, ax=row, label=unit, fraction=0.05)
    start = rest[list(scores).index(shown[0]), 0].flatten()
    for name, above, below in zip(shown, *axes, strict=True):
        above.set_title(name)
        rank = np.corrcoef(start, rest[list(scores).index(name), 1].flatten())[0, 1]
        below.set_title(f"with {'the other half' if name == shown[0] else shown[0]}: r = {rank:.2f}")
        below.set_xlabel(f"channel, by falling mean ({first} of {logs.shape[-1]})")
    share = 100 * top_share(raw, k).mean()
    begin, end = (100 * rest.var(-1) / logs.var(-1)).mean((0, 1))[[0, -1]]
    figure.suptitle(
        f"{k} of {logs.shape[-1]} channels carry {share:.0f} % of the score (above); less what tasks share,\n"
        f"{begin:.0f} % of the variance is left in block 1, {end:.0f} % in the last (below)"
    )
    return figure


def agreement_by_depth(
    scores: Mapping[str, Float[Tensor, "2 blocks channels"]], k: int, alike: tuple[str, str]
) -> Figure:
    """`agreement` over depth: halves of one task beside different tasks, means and quartiles over pairs -> Figure.

    alike: two tasks with images of one kind and other labels, which get a line of their own.
    """
    table = agreement(scores, k)
    kinds = ("two halves of one task", "two other tasks", f"{', '.join(alike)}: images alike, other labels")
    kind = np.select([table["same"], table["pair"] != ", ".join(alike)], kinds[:2], kinds[2])
    share = k / next(iter(scores.values())).shape[-1]
    chance = {"rank": 0.0, "overlap": share / (2 - share)}
    names = {"rank": "rank correlation over channels", "overlap": f"overlap of the {k} highest (Jaccard)"}
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.3), layout="constrained")
    for ax, (column, name) in zip(axes, names.items(), strict=True):
        for i, label in enumerate(kinds):
            by_block = table[kind == label].groupby("block")[column]
            mean, low, high = by_block.mean(), by_block.quantile(0.25), by_block.quantile(0.75)
            ax.fill_between(mean.index, low, high, color=PALETTE[i], alpha=0.2, linewidth=0)
            ax.plot(mean.index, mean, marker=MARKERS[i], color=PALETTE[i], label=label)
        ax.axhline(chance[column], color=CONTROL, linestyle="--", label="chance")
        ax.set(xlabel="block", ylabel=name, ylim=(-0.03, 1.03))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    same, other, images = (table.loc[kind == label, "rank"].mean() for label in kinds)
    figure.suptitle(
        f"Rank correlation, mean over blocks: {images:.2f} where the images are alike and the labels differ,\n"
        f"{same:.2f} between halves of one task, {other:.2f} between other tasks"
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def overlap(
    chosen: Mapping[str, Sequence[int] | Int64[Tensor, " _"]], channels: int, ax: Axes | None = None, title: str = ""
) -> Axes:
    """`jaccard` as a heatmap with its numbers; the title says what chance gives -> Axes. channels: their number, D."""
    table = jaccard(chosen)
    ax = axes_or_new(ax, (1.6 + 0.45 * len(table), 1.2 + 0.4 * len(table)))
    share = np.mean([len(indices) for indices in chosen.values()]) / channels
    ax.imshow(table, cmap=SEQUENTIAL, vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.5 else "white")
    ax.set_xticks(range(len(table)), table.columns, rotation=45, ha="right")
    ax.set_yticks(range(len(table)), table.index)
    ax.set_title(f"{title}\nchance: {share / (2 - share):.2f}".strip())
    return ax
