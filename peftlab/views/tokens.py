"""What the backbone's tokens know: PCA of patch tokens as colours, a plane of image features."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from torch import Tensor

from ..analysis.probes import patch_tokens
from ..backbones.preprocess import input_size
from ..backbones.types import ViT
from ..tasks.task import Task
from .style import SEQUENTIAL, axes_or_new, bare


def patch_pca(vit: ViT, task: Task, images: int = 6, split: str = "train800", start: int = 0) -> Figure:
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
    figure.suptitle(f"{task.title}: patch tokens, first three principal components")
    return figure


def feature_plane(
    features: Float[np.ndarray | Tensor, "images channels"],
    labels: Int64[np.ndarray, " images"],
    classes: Sequence[str],
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Image features on their first two principal components, coloured by label -> Axes.

    >>> x, labels = np.eye(3), np.array([0, 1, 1])
    >>> feature_plane(x, labels, ("cat", "dog")).collections[0].get_offsets().shape
    (3, 2)
    """
    ax = axes_or_new(ax, (4.2, 3.6))
    plane = PCA(2, random_state=0).fit_transform(features)
    points = ax.scatter(plane[:, 0], plane[:, 1], c=labels, cmap=SEQUENTIAL, s=8, linewidths=0)
    ax.set(xlabel="1st component", ylabel="2nd component", title=title, xticks=[], yticks=[])
    bar = ax.figure.colorbar(points, ax=ax, label="class")
    bar.set_ticks([0, len(classes) - 1])
    return ax
