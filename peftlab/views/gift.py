"""GIFT looked at: what its generator computes, its clusters as outlines over images, how well they fit objects."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch.nn.functional as F
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA
from torch import Tensor

from ..analysis.clusters import THRESHOLD, generator_steps, stretch
from ..backbones.types import Pixels
from ..methods import METHODS
from ..methods.core.model import PeftModel
from ..results.statistics import accuracy_interval
from .style import DIVERGING, FREE, PALETTE, SEQUENTIAL, axes_or_new, bare, method_style

FORMS = {"v1": "gift", "v2": "gift_linear"}
EQUATIONS = {
    "W": "frozen",
    "tokens U": r"$U = \mathrm{l2}(W\phi)$",
    "clusters C": r"$C = \sigma(U W_c + b_c)$",
    "attention A": r"$A = \mathrm{softmax}(Q K^T / \sqrt{d})$",
    "change": r"$\Delta W = X'\psi$",
}
OUTLINE = PALETTE[1]
LINES = {  # colour, width of the line and its style
    "trained": (PALETTE[0], 2.5, "-"),
    "untrained": (PALETTE[3], 2.5, "--"),
    "k-means 3": ((0.0, 0.0, 0.0), 2, ":"),
    "random directions": (FREE, 1.5, "-."),
    "PCA": (PALETTE[4], 1.5, (0, (5, 1, 1, 1, 1, 1))),
}


def _along_first_component(matrix: Float[np.ndarray, "rows columns"]) -> Int64[np.ndarray, " rows"]:
    """Order of the rows of a matrix along their first principal component, so that similar ones are neighbours.

    >>> order = _along_first_component(np.array([[0.0, 1.0], [9.0, 1.0], [5.0, 2.0]]))
    >>> order.tolist() in ([0, 2, 1], [1, 2, 0])
    True
    """
    return PCA(1, random_state=0).fit_transform(matrix)[:, 0].argsort()


def _diverging(ax: Axes, matrix: Float[np.ndarray, "rows columns"], top: float) -> None:
    """A matrix in colours from -top to top, with their bar."""
    image = ax.imshow(matrix, cmap=DIVERGING, vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, ticks=MaxNLocator(3))


def _extent(matrix: Float[np.ndarray, "rows columns"]) -> float:
    """Where the colours of a matrix end: at its 99th percentile, or at 1 where it is 0."""
    return float(np.quantile(abs(matrix), 0.99)) or 1.0


def anatomy(model: PeftModel, layer: int = -1) -> Figure:
    """What the generator of a gift model makes of one layer: W, tokens, clusters, attention, change -> Figure.

    Output channels are the rows of all five, in one order: along the first principal component of C.
    """
    steps = generator_steps(model, layer)
    order = _along_first_component(steps["clusters C"].numpy())
    figure, axes = plt.subplots(1, 5, figsize=(11, 3.8), width_ratios=(1.3, 0.8, 1, 1, 2), layout="constrained")
    for ax, (name, step) in zip(axes, steps.items(), strict=True):
        shown = step.numpy()[order]
        if name in ("clusters C", "attention A"):
            image = ax.imshow(shown, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
            figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, ticks=MaxNLocator(2))
        else:
            _diverging(ax, shown, _extent(shown))
        bare(ax, f"{name}\n{EQUATIONS[name]}\n{shown.shape[0]} x {shown.shape[1]}")
    axes[0].set_ylabel("output channel")
    return figure


def change_parts(change: Float[Tensor, "rows width"]) -> Figure:
    """A generated change = the one row that all rows share + the rest, in one scale; their shares -> Figure."""
    shared = change.mean(0, keepdim=True).expand_as(change)
    share = (shared.square().sum() / change.square().sum()).item()
    parts = {
        "change of the weight": change,
        f"= one row, repeated: {share:.0%}": shared,
        f"+ the rest: {1 - share:.0%}": change - shared,
    }
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), layout="constrained")
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        _diverging(bare(ax, name), part.numpy(), _extent(change.numpy()))
    axes[0].set(xlabel="input channel", ylabel="output channel")
    return figure


def answers(kept: Mapping[str, Mapping[str, float]], images: int) -> Figure:
    """Share of answers kept with parts of the change: a panel a model, a bar a part, 95 % intervals -> Figure."""
    figure, axes = plt.subplots(1, len(kept), figsize=(4.6 * len(kept), 2.4), layout="constrained", sharey=True)
    for ax, (title, shares) in zip(np.atleast_1d(axes), kept.items(), strict=True):
        for y, share in enumerate(shares.values()):
            ax.barh(y, 100 * share, color=PALETTE[0] if y == 0 else FREE, height=0.6)
            low, high = accuracy_interval(share, images)
            ax.plot([100 * low, 100 * high], [y, y], color="black")
            ax.text(100 * high + 2, y, f"{share:.0%}", va="center")
        ax.set_yticks(range(len(shares)), list(shares))
        ax.set(xlabel="answers kept, %", xlim=(0, 118), ylim=(len(shares) - 0.5, -0.5), title=title)
    return figure


def outlined(columns: Mapping[str, Float[Tensor, "images rows columns"]], pixels: Pixels) -> Figure:
    """Where maps exceed 0.5, outlined and tinted over the grey images: a row an image, a column a source -> Figure.

    columns: {title: one map of each image}. The recipe of `highlight` without its colours, which hide
    the image.
    """
    size = pixels.shape[1:3]
    shape = (2.7 * len(columns), 2.6 * len(pixels) + 0.4)
    figure, axes = plt.subplots(len(pixels), len(columns), figsize=shape, layout="constrained", squeeze=False)
    for column, (title, maps) in zip(axes.T, columns.items(), strict=True):
        large = stretch(F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False))[:, 0].numpy()
        for ax, image, one in zip(column, pixels.float().mean(-1).numpy(), large, strict=True):
            bare(ax).imshow(image, cmap="gray", vmin=-40, vmax=255)
            ax.contourf(one, [THRESHOLD, 2], colors=[OUTLINE], alpha=0.3)
            ax.contour(one, [THRESHOLD], colors=[OUTLINE], linewidths=2)
        column[0].set_title(title)
    return figure


def overlap(table: pd.DataFrame, value: str = "best") -> Figure:
    """IoU by block from results/segmentation.csv: a panel a form of GIFT, a dot a seed, a line a mean -> Figure."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained", sharey=True)
    table = table[table["recipe"] == "centred"]
    for ax, (form, method) in zip(axes, FORMS.items(), strict=True):
        own = table[table["source"] == method]
        maps = int(own["maps"].iloc[0])
        sources = {state: own[own["state"] == state] for state in ("trained", "untrained")}
        for control in ("k-means 3", f"random directions, {maps} maps", f"PCA, {maps} maps"):
            sources[control.split(",")[0]] = table[table["source"] == control]
        for label, rows in sources.items():
            colour, width, style = LINES[label]
            means = rows.groupby("block")[value].mean()
            ax.plot(means, color=colour, linewidth=width, linestyle=style, label=f"{label}, mean {means.mean():.2f}")
            if label in ("trained", "untrained"):
                offset = -0.12 if label == "trained" else 0.12
                ax.plot(rows["block"] + offset, rows[value], method_style(method)[1], color=colour, alpha=0.7)
        ax.set(
            title=f"{form}: {METHODS[method].title}, {maps} maps", xlabel="block", xticks=sorted(own["block"].unique())
        )
        ax.legend(loc="lower center", ncols=2, columnspacing=1, handlelength=2.5)
    limit = table["limit"].iloc[0]
    axes[0].set(ylabel="intersection over union", ylim=(0.1, limit + 0.05))
    for ax in axes:
        ax.axhline(limit, color=FREE, linewidth=1)
        ax.text(4, limit - 0.01, f"the objects themselves on this grid: {limit:.2f}", va="top")
    return figure


def training_effect(effect: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """`training_effect` by block: what training adds to the IoU, with its interval over seeds -> Axes."""
    ax = axes_or_new(ax, (7, 3.6))
    for shift, colour, (form, method) in zip(
        (-0.15, 0.15), (PALETTE[0], PALETTE[1]), {"v1": "gift", "v2": "gift_linear"}.items(), strict=True
    ):
        rows = effect[effect["source"] == method]
        x = rows["block"] + shift
        ax.vlines(x, rows["low"], rows["high"], color=colour, linewidth=2)
        ax.plot(
            x,
            rows["mean"],
            method_style(method)[1],
            color=colour,
            markersize=8,
            label=f"{form}: {METHODS[method].title}",
        )
    ax.axhline(0, color="black", linewidth=1)
    ax.set(xlabel="block", ylabel="IoU trained - untrained", xticks=sorted(effect["block"].unique()))
    ax.legend(loc="best")
    return ax
