"""What training changed, and where gradients flow."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from ..analysis.changes import gradient_flow, weight_change
from ..methods.core.model import PeftModel
from ..tasks.task import Task
from .style import SEQUENTIAL


def change_maps(models: Sequence[PeftModel]) -> Figure:
    """`weight_change` in %, a heatmap a model on one scale, untouched layers grey -> Figure."""
    tables = [100 * weight_change(model) for model in models]
    most = [table.to_numpy().max() for table in tables]
    titles = [f"{model.method.title}: up to {top:.1f} %" for model, top in zip(models, most, strict=True)]
    return _maps(tables, titles, Normalize(0, max(most)), "change of the weights (%)")


def gradient_maps(models: Sequence[PeftModel], task: Task) -> Figure:
    """`gradient_flow`, a heatmap a model on one logarithmic scale; frozen layers grey -> Figure."""
    tables = [gradient_flow(model, task) for model in models]
    values = np.concatenate([table.to_numpy().ravel() for table in tables])
    positive = values[values > 0]  # a linear probe has none
    norm = LogNorm(positive.min(), positive.max()) if len(positive) else Normalize()
    titles = [
        f"{model.method.title}: {(table > 0).any().sum()} of {table.shape[1]} layers"
        for model, table in zip(models, tables, strict=True)
    ]
    return _maps(tables, titles, norm, "norm of the gradient (log)")


def _maps(tables: Sequence[pd.DataFrame], titles: Sequence[str], norm: Normalize, unit: str) -> Figure:
    """Heatmaps side by side with one colour bar; zeros stay grey."""
    size = (1 + 3.3 * len(tables), 3.1)
    figure, axes = plt.subplots(1, len(tables), figsize=size, layout="constrained", squeeze=False)
    for ax, title, table in zip(axes[0], titles, tables, strict=True):
        ax.set_facecolor("0.88")
        shown = np.ma.masked_equal(table.to_numpy(), 0)
        image = ax.imshow(shown, cmap=SEQUENTIAL, norm=norm, aspect="auto")
        ax.set_xticks(range(table.shape[1]), [str(path).split(".")[-1] for path in table], rotation=30)
        ax.set_yticks(range(len(table)), table.index)
        ax.set_title(title)
    axes[0, 0].set_ylabel("block")
    figure.colorbar(image, ax=axes, label=unit, shrink=0.9)
    return figure
