"""What all pictures share: one colour-blind safe palette, one place where axes come from."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.patches import Patch

PALETTE = sns.color_palette("colorblind")
SEQUENTIAL = "viridis"

METHOD_COLORS = {"linear": 7, "full": 3, "bitfit": 1, "norm": 2, "lora": 0}
FAMILY_COLORS = {"selective": 1, "reparametrised": 0, "additive": 2, "prompt": 4}


def method_color(name):
    """The same colour for a method in every picture; methods without a fixed one get a stable one by name."""
    index = METHOD_COLORS.get(name, sum(map(ord, name)))
    return PALETTE[index % len(PALETTE)]


def family_color(name):
    """One colour for each family of methods; grey for families that are not among the usual four."""
    return PALETTE[FAMILY_COLORS.get(name, 7)]


def family_legend(figure, families):
    """A legend of families below a figure."""
    handles = [Patch(facecolor=family_color(family), label=family) for family in dict.fromkeys(families)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def axes_or_new(ax, size=(5, 3.5)):
    """The axes given, or new ones."""
    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def bare(ax, title=""):
    """An axes that only shows a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def image_grid(pixels, rows):
    """Images [B, H, W, 3] in the first row of a figure, so many free rows below -> (Figure, axes [rows + 1, B])."""
    size = (1.35 * len(pixels) + 1, 1.35 * (rows + 1))
    figure, axes = plt.subplots(rows + 1, len(pixels), figsize=size, layout="constrained", squeeze=False)
    for ax, image in zip(axes[0], pixels, strict=True):
        bare(ax).imshow(image.numpy())
    return figure, axes
