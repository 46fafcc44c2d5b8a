"""Attention weights of a ViT: exact, also where timm computes attention without ever forming them."""

import matplotlib.pyplot as plt
import numpy as np

from ..analysis.attention import attention_maps, prefix_index, rollout
from ..backbones.preprocess import input_size, prepare_for
from .style import SEQUENTIAL, bare


def attention(model, pixels, query="cls", layer=-1, head=None, ax=None):
    """Attention of one query token over the patches, laid over each image -> Axes of the last image.

    model: a PeftModel or a ViT. pixels: uint8 [B, h, w, 3]. query: 'cls', 'gist' or the number of a prefix token.
    layer: its number from 0, or 'rollout' for all layers together. head None: mean over heads.
    """
    vit = getattr(model, "vit", model)
    weights = attention_maps(vit, prepare_for(vit, pixels), layer) if layer != "rollout" else rollout(vit, pixels)
    prefix_tokens = weights.shape[-1] - vit.patch_embed.num_patches  # a method may have added some inside the blocks
    weights = weights[:, :, prefix_index(vit, query, prefix_tokens), prefix_tokens:]
    weights = weights.mean(1) if head is None else weights[:, head]
    grid = weights.reshape(len(pixels), *vit.patch_embed.grid_size).cpu().numpy()
    axes = [ax] if ax is not None else _row(len(pixels))
    height, width = input_size(vit)
    for ax, image, map_ in zip(axes, pixels, grid, strict=True):
        ax.imshow(image.numpy(), extent=(0, width, height, 0))
        ax.imshow(map_, cmap=SEQUENTIAL, alpha=0.6, extent=(0, width, height, 0), interpolation="bilinear")
        bare(ax)
    return ax


def _row(n):
    return np.atleast_1d(plt.subplots(1, n, figsize=(1.6 * n, 1.8), layout="constrained")[1])
