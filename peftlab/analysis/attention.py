"""Attention weights of a ViT: exact, also where timm computes attention without ever forming them.

>>> from peftlab.backbones.load import load_backbone
>>> maps = attention_maps(load_backbone(), torch.zeros(1, 3, 64, 64))  # the last layer's, for one grey image
>>> maps.shape, maps.sum(-1).allclose(torch.ones(1))  # 1 CLS token and 8 x 8 patches; each query spreads 1 over them
(torch.Size([1, 3, 65, 65]), True)
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from ..backbones.preprocess import prepare_for
from ..backbones.stages import outputs
from ..backbones.swin import refuse_windows
from ..backbones.types import Images, Pixels, ViT
from ..common.errors import PeftlabError, check_index
from ..methods.core.model import PeftModel
from .segmentation import drawn_coarsely


@torch.inference_mode()
def attention_maps(vit: ViT, x: Images, layer: int = -1) -> Float[Tensor, "batch heads tokens tokens"]:
    """Attention of one layer for prepared images; each row, a query's weights over all tokens, sums to 1."""
    return _maps(vit, x, [vit.blocks[layer]])[0]


@torch.inference_mode()
def all_attention_maps(vit: ViT, x: Images) -> list[Float[Tensor, "batch heads tokens tokens"]]:
    """Attention of every layer, first to last, for prepared images."""
    return _maps(vit, x, list(vit.blocks))


def _maps(vit: ViT, x: Images, blocks: Sequence[nn.Module]) -> list[Float[Tensor, "batch heads tokens tokens"]]:
    """Attention of some blocks in one forward pass.

    Fused kernels never form these weights, so they are computed again from what each layer's qkv gave.
    """
    layers = [attention_layer(block) for block in blocks]
    refuse_windows(vit, "attends within windows, so it has no attention over all tokens")
    seen = outputs(vit, [attn.qkv for attn in layers], x)
    return [_weights(attn, qkv) for attn, qkv in zip(layers, seen, strict=True)]


def attention_layer(block: nn.Module) -> Any:
    """The layer of a block with the heads, whatever a method has put around it."""
    return next(m for m in block.modules() if hasattr(m, "num_heads"))


def _weights(
    attn: Attention, qkv: Float[Tensor, "batch tokens three_channels"]
) -> Float[Tensor, "batch heads tokens tokens"]:
    """What a layer makes of its qkv."""
    q, k, _ = qkv.unflatten(-1, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    return (q * attn.scale @ k.transpose(-2, -1)).softmax(-1)


def rollout(vit: ViT, pixels: Pixels) -> Float[Tensor, "batch 1 tokens tokens"]:
    """Attention rolled out through all layers; each row sums to 1. Needs the same tokens in every layer.

    The product over layers of (mean over heads + identity) / 2: Abnar & Zuidema 2020, arXiv 2005.00928.
    """
    layers = []
    for weights in all_attention_maps(vit, prepare_for(vit, pixels)):
        weights = weights.mean(1)
        layers.append((weights + torch.eye(weights.shape[-1], device=weights.device)) / 2)
    return reduce(lambda product, layer: layer @ product, layers)[:, None]


def patch_attention(
    model: PeftModel | ViT,
    pixels: Pixels,
    query: int | str = "cls",
    layer: int | Literal["rollout"] = -1,
    head: int | None = None,
) -> Float[Tensor, "batch rows columns"]:
    """How one query spreads its attention over the patches of images; each map sums to 1, on the CPU.

    query: 'cls', 'gist' or the number of a prefix token. layer: its number from 0, or 'rollout' for all together.
    head None: mean over heads. One image at a time: the memory grows with the fourth power of the image's side.
    Raises PeftlabError for a query, layer or head that is not there.
    """
    vit: ViT = getattr(model, "vit", model)
    if layer != "rollout":
        check_index("layer", layer, len(vit.blocks))
        check_index("head", head, attention_layer(vit.blocks[layer]).num_heads)
    elif head is not None:
        raise PeftlabError(f"rollout is of the mean over heads, so it takes no head, not head {head}")
    maps = []
    for image in pixels.split(1):
        weights = rollout(vit, image) if layer == "rollout" else attention_maps(vit, prepare_for(vit, image), layer)
        prefix_tokens = weights.shape[-1] - vit.patch_embed.num_patches  # a method may have added some
        row = weights[:, :, prefix_index(vit, query, prefix_tokens), prefix_tokens:]
        row = row.mean(1) if head is None else row[:, head]
        maps.append(row / row.sum(-1, keepdim=True))
    return torch.cat(maps).unflatten(1, vit.patch_embed.grid_size).cpu()


def share_inside(
    maps: Float[Tensor, "batch rows columns"], masks: Bool[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """Share of each map that lies inside its mask; a patch that the border cuts counts in part.

    >>> share_inside(torch.tensor([[[0.6, 0.4]]]), torch.tensor([[[True, True, True, False]]]))
    tensor([0.8000])
    """
    return (maps * drawn_coarsely(masks, maps.shape[1:])).sum((1, 2)) / maps.sum((1, 2))


def log_correlation(
    a: Float[Tensor, "batch rows columns"], b: Float[Tensor, "batch rows columns"]
) -> Float[Tensor, " batch"]:
    """Pearson's correlation over patches of the logarithms of two maps, image by image.

    >>> log_correlation(torch.tensor([[[0.1, 0.2, 0.7]]]), torch.tensor([[[0.01, 0.04, 0.49]]])).round()
    tensor([1.])
    """
    logs = torch.stack([a.flatten(1), b.flatten(1)]).clamp_min(1e-12).log()
    centred = F.normalize(logs - logs.mean(-1, keepdim=True), dim=-1)
    return (centred[0] * centred[1]).sum(-1)


def prefix_index(vit: ViT, query: int | str, prefix_tokens: int) -> int:
    """Token position of a query: 'cls', 'gist' or a prefix token's number. Raises PeftlabError if there is none."""
    gist = getattr(vit.blocks[0], "gist", None)
    named: dict[int | str, int] = {
        "cls": 0 if vit.has_class_token else -1,
        "gist": -1 if gist is None else gist.position,
    }
    index = named.get(query, query)
    if not isinstance(index, int) or not 0 <= index < prefix_tokens:
        raise PeftlabError(f"this layer has {prefix_tokens} prefix tokens and no query {query!r}")
    return index
