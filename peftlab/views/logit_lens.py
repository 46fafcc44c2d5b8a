"""The logit lens drawn: at which block a model's own head reads the answer, and a head trained for that block."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import CONTROL, method_style

CONTROLS = ("linear (frozen)", "lora")  # whose blocks get heads of their own: two lines say it, five would hide it


def by_block(table: pd.DataFrame) -> Figure:
    """Accuracy after each block, a panel a task, with 95 % intervals over images -> Figure.

    table: rows of `read_results("logit_lens")`. In colour each model's own head; dashed grey, with the model's marker,
    heads trained for each block; dotted grey the same on random weights. A title says what the own head and a trained
    one read one block before the end.
    """
    tasks = list(dict.fromkeys(table["task"]))
    size = (4.6 * len(tasks), 4.9)
    figure, axes = plt.subplots(1, len(tasks), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, task in zip(axes[0], tasks, strict=True):
        rows = table[table["task"] == task].sort_values(
            "reading", key=lambda reading: reading != "own head", kind="stable"
        )
        for (reading, source), line in rows.groupby(["reading", "source"], sort=False):
            color, marker = method_style(source)
            if reading == "own head":
                _line(ax, line, f"{source}: own head", color, "-", marker)
            elif reading == "random weights":
                _line(ax, line, "random weights: head trained for the block", CONTROL, ":", "")
            elif source in CONTROLS:
                _line(ax, line, f"{source}: head trained for the block", CONTROL, "--", marker)
        ax.set(xlabel="head read after block", ylim=(0, 102), title=_title(task, rows))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("test accuracy (%)")
    named = {label: handle for ax in axes[0] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=min(len(tasks), 3))
    return figure


def _line(ax: Axes, rows: pd.DataFrame, label: str, color: tuple, style: str, marker: str) -> None:
    face = "white" if style == "--" else color
    ax.plot(
        rows["block"], 100 * rows["accuracy"], style, marker=marker, color=color, markerfacecolor=face, label=label
    )
    ax.fill_between(rows["block"], 100 * rows["low"], 100 * rows["high"], color=color, alpha=0.12, linewidth=0)


def _title(task: str, rows: pd.DataFrame) -> str:
    lora = rows[rows["source"] == "lora"].set_index(["reading", "block"])["accuracy"]
    last = rows["block"].max()
    own, end = 100 * lora["own head", last - 1], 100 * lora["own head", last]
    trained = 100 * lora["head trained for the block", last - 1]
    return (
        f"{task}: LoRA's head reads {own:.0f} % after\n"
        f"block {last - 1}, {end:.0f} % after {last}; one trained for {last - 1}: {trained:.0f} %"
    )
