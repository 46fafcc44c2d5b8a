"""Runs compared: learning curves, accuracy against parameters."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..statistics import accuracy_interval
from .style import axes_or_new, method_color


def curves(runs, column="loss", ax=None):
    """One line a run over its epochs -> Axes. column: 'loss' (nats) or 'accuracy' on the training images."""
    ax = axes_or_new(ax)
    for run in runs:
        table, name = run.curves, run.model.method.name
        ax.plot(table["epoch"], table[column], marker="o", markersize=3, color=method_color(name), label=name)
    ax.set(xlabel="epoch", ylabel=f"training {column}", title=runs[0].task.title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=8)
    return ax


def parameters_accuracy(table, ax=None, chance=None):
    """Test accuracy against trained parameters, head apart, with 95 % Wilson intervals over test images -> Axes.

    table: ledger rows of one task. The axis is logarithmic above 1,000 and linear below, so that 0 has a place.
    """
    ax = axes_or_new(ax)
    for i, row in enumerate(table.sort_values("parameters").itertuples()):
        low, high = accuracy_interval(row.test_accuracy, row.test_images)
        x, y = row.parameters, 100 * row.test_accuracy
        ax.errorbar(x, y, yerr=[[y - 100 * low], [100 * high - y]], fmt="o", color=method_color(row.method), capsize=3)
        beside = (6, 4 if i % 2 else -12)  # neighbours' names do not touch
        ax.annotate(row.method, (x, y), xytext=beside, textcoords="offset points", fontsize=8)
    if chance is not None:
        ax.axhline(100 * chance, color="0.5", linestyle=":", linewidth=1)
        ax.text(0.99, 100 * chance - 1, "chance", transform=ax.get_yaxis_transform(), ha="right", va="top", fontsize=7)
    most = max(1000, table["parameters"].max())
    ticks = [0, *(10**k for k in range(3, 10) if 10**k <= 5 * most)]
    ax.set_xscale("symlog", linthresh=1000)
    ax.set_xlim(-300, 8 * most)
    ax.set_xticks(ticks, [f"{t:,}".replace(",000,000", " M").replace(",000", " k") for t in ticks], minor=False)
    ax.set_xticks([], minor=True)
    ax.set(xlabel="trained parameters without head", ylabel="test accuracy (%)", ylim=(0, 106))
    names = table["task"] + np.where(table["rendered"], " (rendered)", "")
    ax.set_title(", ".join(sorted(names.unique())), fontsize=10)
    return ax
