"""Measurements of captioning as pictures: losses, perplexities, attention at solids, with their intervals."""

import re
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from ..results.statistics import mean_interval
from .captioning import IMAGE_COLOR, TEXT_COLOR
from .style import PALETTE, axes_or_new


def losses_behind(losses: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Loss of a text behind different tokens: a bar a column, the mean of its rows with its 95 % interval -> Axes.

    losses: nats a word, a row a draw of these tokens; the first column is what the title compares with.
    """
    ax, means = axes_or_new(ax, (8, 2.6)), losses.mean()
    half = norm.ppf(0.975) * losses.sem()
    bars = ax.barh(means.index, means, xerr=half, color=[PALETTE[7], IMAGE_COLOR, TEXT_COLOR], ecolor="0.2", capsize=4)
    ax.bar_label(bars, [f"{mean:.2f} ± {h:.2f}" for mean, h in zip(means, half, strict=True)], padding=5)
    ax.invert_yaxis()
    ax.set(xlabel="loss of the text that follows (nats a word)", xlim=(0, 1.3 * (means + half).max()))
    times = ", ".join(f"{means[name] / means.iloc[0]:.1f} times behind {name}" for name in means.index[1:])
    ax.set_title(f"Loss of the text that follows, against {means.index[0]}:\n{times}")
    return ax


def perplexities(measured: pd.DataFrame, blind: float, floor: float, ax: Axes | None = None) -> Axes:
    """Test perplexity of each way to train, the best first, with Student's 95 % interval over seeds -> Axes.

    measured: rows of `read_results("captioning")`. blind, floor: the least that can be had without and with looking.
    """
    by_label = measured.groupby("label")
    means = by_label["test_perplexity"].mean().sort_values()
    below, parameters = 0, by_label["parameters"].first()
    ax = axes_or_new(ax, (9, 1.6 + 0.32 * len(means)))
    for y, label in enumerate(means.index):
        values = by_label.get_group(label)["test_perplexity"]
        mean, low, high = mean_interval(values)
        below += high < blind
        color = IMAGE_COLOR if "by domain" in label else "0.35"
        ax.plot([low, high], [y, y], color=color, linewidth=2)
        ax.plot(values, [y] * len(values), "o", color="0.75", markersize=4)
        ax.plot(mean, y, "D", color=color, markersize=7)
        ax.text(1.01, y, f"{mean:.2f}", transform=ax.get_yaxis_transform(), va="center")
    for name, value in {f"lower bound\n{floor:.2f}": floor, f"image-blind\n{blind:.2f}": blind}.items():
        ax.axvline(value, color="0.4", linestyle=":")
        ax.annotate(name, (value, -0.8), ha="center", va="bottom", annotation_clip=False)
    names = [re.sub(", [0-9]+ scenes$", "", label) for label in means.index]
    ax.set_yticks(
        range(len(means)), [f"{name} ({parameters[label]:,})" for name, label in zip(names, means.index, strict=True)]
    )
    ax.set_xscale("log")
    ticks = [tick for tick in (1.2, 1.5, 2, 3, 4, 5) if tick < 1.1 * means.max()]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="test perplexity (log), mean of the seeds at the right", ylim=(len(means) - 0.5, -0.7))
    ax.set_title(
        f"{below} of {len(means)} ways are below the image-blind {blind:.2f} with their whole interval", pad=38
    )
    return ax


def by_data(measured: pd.DataFrame, ways: Mapping[str, str]) -> Figure:
    """Test perplexity against the number of training scenes, a line a way to train; dots are seeds -> Figure.

    Left, as many steps for everybody; right, each stopped where val perplexity was the lowest. measured:
    `read_results("captioning")`. ways: {name of the line: beginning of the labels}.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for ax, title, end in zip(
        axes, ("As many steps for everybody", "Each stopped by val"), ("", ", stopped"), strict=True
    ):
        ends = {}
        for i, (name, label) in enumerate(ways.items()):
            rows = measured[measured["label"].str.match(f"{label}, [0-9]+ scenes{end}$")]
            color = ("0.2", IMAGE_COLOR)[i % 2]
            means = ends[name] = rows.groupby("train_images")["test_perplexity"].mean()
            ax.plot(rows["train_images"], rows["test_perplexity"], "o", color=color, alpha=0.5, markersize=4)
            ax.plot(means.index, means, marker="oD"[i % 2], color=color, label=name)
        table = pd.DataFrame(ends)
        ax.set(xscale="log", yscale="log", xlabel="training scenes (log)")
        ax.set_xticks(table.index, [str(n) for n in table.index])
        ax.set_yticks([2, 3, 4], ["2", "3", "4"])
        ax.minorticks_off()
        first = table.idxmin(axis=1)
        leads = "; ".join(f"{name} with {', '.join(map(str, first.index[first == name]))}" for name in first.unique())
        ax.set_title(f"{title}; the lower mean:\n{leads} scenes")
    axes[0].set_ylabel("test perplexity (log)")
    axes[0].legend()
    return figure


def own_and_other(measured: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Test perplexity behind the caption's own photograph and behind another, a row a way to train, the best first.

    measured: final rows of `read_results("captioning_photographs")`. Diamonds and circles are means over seeds, dots
    the seeds. Where the two are alike, no image is read; CIDEr of the captions that it writes stands at the right.
    -> Axes.
    """
    rows = measured.groupby("label")[["test_perplexity", "other_perplexity", "CIDEr"]].mean()
    rows = rows.sort_values("test_perplexity", ascending=False)
    own, other, y = rows["test_perplexity"], rows["other_perplexity"], range(len(rows))
    ax = axes_or_new(ax, (9, 1.8 + 0.34 * len(rows)))
    ax.hlines(y, own, other, color="0.6")
    ax.plot(own, y, "D", color=IMAGE_COLOR, label="behind its own photograph")
    ax.plot(other, y, "o", color=TEXT_COLOR, markerfacecolor="white", label="behind another one")
    at = rows.index.get_indexer(pd.Index(measured["label"]))
    seeds = measured[["test_perplexity", "other_perplexity"]]
    ax.plot(seeds, at, "o", color="0.2", markersize=2.5, label=["each seed", "_"])
    for i, score in enumerate(rows["CIDEr"]):
        ax.text(1.02, i, f"{score:.2f}", transform=ax.get_yaxis_transform(), va="center")
    ax.text(1.02, len(rows) - 0.4, "CIDEr", transform=ax.get_yaxis_transform(), va="center")
    ax.set_yticks(y, rows.index)
    ax.set(xlabel="test perplexity", ylim=(-0.6, len(rows) - 0.2))
    ax.legend(loc="upper right")  # free: the lower a row, the further right it lies
    more = 100 * (other / own - 1)
    ax.set_title(
        f"Another photograph raises perplexity by {more.min():.0f} % ({more.idxmin()})\n"
        f"to {more.max():.0f} % ({more.idxmax()})"
    )
    return ax


def own_object(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """`word_attention.at_objects` by block: attention of words at their own solid and at the other one -> Axes.

    Lines are means over scenes with 95 % intervals, 1 is attention spread evenly over the image.
    """
    ax = axes_or_new(ax, (7.5, 3.6))
    for k, (name, color) in enumerate({"own": IMAGE_COLOR, "other": "0.45"}.items()):
        each = table.groupby("block")[name]
        mean, half, x = each.mean(), norm.ppf(0.975) * each.sem(), each.mean().index + 0.06 * (2 * k - 1)
        ax.errorbar(x, mean, half, color=color, marker="os"[k], linestyle="", capsize=4, label=f"at {name} solid")
    ax.axhline(1, color="0.4", linestyle=":")
    ax.annotate("spread evenly", (0.6, 1), (0, 3), textcoords="offset points")
    ax.set(xlabel="block of the language model", ylabel="attention, times even", ylim=(0, None))
    ax.set(xticks=sorted(table["block"].unique()), xlim=(0.5, table["block"].max() + 0.5))
    ax.legend(ncols=2, loc="lower right")
    by_scene = table.groupby("scene")[["own", "other"]].mean()
    difference, low, high = mean_interval(by_scene["own"] - by_scene["other"])
    more = "no more than" if low < 0 < high else "more than" if low > 0 else "less than"
    ax.set_title(
        f"Words attend to the solid they name {more} to the other: {difference:+.2f} ({low:+.2f} to {high:+.2f})\n"
        f"{len(by_scene)} scenes; 1 is attention spread evenly over the image"
    )
    return ax
