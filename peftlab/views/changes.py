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
    tables = {model.method.title: 100 * weight_change(model) for model in models}
    top = max(table.to_numpy().max() for table in tables.values())
    titles = {name: f"{name}: up to {table.to_numpy().max():.1f} %" for name, table in tables.items()}
    return _maps(tables, titles, Normalize(0, top), "change of the weights (%)")


def gradient_maps(models: Sequence[PeftModel], task: Task) -> Figure:
    """`gradient_flow`, a heatmap a model on one logarithmic scale; frozen layers grey -> Figure."""
    tables = {model.method.title: gradient_flow(model, task) for model in models}
    values = np.concatenate([table.to_numpy().ravel() for table in tables.values()])
    positive = values[values > 0]  # a linear probe has none
    norm = LogNorm(positive.min(), positive.max()) if len(positive) else Normalize()
    trained = {name: int((table > 0).any().sum()) for name, table in tables.items()}
    titles = {name: f"{name}: {n} of {tables[name].shape[1]} layers" for name, n in trained.items()}
    return _maps(tables, titles, norm, "norm of the gradient (log)")


def _maps(tables: dict[str, pd.DataFrame], titles: dict[str, str], norm: Normalize, unit: str) -> Figure:
    """Heatmaps side by side with one colour bar; zeros stay grey."""
    size = (1 + 3.3 * len(tables), 3.1)
    figure, axes = plt.subplots(1, len(tables), figsize=size, layout="constrained", squeeze=False)
    for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
        ax.set_facecolor("0.88")
        shown = np.ma.masked_equal(table.to_numpy(), 0)
        image = ax.imshow(shown, cmap=SEQUENTIAL, norm=norm, aspect="auto")
        ax.set_xticks(range(table.shape[1]), [str(path).split(".")[-1] for path in table], rotation=30)
        ax.set_yticks(range(len(table)), table.index)
        ax.set_title(titles[name])
    axes[0, 0].set_ylabel("block")
    figure.colorbar(image, ax=axes, label=unit, shrink=0.9)
    return figure
