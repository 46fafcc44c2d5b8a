"""Methods side by side: what they train, learning curves, accuracy against parameters, what they cost.

>>> from peftlab.results.published import read_results
>>> figure = costs(read_results("strength_costs").set_index("method").loc[["full", "norm", "lora"]])
>>> figure.axes[0].get_title().splitlines(), [text.get_text() for text in figure.axes[0].texts]
(['trained parameters', '(log)'], ['100', '0.089', '0.68'])
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..common.errors import PeftlabError
from ..results.ledger import task_titles
from ..results.statistics import accuracy_interval
from .style import axes_or_new, bare, family_color, family_legend, method_style

SIDE = 25  # dots on a side of the square that stands for all weights


def trained_shares(shares: Mapping[str, float]) -> Figure:
    """A square of 625 dots for each {method: share of the backbone's weights that it trains}, trained ones coloured.

    >>> [ax.get_title() for ax in trained_shares({"linear": 0, "lora": 0.014}).axes]
    ['linear: 0 %', 'lora: 1.4 %']
    """
    figure, axes = plt.subplots(1, len(shares), figsize=(2.6 * len(shares), 2.9), layout="constrained", squeeze=False)
    for ax, (name, share) in zip(axes[0], shares.items(), strict=True):
        dots = np.zeros(SIDE**2)
        dots[: int(np.ceil(share * SIDE**2))] = 1  # from the upper left corner, so that they can be counted
        size = int(np.ceil(np.sqrt(dots.sum()))) or 1
        square = np.zeros((SIDE, SIDE))
        square[:size, :size].flat[: int(dots.sum())] = 1
        colors = ListedColormap([(0.85, 0.85, 0.85), method_style(name)[0]])
        bare(ax, f"{name}: {100 * share:.3g} %").pcolormesh(
            square[::-1], cmap=colors, vmin=0, vmax=1, edgecolors="white", linewidth=1.5
        )
        ax.title.set_fontsize(16)
        ax.set_aspect("equal")
    return figure


def curves(tables: Mapping[str, pd.DataFrame], column: str = "accuracy", ax: Axes | None = None) -> Axes:
    """One line a method over its epochs -> Axes. tables: {method: curves of its run}, with `column` in [0, 1]."""
    ax = axes_or_new(ax, (5.5, 3.4))
    for name, table in tables.items():
        color, marker = method_style(name)
        ax.plot(table["epoch"], 100 * table[column], marker=marker, color=color, label=name)
    ax.set(xlabel="epoch", ylabel=f"training {column} (%)", ylim=(0, 102))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def parameters_accuracy(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Test accuracy of methods on one task against trained parameters, head apart -> Axes.

    table: ledger rows of one task with `linear` and others. Dots are means over seeds, lines 95 % Wilson intervals
    for so many test images. The axis is logarithmic above 1,000 and linear below, so that 0 has a place. The title
    says what the best of the methods that leave most weights frozen adds to the linear probe.
    """
    ax = axes_or_new(ax, (5.2, 3.6))
    means = table.groupby("method", sort=False)[["parameters", "test_accuracy", "test_images"]].mean()
    for name, row in means.sort_values("parameters").iterrows():
        low, high = accuracy_interval(row["test_accuracy"], int(row["test_images"]))
        x, y, (color, marker) = row["parameters"], 100 * row["test_accuracy"], method_style(str(name))
        ax.errorbar(x, y, yerr=[[y - 100 * low], [100 * high - y]], fmt=marker, color=color, capsize=3)
        tip = (x, 100 * high)  # the name stands upright on it: slanted, it would lie on the bar beside it
        ax.annotate(str(name), tip, (0, 4), textcoords="offset points", rotation=90, ha="center", va="bottom")
    ax.margins(y=0.25)
    most = max(1000, means["parameters"].max())
    ticks = [0, *(10**k for k in range(3, 10) if 10**k <= 5 * most)]
    ax.set_xscale("symlog", linthresh=1000)
    ax.set_xlim(-300, 12 * most)
    ax.set_xticks(ticks, [f"{t:,}".replace(",000,000", " M").replace(",000", " k") for t in ticks], minor=False)
    ax.set_xticks([], minor=True)
    ax.set(xlabel="trained parameters without head (log)", ylabel="test accuracy (%)")
    best = str(means.drop(["linear", "full"], errors="ignore")["test_accuracy"].idxmax())
    gain = 100 * (means["test_accuracy"][best] - means["test_accuracy"]["linear"])
    ax.set_title(f"{', '.join(task_titles(table).values())}\n{best}: {gain:+.0f} points above the linear probe")
    return ax


COSTS = {
    "parameters": "trained parameters\n(log)",
    "gflops_training": "arithmetic of\na training step",
    "activation_mib": "activation\nmemory",
    "peak_mib": "peak memory",
    "step_ms": "time of\na training step",
    "latency_ms": "latency of\none image",
}


def costs(card: pd.DataFrame) -> Figure:
    """A cost card in % of full fine-tuning as bars, one panel a cost, coloured by family -> Figure.

    card: from `cost_card`, a row a method, `full` among them; costs that it lacks are left out. Raises PeftlabError
    without `full`.
    """
    if "full" not in card.index:
        raise PeftlabError("the card has no row 'full', of which the others are shares; make it with that method, too")
    shown = {column: title for column, title in COSTS.items() if column in card}
    size = (2.1 * len(shown) + 1.2, 1.5 + 0.3 * len(card))
    figure, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for ax, (column, title) in zip(axes[0], shown.items(), strict=True):
        values = 100 * card[column] / float(card[column]["full"])
        bars = ax.barh(card.index, values, color=[family_color(family) for family in card["family"]])
        numbers = [f"{v:.2g}" if v < 100 else f"{v:.0f}" for v in values]
        ax.bar_label(bars, numbers, padding=2, bbox={"color": "white", "pad": 0})  # the dotted line stays behind them
        ax.axvline(100, color="0.3", linestyle=":", linewidth=1)
        ax.set_title(title)
        ax.set(xlim=(0, 1.45 * values.max()), xticks=[])
        if column == "parameters":
            ax.set_xscale("symlog", linthresh=0.01)
            ax.set(xlim=(0, 2e4), xticks=[])
            ax.minorticks_off()
        ax.spines["bottom"].set_visible(False)
    axes[0, 0].invert_yaxis()
    few = 100 * card["parameters"].drop("full").max() / card["parameters"]["full"]
    figure.suptitle(f"In % of full fine-tuning (dotted): at most {few:.2g} % of its parameters, but much of its cost")
    family_legend(figure, card["family"])
    return figure
