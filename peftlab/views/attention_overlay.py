"""Attention of a ViT laid over its images.

>>> import torch
>>> from peftlab.backbones.load import load_backbone
>>> attention(load_backbone(), torch.zeros(2, 64, 64, 3, dtype=torch.uint8), query="gits")
Traceback (most recent call last):
peftlab.common.errors.PeftlabError: this layer has 1 prefix tokens and no query 'gits'
"""

from collections.abc import Mapping
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as PillowImage
from torch import Tensor

from ..analysis.attention import patch_attention, share_inside
from ..backbones.types import Pixels, ViT
from ..common.errors import PeftlabError
from ..methods.core.model import PeftModel
from .style import HEAT, Image, bare, image_grid

GREY = 0.35  # of the image's brightness: it is recognised, and the map on it shines


def attention(
    model: PeftModel | ViT,
    pixels: Pixels,
    query: int | str = "cls",
    layer: int | Literal["rollout"] = -1,
    head: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """`patch_attention` of one query laid over each image -> Axes of the last image.

    Raises PeftlabError for a query, layer or head that is not there, and for more images than Axes.
    """
    if ax is not None and len(pixels) != 1:
        raise PeftlabError(f"one Axes takes one image, not {len(pixels)}; leave ax out")
    maps = patch_attention(model, pixels, query, layer, head)
    axes = [ax] if ax is not None else list(image_grid(pixels, 0)[1][0])
    for each, image, map_ in zip(axes, pixels, maps, strict=True):
        glow(each, image, map_)
    return axes[-1]


def attention_grid(
    sources: Mapping[str, tuple[PeftModel | ViT, int | str]],
    pixels: Pixels,
    masks: Bool[Tensor, "batch height width"],
    layer: int = -1,
) -> Figure:
    """Attention over images with known objects: a row an image, a column a source, below each the share inside.

    sources: {title: (model, query)}. masks: where the object is in each image; its outline is drawn on the image.
    """
    found = {title: patch_attention(model, pixels, query, layer) for title, (model, query) in sources.items()}
    columns = len(sources) + 1
    size = (1.9 * columns, 2.1 * len(pixels) + 0.5)
    figure, axes = plt.subplots(len(pixels), columns, figsize=size, layout="constrained", squeeze=False)
    for row, image, mask in zip(axes, pixels, masks, strict=True):
        bare(row[0]).imshow(image.numpy())
        row[0].contour(mask.numpy(), [0.5], colors="white", linewidths=1.5)
        row[0].set_xlabel(f"object: {mask.float().mean():.0%} of the image")
    for column, (title, maps) in enumerate(found.items(), start=1):
        for ax, image, map_, share in zip(axes[:, column], pixels, maps, share_inside(maps, masks), strict=True):
            glow(ax, image, map_)
            ax.set_xlabel(f"{share:.0%} on it")
        axes[0, column].set_title(title)
    return figure


def glow(ax: Axes, image: Image, map_: Float[Tensor, "rows columns"]) -> None:
    """The image in dark grey, the map in colours on it, from 0 to its 99.5th percentile, enlarged bicubically."""
    size = (image.shape[1], image.shape[0])
    large = np.asarray(PillowImage.fromarray(map_.float().numpy()).resize(size, PillowImage.Resampling.BICUBIC))
    bright = np.clip(large / max(np.percentile(large, 99.5), 1e-12), 0, 1)
    grey = GREY * image.float().mean(-1, keepdim=True).numpy() / 255
    bare(ax).imshow(np.clip(grey + plt.get_cmap(HEAT)(bright)[..., :3], 0, 1))
