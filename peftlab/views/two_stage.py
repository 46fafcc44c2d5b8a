"""Stage 1 of the two-stage paradigm looked at: how far tasks lie from photographs, and what LayerNorm tuning moves."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..analysis.two_stage import norm_steps
from ..methods.core.model import PeftModel
from .style import CONTROL, MARKERS, PALETTE, axes_or_new


def shift(table: pd.DataFrame) -> Figure:
    """Distance to photographs by block: of tasks in the frozen network, and before and after stage 1 -> Figure.

    table: `read_results("shift")`. The dashed grey line is the control, other photographs of the reference's own task.
    """
    stages = [table[table["stage"] == stage] for stage in ("frozen", "after stage 1")]
    frozen, after = (rows.pivot_table(index="task", columns="block", values="distance") for rows in stages)
    order = list(frozen.mean(axis=1).sort_values(ascending=False).index)
    *tasks, control = order  # photographs of the reference's own task are nearest
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.6, 4.8), layout="constrained", sharey=True)

    def line(ax: Axes, values: pd.Series, label: str, style: str = "-") -> None:
        i = order.index(str(values.name))
        color = CONTROL if values.name == control else PALETTE[i]
        face = "white" if style == ":" else color
        ax.plot(values.index, values, style, marker=MARKERS[i], color=color, markerfacecolor=face, label=label)

    for task in tasks:
        line(left, frozen.loc[task], task)
    for task in [name for name in order if name in after.index]:
        if task != control:
            line(right, frozen.loc[task], f"{task}, frozen", ":")
        line(right, after.loc[task], f"{task}, after stage 1")
    for ax in (left, right):
        label = f"other photographs ({control}), frozen"
        ax.plot(frozen.columns, frozen.loc[control], "--", color=CONTROL, label=label)
        ax.set(xlabel="block", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    left.set_ylabel("distance (standard deviations)")
    size, grown = frozen.mean(axis=1), after.mean(axis=1)
    left.set_title(
        f"{tasks[0]} is {size[tasks[0]]:.2f} deviations from photographs,\n{tasks[-1]} {size[tasks[-1]]:.2f}, "
        f"other photographs {size[control]:.2f} (means over blocks)"
    )
    moved = ", ".join(f"{task} {size[task]:.2f} to {grown[task]:.2f}" for task in after.index if task != control)
    more = int((grown > size[grown.index]).sum())
    right.set_title(f"Stage 1 moved {more} of {len(grown)} tasks away from photographs:\n{moved}")
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
    ax.set_title(
        f"Of its own size beta moves most ({beta:.0f} %, gamma {gamma:.0f} %);\n"
        f"in the unit of what attention reads, gamma does ({gamma:.0f} %, beta {read:.0f} %)"
    )
    return ax
