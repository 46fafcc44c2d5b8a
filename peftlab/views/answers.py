"""What a trained model answers on a reader's images: mistakes, confidence, what it looks at."""

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..analysis.answers import calibration_error
from ..backbones.types import Pixels
from ..tasks.task import Task
from .attention_overlay import glow
from .style import FREE, PALETTE, axes_or_new, bare, class_label, image_grid

COLUMNS = 4  # images beside one another


def mistakes(task: Task, table: pd.DataFrame, split: str = "test", size: tuple[int, int] = (128, 128)) -> Figure:
    """Wrong answers as a gallery, each with what was said and what the label is -> Figure.

    table: from `analysis.answers.mistakes`, with a row or more. size: height and width of the images.
    """
    rows = -(-len(table) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(1.75 * COLUMNS, 2.35 * rows), layout="constrained", squeeze=False
    )
    pixels = task.pixels(split, size, table["image"])
    for ax, image, row in zip(axes.flat, pixels, table.to_dict("records"), strict=False):
        said, label = (class_label(task.classes[c]) for c in (row["said"], row["label"]))
        bare(ax, f"says {said}\n({row['confidence']:.0%})").imshow(image.numpy())
        ax.title.set_color(PALETTE[3])
        ax.set_xlabel(f"label: {label}")
    for ax in axes.flat[len(table) :]:
        ax.set_axis_off()
    return figure


def reliability(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Accuracy over confidence, dots as large as bins have images; below the diagonal a model is too sure -> Axes.

    table: from `analysis.answers.calibration`.
    """
    ax = axes_or_new(ax, (4.6, 4))
    ax.plot([0, 100], [0, 100], "--", color=FREE)
    ax.text(3, 97, "not sure enough", color=FREE, va="top")
    ax.text(97, 3, "too sure", color=FREE, ha="right")
    area = 30 + 300 * table["images"] / table["images"].sum()
    ax.scatter(100 * table["confidence"], 100 * table["accuracy"], area, color=PALETTE[0], alpha=0.8, clip_on=False)
    for row in table.to_dict("records"):
        spot = 100 * row["confidence"], 100 * row["accuracy"]
        ax.annotate(f"{row['images']:.0f}", spot, (9, -9), textcoords="offset points")
    ax.set(xlabel="how sure the model says it is (%)", ylabel="how often it is right (%)")
    ax.set(xlim=(0, 104), ylim=(-4, 104), title=f"mean distance {100 * calibration_error(table):.1f} points")
    return ax


def maps(pixels: Pixels, rows: Mapping[str, Float[Tensor, "images rows columns"]]) -> Figure:
    """Images, below them a row for each {name: maps over their patches}, each laid over its image -> Figure."""
    figure, axes = image_grid(pixels, len(rows))
    for row, (name, of_images) in zip(axes[1:], rows.items(), strict=True):
        for ax, image, map_ in zip(row, pixels, of_images, strict=True):
            glow(ax, image, map_)
        row[0].set_ylabel(textwrap.fill(name, 14))
    return figure
