"""What all pictures share: one colour-blind safe palette, one place where axes come from.

>>> method_color("lora") == family_color("reparametrised") == PALETTE[0]
True
"""

from collections.abc import Iterable
from typing import TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ..backbones.types import Pixels

Image: TypeAlias = UInt8[Tensor, "height width 3"]
Color: TypeAlias = tuple[float, float, float]  # red, green, blue in [0, 1]

PALETTE = sns.color_palette("colorblind")
SEQUENTIAL = "viridis"

METHOD_COLORS = {"linear": 7, "full": 3, "bitfit": 1, "norm": 2, "lora": 0}
FAMILY_COLORS = {"selective": 1, "reparametrised": 0, "additive": 2, "prompt": 4}


def method_color(name: str) -> Color:
    """The same colour for a method in every picture; methods without a fixed one get a stable one by name."""
    index = METHOD_COLORS.get(name, sum(map(ord, name)))
    return PALETTE[index % len(PALETTE)]


def family_color(name: str) -> Color:
    """One colour for each family of methods; grey for families that are not among the usual four."""
    return PALETTE[FAMILY_COLORS.get(name, 7)]


def family_legend(figure: Figure, families: Iterable[str]) -> None:
    """A legend of families below a figure."""
    handles = [Patch(facecolor=family_color(family), label=family) for family in dict.fromkeys(families)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (5, 3.5)) -> Axes:
    """The axes given, or new ones. size: width and height in inches."""
    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def bare(ax: Axes, title: str = "") -> Axes:
    """An axes that only shows a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def image_grid(pixels: Pixels, rows: int) -> tuple[Figure, np.ndarray]:
    """Images in the first row of a figure, so many free rows below -> (Figure, Axes [rows + 1, images])."""
    size = (1.35 * len(pixels) + 1, 1.35 * (rows + 1))
    figure, axes = plt.subplots(rows + 1, len(pixels), figsize=size, layout="constrained", squeeze=False)
    for ax, image in zip(axes[0], pixels, strict=True):
        bare(ax).imshow(image.numpy())
    return figure, axes
