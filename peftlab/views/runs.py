"""Runs compared: learning curves, accuracy against parameters, what methods cost.

>>> from peftlab.results.published import read_results
>>> figure = costs(read_results("costs").set_index("method"))
>>> figure.axes[2].get_title().splitlines()
['activation memory', '(MiB)']
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..results.ledger import task_titles
from ..results.statistics import accuracy_interval
from ..training.run import Run
from .style import axes_or_new, family_color, family_legend, method_style


def curves(runs: Sequence[Run], column: str = "loss", ax: Axes | None = None) -> Axes:
    """One line a run over its epochs -> Axes. column: 'loss' (nats) or 'accuracy' on the training images."""
    ax = axes_or_new(ax)
    for run in runs:
        table, name = run.curves, run.model.method.name
        color, marker = method_style(name)
        ax.plot(table["epoch"], table[column], marker=marker, markersize=4, color=color, label=name)
    ax.set(xlabel="epoch", ylabel=f"training {column}", title=runs[0].task.title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def parameters_accuracy(table: pd.DataFrame, ax: Axes | None = None, chance: float | None = None) -> Axes:
    """Test accuracy against trained parameters, head apart, with 95 % Wilson intervals over test images -> Axes.

    table: ledger rows of one task. The axis is logarithmic above 1,000 and linear below, so that 0 has a place.
    chance: top-1 of guessing, in [0, 1]; None: not drawn.
    """
    ax = axes_or_new(ax)
    for i, row in enumerate(table.sort_values("parameters").to_dict("records")):
        low, high = accuracy_interval(row["test_accuracy"], row["test_images"])
        x, y = row["parameters"], 100 * row["test_accuracy"]
        half = [[y - 100 * low], [100 * high - y]]
        color, marker = method_style(row["method"])
        ax.errorbar(x, y, yerr=half, fmt=marker, color=color, capsize=3)
        offset = (6, 4 if i % 2 else -12)  # neighbours' names do not touch
        ax.annotate(row["method"], (x, y), xytext=offset, textcoords="offset points")
    if chance is not None:
        ax.axhline(100 * chance, color="0.5", linestyle=":", linewidth=1)
        ax.text(0.99, 100 * chance - 1, "chance", transform=ax.get_yaxis_transform(), ha="right", va="top")
    most = max(1000, table["parameters"].max())
    ticks = [0, *(10**k for k in range(3, 10) if 10**k <= 5 * most)]
    ax.set_xscale("symlog", linthresh=1000)
    ax.set_xlim(-300, 8 * most)
    ax.set_xticks(ticks, [f"{t:,}".replace(",000,000", " M").replace(",000", " k") for t in ticks], minor=False)
    ax.set_xticks([], minor=True)
    ax.set(xlabel="trained parameters without head", ylabel="test accuracy (%)", ylim=(0, 106))
    ax.set_title(", ".join(sorted(task_titles(table).values())))
    return ax


COSTS = {
    "parameters": "trained\nparameters",
    "gflops_training": "GFLOPs a training\nstep and image",
    "activation_mib": "activation memory\n(MiB)",
    "peak_mib": "peak memory\n(MiB)",
    "step_ms": "training step\n(ms)",
    "latency_ms": "latency of one\nimage (ms)",
}


def costs(card: pd.DataFrame) -> Figure:
    """A cost card as bars, one panel a cost, coloured by family -> Figure. Parameters are on a logarithmic axis."""
    figure, axes = plt.subplots(1, len(COSTS), figsize=(12, 0.6 + 0.32 * len(card)), sharey=True, layout="constrained")
    for ax, (column, title) in zip(axes, COSTS.items(), strict=True):
        values = card[column]
        bars = ax.barh(card.index, values, color=[family_color(family) for family in card["family"]])
        digits = 0 if values.max() >= 100 else 1 if values.max() >= 10 else 2
        ax.bar_label(bars, [f"{v:,.{digits}f}" for v in values], padding=2)
        ax.set_title(title)
        ax.set(xlim=(0, 1.4 * values.max()), xticks=[])
        if column == "parameters":
            ax.set_xscale("symlog", linthresh=1000)
            ax.set(xlim=(0, 500 * values.max()), xticks=[])
            ax.minorticks_off()
        for side in ("top", "right", "bottom"):
            ax.spines[side].set_visible(False)
    axes[0].invert_yaxis()
    family_legend(figure, card["family"])
    return figure


def accuracies(
    table: pd.DataFrame, methods: Mapping[str, str], ax: Axes | None = None, chance: float | None = None
) -> Axes:
    """Test accuracy of methods on one task as dots with 95 % Wilson intervals over test images -> Axes.

    table: ledger rows of one task, one a method. methods: {name: family} in the order wanted, first on top.
    """
    ax = axes_or_new(ax, (4.5, 0.8 + 0.25 * len(methods)))
    for row in table.to_dict("records"):
        low, high = accuracy_interval(row["test_accuracy"], row["test_images"])
        y, (color, marker) = list(methods).index(row["method"]), method_style(row["method"])
        ax.plot([100 * low, 100 * high], [y, y], color=color, linewidth=2)
        ax.plot(100 * row["test_accuracy"], y, marker, color=color)
    if chance is not None:
        ax.axvline(100 * chance, color="0.5", linestyle=":", linewidth=1)
        ax.text(100 * chance, -0.9, " chance", color="0.4", va="center")
    ax.set_yticks(range(len(methods)), list(methods))
    ax.set(xlabel="test accuracy (%)", ylim=(len(methods) - 0.4, -1.3))
    ax.set_title(", ".join(sorted(task_titles(table).values())))
    return ax
