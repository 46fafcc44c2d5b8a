"""What training changed, and where gradients flow."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..analysis.changes import gradient_flow, weight_change
from ..methods.core.model import PeftModel
from ..tasks.task import Task
from .style import SEQUENTIAL, axes_or_new


def change_map(model: PeftModel, ax: Axes | None = None, highest: float | None = None) -> Axes:
    """Heatmap of `weight_change`: blocks down, layers across; untouched layers stay blank -> Axes.

    highest: the value (in %) of the brightest colour; None: the largest value shown.
    """
    return _map(100 * weight_change(model), f"{model.method.title}: relative change", "%", ax, highest)


def gradient_map(model: PeftModel, task: Task, ax: Axes | None = None, highest: float | None = None) -> Axes:
    """Heatmap of `gradient_flow` -> Axes."""
    return _map(gradient_flow(model, task), f"{model.method.title}: gradient norm", "", ax, highest)


def _map(values: pd.DataFrame, title: str, unit: str, ax: Axes | None, highest: float | None) -> Axes:
    """A heatmap that leaves zeros blank.

    >>> table = pd.DataFrame({"attn.qkv": [0.1, 0.2], "mlp.fc1": 0.0}, index=[1, 2])
    >>> ax = _map(table, "LoRA", "%", None, None)
    >>> [label.get_text() for label in ax.get_xticklabels()], ax.images[0].get_array().mask[0].tolist()
    (['qkv', 'fc1'], [False, True])
    """
    ax = axes_or_new(ax, (4.6, 3))
    shown = np.ma.masked_equal(values.to_numpy(), 0)
    ax.set_facecolor("0.93")
    image = ax.imshow(shown, cmap=SEQUENTIAL, vmin=0, vmax=highest, aspect="auto")
    ax.set_xticks(range(values.shape[1]), [str(path).split(".")[-1] for path in values])
    ax.set_yticks(range(len(values)), values.index)
    ax.set(ylabel="block", title=title)
    if not shown.mask.all():
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.8)
    return ax
