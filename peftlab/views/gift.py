"""GIFT looked at: what its generator computes, its clusters laid over images, and how well they fit objects."""

from collections.abc import Mapping
from typing import TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA
from torch import Tensor

from ..analysis.clusters import assignment, busiest, generator_steps, highlight, winners
from ..backbones.types import Pixels
from ..methods.core.model import PeftModel
from .style import DIVERGING, PALETTE, SEQUENTIAL, axes_or_new, bare, image_grid

HEAT, OTHERS = "inferno", (0.8, 0.8, 0.8)
Maps: TypeAlias = Float[Tensor, "images clusters rows columns"]


def _along_first_component(matrix: Float[np.ndarray, "rows columns"]) -> Int64[np.ndarray, " rows"]:
    """Order of the rows of a matrix along their first principal component, so that similar ones are neighbours.

    >>> order = _along_first_component(np.array([[0.0, 1.0], [9.0, 1.0], [5.0, 2.0]]))
    >>> order.tolist() in ([0, 2, 1], [1, 2, 0])
    True
    """
    return PCA(1, random_state=0).fit_transform(matrix)[:, 0].argsort()


def anatomy(model: PeftModel, layer: int = -1) -> Figure:
    """What the generator of a gift model makes of one layer: W, tokens, clusters, attention, change -> Figure.

    Output channels are the rows of all five, in one order: along the first principal component of C.
    """
    steps = generator_steps(model, layer)
    order = _along_first_component(steps["clusters C"].numpy())
    figure, axes = plt.subplots(1, len(steps), figsize=(10, 3.1), layout="constrained")
    for ax, (name, step) in zip(axes, steps.items(), strict=True):
        shown = step.numpy()[order]
        if name in ("clusters C", "attention A"):
            image = ax.imshow(shown, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
        else:
            top = np.quantile(abs(shown), 0.99) or 1
            image = ax.imshow(shown, cmap=DIVERGING, vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
        bare(ax, f"{name}\n{shown.shape[0]} x {shown.shape[1]}")
        figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, ticks=MaxNLocator(3))
    axes[0].set_ylabel("output channel")
    return figure


def clusters(model: PeftModel, layer: int = -1, ax: Axes | None = None) -> Axes:
    """C of one layer as a heatmap; channels and clusters ordered along their first principal components -> Axes."""
    ax, C = axes_or_new(ax, (4.6, 3.4)), assignment(model, layer).numpy()
    C = C[_along_first_component(C)][:, _along_first_component(C.T)]
    image = ax.imshow(C, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    ax.set(xlabel="cluster (ordered)", ylabel="output channel (ordered)", xticks=[], yticks=[])
    ax.set_title(f"block {layer % len(model.vit.blocks) + 1}, C {C.shape[0]} x {C.shape[1]}")
    ax.figure.colorbar(image, ax=ax, label="assignment")
    return ax


def overlay(
    ax: Axes,
    image: UInt8[Tensor | np.ndarray, "height width 3"],
    heat: Float[np.ndarray, "height width"],
    title: str = "",
) -> Axes:
    """A map in [0, 1] over an image, 0.6 to 0.4 and stretched again, as the recipe has it -> Axes.

    The released visualiser uses the colours "jet", which are neither even nor safe for the colour-blind; ours differ.
    """
    mixed = 0.6 * plt.get_cmap(HEAT)(heat)[..., :3] + 0.4 * np.asarray(image) / 255
    low, high = mixed.min(), mixed.max()
    bare(ax, title).imshow((mixed - low) / max(high - low, 1e-12))
    return ax


def overlays(sources: Mapping[str, Maps], pixels: Pixels, cluster: int | None = None) -> Figure:
    """One cluster of each source laid over each image: a row a source, a column an image -> Figure.

    sources: {label: maps}; cluster: its number; None: each source's busiest.
    """
    chosen = {label: busiest(maps, 1).item() if cluster is None else cluster for label, maps in sources.items()}
    return _overlaid({f"{label}\ncluster {c}": sources[label][:, [c]] for label, c in chosen.items()}, pixels)


def gallery(maps: Maps, pixels: Pixels, clusters: int = 6) -> Figure:
    """The busiest clusters of maps over each image: a row a cluster, a column an image -> Figure."""
    return _overlaid({f"cluster {c}": maps[:, [c]] for c in busiest(maps, clusters).tolist()}, pixels)


def _overlaid(rows: Mapping[str, Float[Tensor, "images 1 rows columns"]], pixels: Pixels) -> Figure:
    """One map of each label over the images."""
    figure, axes = image_grid(pixels, len(rows))
    for row, (label, maps) in zip(axes[1:], rows.items(), strict=True):
        for ax, image, heat in zip(row, pixels, highlight(maps, pixels.shape[1:3]), strict=True):
            overlay(ax, image, heat[0].numpy())
        row[0].set_ylabel(label)
    return figure


def segments(sources: Mapping[str, Maps], pixels: Pixels, colours: int = 8) -> Figure:
    """Which cluster wins at each patch: a row a source, a column an image -> Figure.

    The busiest clusters of each source have colours, the others are grey; equal colours in two rows mean nothing.
    """
    figure, axes = image_grid(pixels, len(sources))
    palette = ListedColormap([OTHERS, *PALETTE[:7], *PALETTE[8:]][: colours + 1])
    for row, (label, maps) in zip(axes[1:], sources.items(), strict=True):
        colour = torch.zeros(maps.shape[1], dtype=torch.long)
        colour[busiest(maps, colours)] = torch.arange(1, min(colours, maps.shape[1]) + 1)
        won = winners(maps)
        for ax, shown in zip(row, colour[won].numpy(), strict=True):
            bare(ax).imshow(shown, cmap=palette, vmin=0, vmax=colours, interpolation="nearest")
        row[0].set_ylabel(f"{label}\n{len(won.unique())} winners")
    return figure


def overlap(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """An `iou_table` as dots with their intervals; crosses: one map for all objects -> Axes."""
    ax = axes_or_new(ax, (5.6, 0.9 + 0.33 * len(table)))
    for y, (source, row) in enumerate(table.iterrows()):
        colour = PALETTE[0] if "GIFT" in str(source) else "0.4"
        ax.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        ax.plot(row["best"], y, "o", color=colour)
        ax.plot(row["one_for_all"], y, "x", color=colour)
    ax.plot([], [], "o", color="0.4", label="best map for each object")
    ax.plot([], [], "x", color="0.4", label="one map for all")
    ax.set_yticks(range(len(table)), table.index)
    ax.set(xlabel="intersection over union", xlim=(0, 1), ylim=(len(table) - 0.5, -0.5))
    ax.legend(loc="upper right")
    return ax
