"""GIST looked at: what its token attends to, how it and CLS listen to each other, agree and differ."""

from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA

from ..analysis.gist import token_cosine, token_exchange, token_pair
from ..backbones.types import Pixels
from ..methods.core.model import PeftModel
from ..methods.gist import kl
from ..results.ledger import task_titles
from ..results.statistics import mean_interval
from ..tasks.task import Task
from ..training.run import Run
from .attention_overlay import attention
from .style import PALETTE, axes_or_new

CLS, GIST = PALETTE[7], PALETTE[0]


def exchange(model: PeftModel, pixels: Pixels, ax: Axes | None = None) -> Axes:
    """`token_exchange` as lines; the dotted one is what attention spread evenly over all tokens would give -> Axes."""
    ax, table = axes_or_new(ax, (4.2, 3)), token_exchange(model, pixels)
    ax.plot(table.index, table["CLS to gist"], marker="o", color=CLS, label="CLS to gist")
    ax.plot(table.index, table["gist to CLS"], marker="s", color=GIST, label="gist to CLS")
    ax.plot(table.index, table["uniform"], ":", color="0.5", label="spread evenly")
    ax.set(xlabel="block", ylabel="attention weight", title=model.method.title, ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def cosine(models: Mapping[str, PeftModel], pixels: Pixels, ax: Axes | None = None) -> Axes:
    """Cosine of both tokens through depth, a line for each of {label: model}, +- one std over images -> Axes."""
    ax = axes_or_new(ax, (4.2, 3))
    for i, (label, model) in enumerate(models.items()):
        table = token_cosine(model, pixels)
        ax.plot(table.index, table["cosine"], marker="os^v"[i % 4], color=PALETTE[i], label=label)
        low, high = table["cosine"] - table["std"], table["cosine"] + table["std"]
        ax.fill_between(table.index, low, high, color=PALETTE[i], alpha=0.2, linewidth=0)
    ax.set(xlabel="block", ylabel="cosine of CLS and gist")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def branches(run: Run) -> Figure:
    """Training accuracy of both branches with their agreement, and both KLs, over epochs -> Figure."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    curves, (left, right) = run.curves, axes
    left.plot(curves["epoch"], 100 * curves["accuracy"], marker="o", color=CLS, label="CLS is right")
    left.plot(curves["epoch"], 100 * curves["gist_accuracy"], marker="s", color=GIST, label="gist is right")
    left.plot(curves["epoch"], 100 * curves["agreement"], "--", color="0.4", label="both say the same")
    left.set(ylabel="training images (%)", ylim=(0, 102))
    right.plot(curves["epoch"], curves["kl_cls_gist"], marker="o", color=CLS, label="KL(CLS || gist)")
    right.plot(curves["epoch"], curves["kl_gist_cls"], marker="s", color=GIST, label="KL(gist || CLS)")
    right.set(ylabel="nats", ylim=(0, None))
    for ax in axes:
        ax.set(xlabel="epoch", title=run.task.title)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend()
    return figure


def attention_rows(
    models: Mapping[str, PeftModel],
    pixels: Pixels,
    queries: Sequence[int | str] = ("cls", "gist"),
    layer: int | Literal["rollout"] = -1,
) -> Figure:
    """Attention of the queries over the patches: a row for each model and query, a column an image -> Figure.

    models: {label: model}. Every map has its own colour scale: brightest is where that query looks most.
    """
    rows = [(label, model, query) for label, model in models.items() for query in queries]
    size = (1.5 * len(pixels) + 1.2, 1.5 * len(rows))
    figure, axes = plt.subplots(len(rows), len(pixels), figsize=size, layout="constrained", squeeze=False)
    for row, (label, model, query) in zip(axes, rows, strict=True):
        for ax, image in zip(row, pixels, strict=True):
            attention(model, image[None], query=query, layer=layer, ax=ax)
        row[0].set_ylabel(f"{label}\n{query}")
    return figure


def token_plane(
    model: PeftModel, task: Task, split: str = "val200", images: int = 200, ax: Axes | None = None
) -> Axes:
    """Final CLS and gist tokens of the same images on two principal components, coloured by class -> Axes."""
    ax = axes_or_new(ax, (4.6, 3.6))
    labels = task.labels(split)[:images]
    pixels = task.pixels(split, model.vit.patch_embed.img_size, range(len(labels)))
    both = torch.cat([tokens[-1] for tokens in token_pair(model, pixels)]).numpy()
    plane = PCA(2, random_state=0).fit_transform(both)
    for part, marker, name in ((plane[: len(labels)], "o", "CLS"), (plane[len(labels) :], "^", "gist")):
        ax.scatter(part[:, 0], part[:, 1], c=labels, cmap="viridis", marker=marker, s=14, linewidths=0, label=name)
    ax.set(xlabel="1st component", ylabel="2nd component", xticks=[], yticks=[], title=task.title)
    legend = ax.legend()
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set(color="0.3", array=None)
    return ax


def kl_shapes(p_cls: float = 0.9, ax: Axes | None = None) -> Axes:
    """Both KLs and their sum for two classes: CLS gives the first one p_cls, the gist anything from 0 to 1 -> Axes.

    >>> ax = kl_shapes(0.5)
    >>> [line.get_label() for line in ax.lines[:3]], ax.get_title()
    (['KL(CLS || gist)', 'KL(gist || CLS)', 'both'], 'CLS gives the first class 0.5')
    """
    ax, p_gist = axes_or_new(ax, (4.6, 3)), torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    cls, gist = (torch.stack([p.log(), (1 - p).log()], -1) for p in (torch.full_like(p_gist, p_cls), p_gist))
    forward = torch.stack([kl(c[None], g[None], temperature=1) for c, g in zip(cls, gist, strict=True)])
    backward = torch.stack([kl(g[None], c[None], temperature=1) for c, g in zip(cls, gist, strict=True)])
    ax.plot(p_gist, forward, color=CLS, label="KL(CLS || gist)")
    ax.plot(p_gist, backward, "--", color=GIST, label="KL(gist || CLS)")
    ax.plot(p_gist, forward + backward, ":", color="black", label="both")
    ax.axvline(p_cls, color="0.8", linewidth=1, zorder=0)
    ax.set(xlabel="gist's probability of the first class", ylabel="nats", ylim=(0, 4))
    ax.set_title(f"CLS gives the first class {p_cls:g}")
    ax.legend()
    return ax


def ablation(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Test accuracy of each variant as dots, one a seed, with Student's 95 % interval of their mean -> Axes.

    table: rows of runs with columns variant, test_accuracy, in the order wanted.
    """
    names = list(dict.fromkeys(table["variant"]))
    ax = axes_or_new(ax, (5, 0.9 + 0.4 * len(names)))
    for y, name in enumerate(names):
        values = 100 * table.loc[table["variant"] == name, "test_accuracy"]
        mean, low, high = mean_interval(values)
        ax.plot([low, high], [y, y], color=GIST, linewidth=2)
        ax.plot(values, [y] * len(values), "o", color="0.6", markersize=4)
        ax.plot(mean, y, "D", color=GIST)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="test accuracy (%)", ylim=(len(names) - 0.5, -0.5))
    ax.set_title(", ".join(sorted(task_titles(table).values())))
    return ax
