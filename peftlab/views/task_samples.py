"""A task looked at: images with their labels, class balance.

>>> from peftlab.tasks.load import load_task
>>> class_balance(load_task("digits", root="synthetic"), splits=("test",)).get_title()
'digits (synthetic): the largest class should have 1.0 times the smallest'
"""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..tasks.task import Task
from .style import PALETTE, axes_or_new, bare, class_label


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
    shape = (1.2 * columns, 1.45 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=shape, layout="constrained", squeeze=False)
    for ax, image, i in zip(grid.flat, pixels, chosen, strict=False):
        ax.imshow(image.numpy())
        bare(ax, textwrap.fill(class_label(task.classes[labels[i]], 24), 13))
    for ax in grid.flat[len(chosen) :]:
        ax.set_axis_off()
    figure.suptitle(f"{task.title}: {task.about}")
    return figure


def class_balance(
    task: Task,
    splits: Sequence[str] = ("train800val200", "test"),
    expected: Float[np.ndarray, " classes"] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of each class in the splits, next to the expected one -> Axes. expected: shares; None: all alike."""
    ax, classes = axes_or_new(ax, (8, 3.2)), np.arange(task.num_classes)
    expected = np.full(task.num_classes, 1 / task.num_classes) if expected is None else expected
    width = 0.8 / len(splits)
    for i, (color, split) in enumerate(zip(PALETTE, splits, strict=False)):
        share = np.bincount(task.labels(split), minlength=task.num_classes) / len(task.labels(split))
        ax.bar(classes + (i - (len(splits) - 1) / 2) * width, 100 * share, width, color=color, label=split)
    ax.step(
        np.append(classes, classes[-1] + 1) - 0.5, 100 * np.append(expected, expected[-1]), where="post", color="0.1"
    )
    ax.plot([], [], color="0.1", label="expected")
    ax.set(xlabel="class", ylabel="share (%)", xticks=classes)
    ax.set_title(
        f"{task.title}: the largest class should have {expected.max() / expected.min():.1f} times the smallest"
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=len(splits) + 1)
    return ax
