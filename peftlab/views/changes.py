"""What training changed, and where gradients flow."""

import numpy as np

from ..analysis.changes import gradient_flow, weight_change
from .style import SEQUENTIAL, axes_or_new


def change_map(model, ax=None, highest=None):
    """Heatmap of `weight_change`: blocks down, layers across; untouched layers stay blank -> Axes."""
    return _map(100 * weight_change(model), f"{model.method.title}: relative change", "%", ax, highest)


def gradient_map(model, task, ax=None, highest=None):
    """Heatmap of `gradient_flow` -> Axes."""
    return _map(gradient_flow(model, task), f"{model.method.title}: gradient norm", "", ax, highest)


def _map(values, title, unit, ax, highest):
    ax = axes_or_new(ax, (4.6, 3))
    shown = np.ma.masked_equal(values.to_numpy(), 0)
    ax.set_facecolor("0.93")
    image = ax.imshow(shown, cmap=SEQUENTIAL, vmin=0, vmax=highest, aspect="auto")
    ax.set_xticks(range(values.shape[1]), [place.split(".")[-1] for place in values], fontsize=8)
    ax.set_yticks(range(len(values)), values.index, fontsize=8)
    ax.set(ylabel="block", title=title)
    ax.title.set_fontsize(10)
    if not shown.mask.all():
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.8)
    return ax
