"""A task looked at: images with their labels, class balance.

>>> from peftlab.tasks.load import load_task
>>> class_balance(load_task("digits", root="synthetic"), splits=("test",)).get_title()
'digits (synthetic)'
"""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..tasks.task import Task
from .style import PALETTE, axes_or_new, bare


def samples(
    task: Task,
    split: str = "train800",
    columns: int = 8,
    rows: int = 2,
    seed: int = 0,
    size: tuple[int, int] = (64, 64),
) -> Figure:
    """A grid of images, as many different classes as fit, titled by class -> Figure. size: height and width."""
    labels = task.labels(split)
    rng = np.random.default_rng(seed)
    wanted = rng.permutation(task.num_classes)[: columns * rows]
    present = [rng.choice(np.flatnonzero(labels == c)) for c in wanted if (labels == c).any()]
    extra = rng.permutation(len(labels))[: columns * rows - len(present)]
    chosen = [*sorted(present, key=lambda i: labels[i]), *extra]
    pixels = task.pixels(split, size, chosen)
    figure, grid = plt.subplots(rows, columns, figsize=(1.2 * columns, 1.45 * rows), layout="constrained")
    for ax, image, i in zip(grid.flat, pixels, chosen, strict=False):
        ax.imshow(image.numpy())
        bare(ax, textwrap.shorten(task.classes[labels[i]].replace("_", " "), 18, placeholder="…"))
    for ax in grid.flat[len(chosen) :]:
        ax.set_axis_off()
    figure.suptitle(f"{task.title}: {task.about}")
    return figure


def class_balance(task: Task, splits: Sequence[str] = ("train800val200", "test"), ax: Axes | None = None) -> Axes:
    """Share of each class in the splits, next to the uniform share -> Axes."""
    ax = axes_or_new(ax, (6, 2.6))
    for color, split in zip(PALETTE, splits, strict=False):
        share = np.bincount(task.labels(split), minlength=task.num_classes) / len(task.labels(split))
        ax.step(range(task.num_classes), 100 * share, where="mid", color=color, label=split)
    ax.axhline(100 / task.num_classes, color="0.5", linestyle=":", label="uniform")
    ax.set(xlabel="class", ylabel="share (%)", ylim=(0, None), title=task.title)
    ax.legend(loc="lower right")
    return ax
