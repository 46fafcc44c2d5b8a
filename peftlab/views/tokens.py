"""What tokens know: PCA of patch tokens as colours, a plane of image features, probes beside a control."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from torch import Tensor

from ..analysis.probes import explained_by_class
from ..backbones.types import Pixels
from ..results.statistics import accuracy_interval
from .style import MARKERS, PALETTE, SEQUENTIAL, axes_or_new, bare, class_label, image_grid

NAMED = 10  # classes whose colours can be kept apart
BAR_COLORS = ("0.8", PALETTE[0], PALETTE[1], PALETTE[7])


def patch_pca(
    pixels: Pixels, tokens: Mapping[str, Float[Tensor, "images rows columns channels"]], title: str = ""
) -> Figure:
    """Images above, below them a row for each backbone: its patch tokens' first three components as colours -> Figure.

    tokens: {name: `probes.patch_tokens`}. One PCA a backbone for all images, so that equal colours mean similar tokens
    across images. Signs of components are arbitrary: colours have no meaning beyond similarity.
    """
    figure, axes = image_grid(pixels, len(tokens))
    for row, (name, grid) in zip(axes[1:], tokens.items(), strict=True):
        rgb = PCA(3, random_state=0).fit_transform(grid.flatten(0, 2).numpy())
        low, high = np.percentile(rgb, [2, 98], axis=0)
        for ax, picture in zip(
            row, np.clip((rgb - low) / (high - low), 0, 1).reshape(*grid.shape[:3], 3), strict=True
        ):
            bare(ax).imshow(picture)
        row[0].set_ylabel(name)
    figure.suptitle(title)
    return figure


def feature_plane(
    features: Float[np.ndarray | Tensor, "images channels"],
    labels: Int64[np.ndarray, " images"],
    classes: Sequence[str],
    ordered: bool,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Image features on their first two principal components -> Axes. The title says what the class explains of them.

    ordered: classes along a scale, from the first to the last; otherwise ten classes or fewer have a legend.

    >>> ax = feature_plane(np.eye(3), np.array([0, 1, 1]), ("cat", "dog"), ordered=False)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['cat', 'dog']
    """
    ax = axes_or_new(ax, (5.5, 4.2))
    plane = PCA(2, random_state=0).fit_transform(features)
    if len(classes) <= NAMED and not ordered:
        for c in np.unique(labels):  # told apart by form, too
            x, y = plane[labels == c].T
            ax.scatter(
                x, y, 22, color=PALETTE[c], marker=MARKERS[c], alpha=0.8, linewidths=0, label=class_label(classes[c])
            )
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        dots = ax.scatter(plane[:, 0], plane[:, 1], 22, labels, cmap=SEQUENTIAL, alpha=0.8, linewidths=0)
        if ordered:
            bar = ax.figure.colorbar(dots, ax=ax, ticks=[0, len(classes) - 1])
            bar.set_ticklabels([classes[0], classes[-1]])
    ax.set(xlabel="1st component", ylabel="2nd component", xticks=[], yticks=[])
    ax.set_title(f"{title}: the class explains {explained_by_class(plane, labels):.0%} of this plane")
    return ax


def probes(known: pd.DataFrame, images: Sequence[int], ax: Axes | None = None) -> Axes:
    """Test accuracies in %, a group of bars a task, with Wilson's 95 % interval over test images -> Axes.

    known: a row a task; first column chance, the last two the probe of the pre-trained and of the random backbone.
    images: test images of each task.
    """
    ax = axes_or_new(ax, (2 + 2.1 * len(known), 3.8))
    width, x = 0.8 / len(known.columns), np.arange(len(known))
    for i, (name, color) in enumerate(zip(known.columns, BAR_COLORS, strict=True)):
        values = known[name].to_numpy()
        ends = [accuracy_interval(value / 100, n) for value, n in zip(values, images, strict=True)]
        spans = np.abs(100 * np.array(ends).T - values) if i else None  # chance has none
        place = x + (i - (len(known.columns) - 1) / 2) * width
        bars = ax.bar(place, values, 0.92 * width, yerr=spans, capsize=2, ecolor="0.2", color=color, label=name)
        ax.bar_label(bars, [f"{value:.0f}" for value in values], padding=2)
    gap = known.iloc[:, -2] - known.iloc[:, -1]
    ax.set_xticks(x, [name.replace(" (", "\n(") for name in known.index])
    ax.set(ylabel="test accuracy (%)", ylim=(0, 118), yticks=range(0, 101, 20))
    ax.set_title(
        f"Pre-training adds {gap.max():.0f} points to the probe on {gap.idxmax()}, {gap.min():.0f} on {gap.idxmin()}",
        pad=26,
    )
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=len(known.columns))
    return ax
