"""Attention of a ViT laid over its images.

>>> import torch
>>> from peftlab.backbones.load import load_backbone
>>> attention(load_backbone(), torch.zeros(2, 64, 64, 3, dtype=torch.uint8), query="gits")
Traceback (most recent call last):
peftlab.common.errors.PeftlabError: this layer has 1 prefix tokens and no query 'gits'
"""

from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ..analysis.attention import attention_maps, prefix_index, rollout
from ..backbones.preprocess import input_size, prepare_for
from ..backbones.types import Pixels, ViT
from ..methods.core.model import PeftModel
from .style import SEQUENTIAL, bare


def attention(
    model: PeftModel | ViT,
    pixels: Pixels,
    query: int | str = "cls",
    layer: int | Literal["rollout"] = -1,
    head: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Attention of one query token over the patches, laid over each image -> Axes of the last image.

    query: 'cls', 'gist' or the number of a prefix token. layer: its number from 0, or 'rollout' for all layers
    together. head None: mean over heads. Raises PeftlabError where the layer has no such query.
    """
    vit: ViT = getattr(model, "vit", model)
    weights = attention_maps(vit, prepare_for(vit, pixels), layer) if layer != "rollout" else rollout(vit, pixels)
    prefix_tokens = weights.shape[-1] - vit.patch_embed.num_patches  # a method may have added some inside the blocks
    weights = weights[:, :, prefix_index(vit, query, prefix_tokens), prefix_tokens:]
    weights = weights.mean(1) if head is None else weights[:, head]
    grid = weights.reshape(len(pixels), *vit.patch_embed.grid_size).cpu().numpy()
    axes = [ax] if ax is not None else _row(len(pixels))
    height, width = input_size(vit)
    for each, image, map_ in zip(axes, pixels, grid, strict=True):
        each.imshow(image.numpy(), extent=(0, width, height, 0))
        each.imshow(map_, cmap=SEQUENTIAL, alpha=0.6, extent=(0, width, height, 0), interpolation="bilinear")
        bare(each)
    return axes[-1]


def _row(n: int) -> list[Axes]:
    return list(np.atleast_1d(plt.subplots(1, n, figsize=(1.6 * n, 1.8), layout="constrained")[1]))
