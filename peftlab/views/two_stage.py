"""The two-stage paradigm looked at: what stage 1 moves, which channels matter, where in an image they do."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from ..analysis.changes import norm_change
from ..analysis.two_stage import jaccard, spatial_importance
from ..backbones.types import Pixels, ViT
from ..methods.core.model import PeftModel
from .gift import overlay
from .style import PALETTE, SEQUENTIAL, axes_or_new, image_grid


def importance_map(
    scores: Float[Tensor, "blocks channels"], ordered: bool = False, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Scores as a heatmap of their logarithms, a row a block -> Axes. ordered: each row by falling score.

    >>> importance_map(torch.tensor([[0.1, 10.0]]), ordered=True).images[0].get_array().tolist()
    [[1.0, -1.0]]
    """
    ax = axes_or_new(ax, (8, 0.6 + 0.25 * len(scores)))
    shown = scores.sort(descending=True)[0] if ordered else scores
    image = ax.imshow(shown.clamp_min(1e-12).log10().numpy(), cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    ax.set_yticks(range(len(scores)), [str(block) for block in range(1, len(scores) + 1)])
    ax.set(xlabel="channel" + ", each row by falling score" * ordered, ylabel="block", title=title)
    ax.figure.colorbar(image, ax=ax, label="log10 of importance")
    return ax


def spatial_maps(
    vit: ViT, pixels: Pixels, labels: Int64[np.ndarray, " batch"], blocks: Sequence[int] = (0, -1)
) -> Figure:
    """`spatial_importance` of some blocks over the images: a row a block, a column an image -> Figure.

    Each map is drawn from 0 to its maximum.
    """
    maps = spatial_importance(vit, pixels, torch.from_numpy(labels))
    figure, axes = image_grid(pixels, len(blocks))
    for row, block in zip(axes[1:], blocks, strict=True):
        large = F.interpolate(maps[block][:, None], pixels.shape[1:3], mode="bilinear")[:, 0].cpu()
        for ax, image, heat in zip(row, pixels, large, strict=True):
            overlay(ax, image, (heat / heat.max().clamp_min(1e-12)).numpy())
        row[0].set_ylabel(f"block {block % len(maps) + 1}")
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


def norm_changes(model: PeftModel, ax: Axes | None = None) -> Axes:
    """`norm_change` as lines over depth: "3.1" is the first norm of block 3, "3.2" its second -> Axes."""
    ax, table = axes_or_new(ax, (6, 2.8)), norm_change(model)
    for i, (column, marker) in enumerate({"gamma": "o", "beta": "s"}.items()):
        ax.plot(range(len(table)), 100 * table[column], marker=marker, color=PALETTE[i], label=column)
    ax.set_xticks(range(len(table)), table.index, rotation=60)
    ax.set(xlabel="LayerNorm", ylabel="relative change (%)", ylim=(0, None))
    ax.legend()
    return ax


def against_removal(
    scores: Float[Tensor, " channels"], truth: Float[Tensor, " channels"], ax: Axes | None = None, title: str = ""
) -> Axes:
    """Estimated importance against the measured change of the loss, a dot a channel -> Axes."""
    ax = axes_or_new(ax, (3.4, 3))
    ax.loglog(np.asarray(scores), np.asarray(truth), "o", markersize=3, alpha=0.6, color=PALETTE[0])
    rank = spearmanr(scores, truth).statistic
    ax.set(xlabel="Taylor score", ylabel="measured change of the loss")
    ax.set_title(f"{title}\nrank correlation {rank:.3f}".strip())
    return ax


def shift(distances: Mapping[str, Float[Tensor, " blocks"]], ax: Axes | None = None) -> Axes:
    """Distances of activations from the pre-training distribution in every block, a line for each label -> Axes."""
    ax = axes_or_new(ax, (5, 2.8))
    for i, (label, values) in enumerate(distances.items()):
        ax.plot(range(1, len(values) + 1), np.asarray(values), marker="os^v"[i % 4], color=PALETTE[i], label=label)
    ax.set(xlabel="block", ylabel="distance (standard deviations)", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax
