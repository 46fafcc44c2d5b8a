"""What the backbone's tokens know: PCA of patch tokens as colours, a plane of image features."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import PCA

from ..backbones.preprocess import input_size, prepare_for
from .style import SEQUENTIAL, axes_or_new, bare


@torch.inference_mode()
def patch_tokens(vit, pixels):
    """uint8 images [B, H, W, 3] -> final patch tokens as a grid [B, rows, columns, D], prefix tokens left out."""
    tokens = vit.forward_features(prepare_for(vit, pixels))[:, vit.num_prefix_tokens :]
    return tokens.reshape(len(tokens), *vit.patch_embed.grid_size, -1).cpu()


def patch_pca(vit, task, images=6, split="train800", start=0):
    """Images above, below them their patch tokens' first three principal components as red, green, blue -> Figure.

    One PCA for all images shown, so that equal colours mean similar tokens across images. Signs of components are
    arbitrary: colours have no meaning beyond similarity.
    """
    chosen = range(start, start + images)
    pixels = task.pixels(split, input_size(vit), chosen)
    grid = patch_tokens(vit, pixels)
    rgb = PCA(3, random_state=0).fit_transform(grid.flatten(0, 2).numpy())
    low, high = np.percentile(rgb, [2, 98], axis=0)
    rgb = np.clip((rgb - low) / (high - low), 0, 1).reshape(*grid.shape[:3], 3)
    labels = task.labels(split)
    figure, axes = plt.subplots(2, images, figsize=(1.5 * images, 3.3), layout="constrained", squeeze=False)
    for column, i in enumerate(chosen):
        bare(axes[0, column], task.classes[labels[i]][:18]).imshow(pixels[column].numpy())
        bare(axes[1, column]).imshow(rgb[column])
    figure.suptitle(f"{task.title}: patch tokens, first three principal components", fontsize=10)
    return figure


def feature_plane(features, labels, classes, ax=None, title=""):
    """Image features [n, D] on their first two principal components, coloured by label [n] -> Axes."""
    ax = axes_or_new(ax, (4.2, 3.6))
    plane = PCA(2, random_state=0).fit_transform(features)
    points = ax.scatter(*plane.T, c=labels, cmap=SEQUENTIAL, s=8, linewidths=0)
    ax.set(xlabel="1st component", ylabel="2nd component", title=title, xticks=[], yticks=[])
    bar = ax.figure.colorbar(points, ax=ax, label="class")
    bar.set_ticks([0, len(classes) - 1])
    return ax
