"""The two-stage paradigm looked at: what stage 1 moves, which channels matter, where in an image they do."""

import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import MaxNLocator
from scipy.stats import spearmanr

from ..backbones.preprocess import prepare_for
from ..methods.core.importance import activations_and_gradients, places
from ..methods.norm import norm_layers
from .gift import overlay
from .style import PALETTE, SEQUENTIAL, axes_or_new, image_grid


def importance_map(scores, ordered=False, ax=None, title=""):
    """Scores [L, D] as a heatmap of their logarithms, a row a block -> Axes. ordered: each row by falling score."""
    ax = axes_or_new(ax, (8, 0.6 + 0.25 * len(scores)))
    shown = scores.sort(descending=True)[0] if ordered else scores
    image = ax.imshow(shown.clamp_min(1e-12).log10().numpy(), cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    ax.set_yticks(range(len(scores)), range(1, len(scores) + 1))
    ax.set(xlabel="channel" + ", each row by falling score" * ordered, ylabel="block", title=title)
    ax.title.set_fontsize(10)
    ax.figure.colorbar(image, ax=ax, label="log10 of importance")
    return ax


def spatial_maps(vit, pixels, labels, blocks=(0, -1)):
    """Where in the images the loss depends on a block: |h g| summed over channels for each patch -> Figure.

    vit: with its head. pixels: uint8 [B, H, W, 3]; labels [B]. A row a block, a column an image; 1 is a map's maximum.
    """
    where = places(vit)
    x = prepare_for(vit, pixels)
    pairs = activations_and_gradients(vit.eval(), where, x, torch.as_tensor(labels).to(x.device))
    figure, axes = image_grid(pixels, len(blocks))
    for row, block in zip(axes[1:], blocks, strict=True):
        h, g = pairs[block]
        maps = (h * g).abs().sum(-1)[:, -vit.patch_embed.num_patches :].unflatten(1, vit.patch_embed.grid_size)
        large = torch.nn.functional.interpolate(maps[:, None], pixels.shape[1:3], mode="bilinear")[:, 0].cpu()
        for ax, image, heat in zip(row, pixels, large, strict=True):
            overlay(ax, image, (heat / heat.max().clamp_min(1e-12)).numpy())
        row[0].set_ylabel(f"block {block % len(where) + 1}", fontsize=8)
    return figure


def jaccard(chosen):
    """Overlap |A and B| / |A or B| of index sets -> DataFrame. chosen: {label: indices}."""
    sets = {label: set(np.asarray(indices).tolist()) for label, indices in chosen.items()}
    table = [[len(a & b) / max(len(a | b), 1) for b in sets.values()] for a in sets.values()]
    return pd.DataFrame(table, index=list(sets), columns=list(sets))


def overlap(chosen, channels, ax=None, title=""):
    """`jaccard` as a heatmap with its numbers; the title says what chance gives -> Axes. channels: their number, D."""
    table = jaccard(chosen)
    ax = axes_or_new(ax, (1.6 + 0.45 * len(table), 1.2 + 0.4 * len(table)))
    share = np.mean([len(indices) for indices in chosen.values()]) / channels
    ax.imshow(table, cmap=SEQUENTIAL, vmin=0, vmax=1)
    for i, j in np.ndindex(table.shape):
        value = table.iloc[i, j]
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="black" if value > 0.5 else "white")
    ax.set_xticks(range(len(table)), table.columns, rotation=45, ha="right", fontsize=8)
    ax.set_yticks(range(len(table)), table.index, fontsize=8)
    ax.set_title(f"{title}\nchance: {share / (2 - share):.2f}".strip(), fontsize=9)
    return ax


def norm_change(model):
    """How far stage 1 moved each LayerNorm, ||after - before|| / ||before|| -> DataFrame [2L + 1, gamma and beta]."""
    before, after = (norm_layers([vit], vit.embed_dim) for vit in (model.backbone, model.vit))
    rows = []
    for old, new in zip(before, after, strict=True):
        pairs = {"gamma": (old.weight, new.weight), "beta": (old.bias, new.bias)}
        rows.append({k: ((b.cpu() - a.cpu()).norm() / a.norm().cpu()).item() for k, (a, b) in pairs.items()})
    names = [f"{i // 2 + 1}.{i % 2 + 1}" for i in range(len(rows) - 1)]
    return pd.DataFrame(rows, index=[*names, "final"])


def norm_changes(model, ax=None):
    """`norm_change` as lines over depth: "3.1" is the first norm of block 3, "3.2" its second -> Axes."""
    ax, table = axes_or_new(ax, (6, 2.8)), norm_change(model)
    for i, (column, marker) in enumerate({"gamma": "o", "beta": "s"}.items()):
        ax.plot(range(len(table)), 100 * table[column], marker=marker, color=PALETTE[i], label=column)
    ax.set_xticks(range(len(table)), table.index, rotation=60, fontsize=7)
    ax.set(xlabel="LayerNorm", ylabel="relative change (%)", ylim=(0, None))
    ax.legend(frameon=False, fontsize=8)
    return ax


def against_removal(scores, truth, ax=None, title=""):
    """Estimated importance [D] against the measured change of the loss [D], a dot a channel -> Axes."""
    ax = axes_or_new(ax, (3.4, 3))
    ax.loglog(np.asarray(scores), np.asarray(truth), "o", markersize=3, alpha=0.6, color=PALETTE[0])
    rank = spearmanr(scores, truth).statistic
    ax.set(xlabel="Taylor score", ylabel="measured change of the loss")
    ax.set_title(f"{title}\nrank correlation {rank:.3f}".strip(), fontsize=9)
    return ax


def shift(distances, ax=None):
    """Distances of activations from those on pre-training images, a line for each {label: [places]} -> Axes."""
    ax = axes_or_new(ax, (5, 2.8))
    for i, (label, values) in enumerate(distances.items()):
        ax.plot(range(1, len(values) + 1), np.asarray(values), marker="os^v"[i % 4], color=PALETTE[i], label=label)
    ax.set(xlabel="block", ylabel="distance (standard deviations)", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=8)
    return ax
