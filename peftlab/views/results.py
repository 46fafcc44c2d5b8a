"""Runs compared: learning curves, accuracy against parameters."""

import numpy as np

from ..statistics import accuracy_interval
from .style import axes_or_new, method_color


def curves(runs, column="loss", ax=None):
    """One line a run over its epochs -> Axes. column: 'loss' (nats) or 'accuracy' on the training images."""
    ax = axes_or_new(ax)
    for run in runs:
        table, name = run.curves, run.model.method.name
        ax.plot(table["epoch"], table[column], marker="o", markersize=3, color=method_color(name), label=name)
    ax.set(xlabel="epoch", ylabel=f"training {column}", title=runs[0].task.title)
    ax.legend(frameon=False, fontsize=8)
    return ax


def parameters_accuracy(table, ax=None, chance=None):
    """Test accuracy against trained parameters, head apart, with 95 % Wilson intervals over test images -> Axes.

    table: ledger rows of one task. A method without parameters of its own stands at the left edge, at 1.
    """
    ax = axes_or_new(ax)
    for row in table.itertuples():
        low, high = accuracy_interval(row.test_accuracy, row.test_images)
        x, y = max(row.parameters, 1), 100 * row.test_accuracy
        spread = [[y - 100 * low], [100 * high - y]]
        ax.errorbar(x, y, yerr=spread, fmt="o", color=method_color(row.method), capsize=3)
        ax.annotate(row.method, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8)
    if chance is not None:
        ax.axhline(100 * chance, color="0.5", linestyle=":", linewidth=1)
        ax.annotate("chance", (1, 100 * chance), xytext=(0, 2), textcoords="offset points", fontsize=7, color="0.4")
    ax.set_xscale("log")
    ax.set(xlabel="trained parameters without head", ylabel="test accuracy (%)", ylim=(0, 100))
    ax.margins(x=0.15)
    names = table["task"] + np.where(table["rendered"], " (rendered)", "")
    ax.set_title(", ".join(sorted(names.unique())), fontsize=10)
    return ax
