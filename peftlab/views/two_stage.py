"""Stage 1 of the two-stage paradigm looked at: how far tasks lie from photographs, and what LayerNorm tuning moves."""

from collections.abc import Sequence
from operator import itemgetter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import spearmanr

from ..analysis.two_stage import norm_steps
from ..methods.core.model import PeftModel
from .style import CONTROL, MARKERS, PALETTE, axes_or_new


def shift(table: pd.DataFrame, gains: pd.DataFrame) -> Figure:
    """How far tasks lie from photographs by block, and whether what stage 1 gains goes with coming nearer -> Figure.

    table: `read_results("shift")`; gains: `shift_and_gain()`. The dashed grey line is the control, other photographs
    of the reference's own task. On the right a path a task, from the frozen network (hollow) to the longest stage 1;
    photographs are in the same network there.
    """
    frozen = table.query("epochs == 0").pivot_table(index="task", columns="block", values="distance")
    order = list(frozen.mean(axis=1).sort_values(ascending=False).index)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for i, task in enumerate(order):
        control = i == len(order) - 1  # photographs of the reference's own task are nearest
        style = {"color": CONTROL if control else PALETTE[i], "marker": MARKERS[i]}
        label = f"other photographs ({task})" if control else task
        left.plot(frozen.columns, frozen.loc[task], "--" if control else "-", label=label, **style)
        path = gains[gains["task"] == task].sort_values("epochs")
        right.plot(path["distance"], path["gain"], **style)
        right.plot(path["distance"].iloc[0], 0, markerfacecolor="white", zorder=3, **style)
    longest = gains["epochs"].max()
    ends = gains.pivot(index="task", columns="epochs")
    moved = ends["distance", longest] - ends["distance", 0]
    gain = ends["gain", longest]
    left.set(xlabel="block", ylabel="distance, frozen (standard deviations)", ylim=(0, None))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_title(f"{order[0]} is {frozen.loc[order[0]].mean():.2f} deviations from photographs,\nmean over blocks")
    right.axhline(0, color=CONTROL, linewidth=0.8)
    right.set(xlabel="distance (mean over blocks)", ylabel="gain over the linear probe (points)")
    right.set_title(
        f"Stage 1 gains {gain.mean():.0f} points and changes distances by {moved.min():+.2f} to {moved.max():+.2f};\n"
        f"rank correlation of gain and of coming nearer {spearmanr(gain, -moved).statistic:.2f}"
    )
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def norm_changes(models: Sequence[PeftModel], ax: Axes | None = None) -> Axes:
    """`norm_steps` over depth, mean and range over models; "3.1" is the first norm of block 3 -> Axes."""
    tables = np.stack([100 * norm_steps(model) for model in models])
    labels = norm_steps(models[0])
    ax = axes_or_new(ax, (8, 3.6))
    for i, name in enumerate(labels.columns):
        values, x = tables[..., i], range(tables.shape[1])
        ax.fill_between(x, values.min(0), values.max(0), color=PALETTE[i], alpha=0.2, linewidth=0)
        ax.plot(x, values.mean(0), marker=MARKERS[i], color=PALETTE[i], label=name)
    ax.set_xticks(x, labels.index, rotation=60)
    ax.set(xlabel="LayerNorm (block.norm)", ylabel="change (%)", ylim=(0, 1.3 * tables.max()))
    ax.legend(ncols=3, loc="upper center")
    gamma, beta, read = tables.mean((0, 1))
    own, unit = ({"gamma": gamma, "beta": other} for other in (beta, read))
    (most, x), (less, y) = sorted(own.items(), key=itemgetter(1), reverse=True)
    (leads, u), (trails, v) = sorted(unit.items(), key=itemgetter(1), reverse=True)
    ax.set_title(
        f"Of its own size {most} moves most ({x:.0f} %, {less} {y:.0f} %);\n"
        f"in the unit of what the next layer reads, {leads} does ({u:.0f} %, {trails} {v:.0f} %)"
    )
    return ax
