"""Attention weights of a ViT: exact, also where timm computes attention without ever forming them."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from ..backbones import input_size
from ..errors import PeftlabError
from ..training import prepare_for
from .style import SEQUENTIAL, bare


@torch.inference_mode()
def attention_maps(vit, x, layer=-1):
    """Attention of one layer for images x [B, 3, H, W] -> [B, heads, N, N]; each row sums to 1.

    Fused kernels never form these weights, so they are computed again from what the layer's qkv received. The hook is
    removed in any case.
    """
    # A method may have put something around the attention; the layer with the heads is found in any case.
    attn, seen = next(m for m in vit.blocks[layer].modules() if hasattr(m, "num_heads")), []
    hook = attn.qkv.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        vit.forward_features(x)
    finally:
        hook.remove()
    qkv = seen[0].unflatten(-1, (3, attn.num_heads, attn.head_dim))
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    return (q * attn.scale @ k.transpose(-2, -1)).softmax(-1)


def rollout(vit, pixels):
    """Attention rolled out through all layers for uint8 images [B, h, w, 3] -> [B, 1, N, N]; each row sums to 1.

    The product over layers of (mean over heads + identity) / 2: Abnar & Zuidema 2020, arXiv 2005.00928. Needs the same
    tokens in every layer.
    """
    x, product = prepare_for(vit, pixels), None
    for layer in range(len(vit.blocks)):
        weights = attention_maps(vit, x, layer).mean(1)
        weights = (weights + torch.eye(weights.shape[-1], device=weights.device)) / 2
        product = weights if product is None else weights @ product
    return product[:, None]


def prefix_index(vit, query, prefix_tokens):
    """Position of a query token: 'cls', 'gist' or a prefix token's number. Raises PeftlabError if there is none."""
    gist = getattr(vit.blocks[0], "gist", None)
    index = {"cls": 0 if vit.has_class_token else -1, "gist": -1 if gist is None else gist.position}.get(query, query)
    if not isinstance(index, int) or not 0 <= index < prefix_tokens:
        raise PeftlabError(f"this layer has {prefix_tokens} prefix tokens and no query {query!r}")
    return index


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
