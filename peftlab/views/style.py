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
