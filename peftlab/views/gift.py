"""GIFT looked at: what its generator computes, its clusters laid over images, and how well they fit objects."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA

from ..analysis.clusters import assignment, highlight, winners
from .style import PALETTE, SEQUENTIAL, axes_or_new, bare, image_grid

HEAT, DIVERGING, OTHERS = "inferno", "RdBu_r", (0.8, 0.8, 0.8)


def _along_first_component(matrix):
    """Order of the rows of a matrix along their first principal component, so that similar ones are neighbours."""
    return PCA(1, random_state=0).fit_transform(matrix)[:, 0].argsort()


@torch.inference_mode()
def anatomy(model, layer=-1):
    """What the generator of a gift model makes of one layer: W, tokens, clusters, attention, change -> Figure.

    Output channels are the rows of all five, in one order: along the first principal component of C.
    """
    linear = model.vit.blocks[layer].attn.proj
    generator, index = linear.shared[0], linear.index
    weights, paca = generator.weights(), generator.blocks[-1].attn
    seen, hook = [], paca.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    tokens = generator(weights)
    hook.remove()
    U = seen[0]
    C, A = paca.assignment(U)[index], paca.attention(U, paca.soft_clusters(U))[index].mean(0)
    change = generator.recover(tokens)[index]
    order = _along_first_component(C.cpu().numpy())
    parts = {"W": weights[index], "tokens U": U[index], "clusters C": C, "attention A": A, "change": change}
    figure, axes = plt.subplots(1, len(parts), figsize=(10, 3.1), layout="constrained")
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        shown = part.cpu().numpy()[order]
        if name in ("clusters C", "attention A"):
            image = ax.imshow(shown, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
        else:
            top = np.quantile(abs(shown), 0.99) or 1
            image = ax.imshow(shown, cmap=DIVERGING, vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
        bare(ax, f"{name}\n{shown.shape[0]} x {shown.shape[1]}")
        bar = figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, ticks=MaxNLocator(3))
        bar.ax.tick_params(labelsize=6)
    axes[0].set_ylabel("output channel", fontsize=8)
    return figure


def clusters(model, layer=-1, ax=None):
    """C of one layer as a heatmap; channels and clusters ordered along their first principal components -> Axes."""
    ax, C = axes_or_new(ax, (4.6, 3.4)), assignment(model, layer).numpy()
    C = C[_along_first_component(C)][:, _along_first_component(C.T)]
    image = ax.imshow(C, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    ax.set(xlabel="cluster (ordered)", ylabel="output channel (ordered)", xticks=[], yticks=[])
    ax.set_title(f"block {layer % len(model.vit.blocks) + 1}, C {C.shape[0]} x {C.shape[1]}", fontsize=9)
    ax.figure.colorbar(image, ax=ax, label="assignment")
    return ax


def overlay(ax, image, heat, title=""):
    """A map [H, W] in [0, 1] over a uint8 image [H, W, 3], 0.6 to 0.4 and stretched again, as the recipe has it.

    The released visualiser uses the colours "jet", which are neither even nor safe for the colour-blind; ours differ.
    """
    mixed = 0.6 * plt.get_cmap(HEAT)(heat)[..., :3] + 0.4 * np.asarray(image) / 255
    low, high = mixed.min(), mixed.max()
    return bare(ax, title).imshow((mixed - low) / max(high - low, 1e-12))


def busiest(maps, n):
    """Numbers of the n clusters that win most patches over all images of maps [B, M, h, w], the busiest first."""
    return torch.bincount(winners(maps).flatten(), minlength=maps.shape[1]).argsort(descending=True, stable=True)[:n]


def overlays(sources, pixels, cluster=None):
    """One cluster of each source laid over each image: a row a source, a column an image -> Figure.

    sources: {label: maps [B, M, h, w]}; pixels: uint8 [B, H, W, 3]; cluster: its number; None: each source's busiest.
    """
    chosen = {label: busiest(maps, 1).item() if cluster is None else cluster for label, maps in sources.items()}
    return _overlaid({f"{label}\ncluster {c}": sources[label][:, [c]] for label, c in chosen.items()}, pixels)


def gallery(maps, pixels, clusters=6):
    """The busiest clusters of maps [B, M, h, w] over each image: a row a cluster, a column an image -> Figure."""
    return _overlaid({f"cluster {c}": maps[:, [c]] for c in busiest(maps, clusters).tolist()}, pixels)


def _overlaid(rows, pixels):
    """{label: maps [B, 1, h, w]} over the images."""
    figure, axes = image_grid(pixels, len(rows))
    for row, (label, maps) in zip(axes[1:], rows.items(), strict=True):
        for ax, image, heat in zip(row, pixels, highlight(maps, pixels.shape[1:3]), strict=True):
            overlay(ax, image, heat[0].numpy())
        row[0].set_ylabel(label, fontsize=8)
    return figure


def segments(sources, pixels, colours=8):
    """Which cluster wins at each patch: a row a source, a column an image -> Figure.

    The busiest clusters of each source have colours, the others are grey; equal colours in two rows mean nothing.
    """
    figure, axes = image_grid(pixels, len(sources))
    palette = ListedColormap([OTHERS, *PALETTE[:7], *PALETTE[8:]][: colours + 1])
    for row, (label, maps) in zip(axes[1:], sources.items(), strict=True):
        place = torch.zeros(maps.shape[1], dtype=torch.long)
        place[busiest(maps, colours)] = torch.arange(1, min(colours, maps.shape[1]) + 1)
        won = winners(maps)
        for ax, shown in zip(row, place[won].numpy(), strict=True):
            bare(ax).imshow(shown, cmap=palette, vmin=0, vmax=colours, interpolation="nearest")
        row[0].set_ylabel(f"{label}\n{len(won.unique())} winners", fontsize=8)
    return figure


def overlap(table, ax=None):
    """An `iou_table` as dots with their intervals; crosses: one map for all objects -> Axes."""
    ax = axes_or_new(ax, (5.6, 0.9 + 0.33 * len(table)))
    for y, (source, row) in enumerate(table.iterrows()):
        colour = PALETTE[0] if "GIFT" in str(source) else "0.4"
        ax.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        ax.plot(row["best"], y, "o", color=colour)
        ax.plot(row["one_for_all"], y, "x", color=colour)
    ax.plot([], [], "o", color="0.4", label="best map for each object")
    ax.plot([], [], "x", color="0.4", label="one map for all")
    ax.set_yticks(range(len(table)), table.index, fontsize=8)
    ax.set(xlabel="intersection over union", xlim=(0, 1), ylim=(len(table) - 0.5, -0.5))
    ax.legend(frameon=False, fontsize=8, loc="upper right")
    return ax
