"""Attention weights of a ViT: exact, also where timm computes attention without ever forming them."""

import torch

from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..common.errors import PeftlabError


@torch.inference_mode()
def attention_maps(vit, x, layer=-1):
    """Attention of one layer for images x [B, 3, H, W] -> [B, heads, N, N]; each row sums to 1."""
    return _maps(vit, x, [vit.blocks[layer]])[0]


def _maps(vit, x, blocks):
    """Attention of some blocks in one forward pass -> a list of [B, heads, N, N].

    Fused kernels never form these weights, so they are computed again from what each layer's qkv gave.
    """
    # A method may have put something around the attention; the layer with the heads is found in any case.
    layers = [next(m for m in block.modules() if hasattr(m, "num_heads")) for block in blocks]
    seen = outputs(vit, [attn.qkv for attn in layers], x)
    return [_weights(attn, qkv) for attn, qkv in zip(layers, seen, strict=True)]


def _weights(attn, qkv):
    """What a layer makes of its qkv [B, N, 3 D] -> [B, heads, N, N]."""
    q, k, _ = qkv.unflatten(-1, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    return (q * attn.scale @ k.transpose(-2, -1)).softmax(-1)


@torch.inference_mode()
def all_attention_maps(vit, x):
    """Attention of every layer, first to last, for images x [B, 3, H, W] -> a list of [B, heads, N, N]."""
    return _maps(vit, x, vit.blocks)


def rollout(vit, pixels):
    """Attention rolled out through all layers for uint8 images [B, h, w, 3] -> [B, 1, N, N]; each row sums to 1.

    The product over layers of (mean over heads + identity) / 2: Abnar & Zuidema 2020, arXiv 2005.00928. Needs the same
    tokens in every layer.
    """
    product = None
    for weights in all_attention_maps(vit, prepare_for(vit, pixels)):
        weights = weights.mean(1)
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
