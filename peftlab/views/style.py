"""What all pictures share: one colour-blind safe palette, type that can be read from the back row, a sentence each.

Colour says the family of a method, the marker which of the family; a label of ours such as "gist lora" begins with its
method's name, so each of them finds its style.

>>> method_style("lora") == method_style("lora proj"), method_color("lora") == family_color("reparametrised")
(True, True)
"""

import re
import warnings
from collections.abc import Iterable
from typing import TypeAlias

import matplotlib.font_manager
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ..backbones.types import Pixels
from ..methods import METHODS

Image: TypeAlias = UInt8[Tensor, "height width 3"]
Color: TypeAlias = tuple[float, float, float]  # red, green, blue in [0, 1]

PALETTE = sns.color_palette("colorblind")
SEQUENTIAL, DIVERGING, HEAT = "viridis", "RdBu_r", "inferno"
CONTROL: Color = (0.45, 0.45, 0.45)  # of what others are measured against
FREE: Color = (0.35, 0.35, 0.35)  # of what belongs to no family

FAMILY_COLORS = {"selective": 1, "reparametrised": 0, "additive": 2, "prompt": 4}
ENDS = {"linear": (0.5, 0.5, 0.5), "full": (0.0, 0.0, 0.0)}  # nothing and everything tuned: no family's colour
MARKERS = "v^<>DsoPhX*dp"
MIN_FONT = 9  # points: what the back row of a classroom reads, the picture at the width of a slide

# Those after the first are for letters that it lacks, in names of a reader's classes: where one of them is installed.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "WenQuanYi Micro Hei",
    "PingFang HK",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Malgun Gothic",
)
INSTALLED = matplotlib.font_manager.get_font_names()

warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the picture has a box for it
plt.rcParams.update(
    {
        "font.family": [name for name in FONTS if name in INSTALLED],
        "font.size": MIN_FONT,
        "axes.titlesize": 10.5,
        "axes.labelsize": 10,
        "figure.titlesize": 11,
        "legend.frameon": False,
        "legend.fontsize": MIN_FONT,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def method_style(label: str) -> tuple[Color, str]:
    """Colour and marker of a method, no two methods alike: its family's colour, its own marker in the family.

    label: a method's name, or one that begins with it. Other labels are grey dots.
    """
    name = label.replace(",", " ").split()[0]
    if name not in METHODS:
        return FREE, "o"
    family = METHODS[name].family
    members = sorted(other for other, method in METHODS.items() if method.family == family)
    return ENDS.get(name, family_color(family)), MARKERS[members.index(name) % len(MARKERS)]


def method_color(label: str) -> Color:
    """The colour of `method_style`."""
    return method_style(label)[0]


def family_color(name: str) -> Color:
    """One colour for each family of methods; grey for families that are not among the usual four."""
    return PALETTE[FAMILY_COLORS[name]] if name in FAMILY_COLORS else FREE


def class_label(name: str, most: int = 18) -> str:
    """A class's name as pictures write it: words apart, short, and its dollars are no mathematics.

    >>> class_label("HerbaceousVegetation"), class_label("golden_retriever"), class_label("$1_notes$")
    ('Herbaceous Vegeta…', 'golden retriever', '\\\\$1 notes\\\\$')
    """
    name = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", " ", name.replace("_", " "))
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")


def family_legend(figure: Figure, families: Iterable[str]) -> None:
    """A legend of families below a figure."""
    handles = [Patch(facecolor=family_color(family), label=family) for family in dict.fromkeys(families)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (5, 3.5)) -> Axes:
    """The axes given, or new ones. size: width and height in inches."""
    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def bare(ax: Axes, title: str = "") -> Axes:
    """An axes that only shows a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def image_grid(pixels: Pixels, rows: int) -> tuple[Figure, np.ndarray]:
    """Images in the first row of a figure, so many free rows below -> (Figure, Axes [rows + 1, images])."""
    size = (1.35 * len(pixels) + 1, 1.35 * (rows + 1))
    figure, axes = plt.subplots(rows + 1, len(pixels), figsize=size, layout="constrained", squeeze=False)
    for ax, image in zip(axes[0], pixels, strict=True):
        bare(ax).imshow(image.numpy())
    return figure, axes
