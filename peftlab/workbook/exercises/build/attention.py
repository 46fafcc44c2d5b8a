"""The attention of a ViT's block, from its weights."""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..base import Exercise
from .oracle import Found, built, random, seeded


def split(qkv: Tensor, heads: int) -> Tensor:
    """[B, N, 3 D] -> q, k, v [3, B, heads, N, d]: all of q before all of k, in each one head after another."""
    B, N, width = qkv.shape
    return qkv.reshape(B, N, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)


def merge(mixed: Tensor) -> Tensor:
    """[B, heads, N, d] -> [B, N, D]."""
    return mixed.transpose(1, 2).flatten(2)


def attention(attn: Any, x: Tensor) -> Tensor:
    """Tokens [B, N, D] -> [B, N, D]: softmax(q k^T / sqrt(d)) v in each head of width d, then proj."""
    q, k, v = split(attn.qkv(x), attn.num_heads)
    weights = (q @ k.transpose(2, 3) / attn.head_dim**0.5).softmax(-1)
    return attn.proj(merge(weights @ v))


def other_attention(
    scale: Callable[[int, int], float] = lambda width, heads: (width / heads) ** 0.5,
    axis: int = -1,
    swapped: bool = False,
    soft: bool = True,
    split: Callable[[Tensor, int], Tensor] = split,
    merge: Callable[[Tensor], Tensor] = merge,
    qkv: Callable[[Any, Tensor], Tensor] = lambda attn, x: attn.qkv(x),
    proj: Callable[[Any, Tensor], Tensor] = lambda attn, x: attn.proj(x),
    heads: int = 0,
) -> Callable[..., Tensor]:
    """Attention with another scale, softmax, order of heads or layer before or after it."""

    def build(attn: Any, x: Tensor) -> Tensor:
        h = heads or attn.num_heads
        q, k, v = split(qkv(attn, x), h)
        scores = (k @ q.transpose(2, 3) if swapped else q @ k.transpose(2, 3)) / scale(x.shape[2], h)
        return proj(attn, merge((scores.softmax(axis) if soft else scores) @ v))

    return build


def by_head(qkv: Tensor, heads: int) -> Tensor:
    """As if q, k and v of a head stood together."""
    B, N, width = qkv.shape
    return qkv.reshape(B, N, heads, 3, width // 3 // heads).permute(3, 0, 2, 1, 4)


def not_transposed(qkv: Tensor, heads: int) -> Tensor:
    """As if the tokens of a head stood together."""
    B, N, width = qkv.shape
    return torch.stack([part.reshape(B, heads, N, width // 3 // heads) for part in qkv.chunk(3, -1)])


def without_bias(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.T


def try_attention(function: Any) -> Found:
    """Five tokens of width 12 in three heads; then a random ViT of two blocks, each with this attention."""
    with seeded():
        attn = Attention(12, num_heads=3, qkv_bias=True).double()
        vit: Any = VisionTransformer(16, 8, embed_dim=24, depth=2, num_heads=2, num_classes=0).double().eval()
    yield "output", function(attn, 3 * random(2, 5, 12))
    for block in vit.blocks:
        block.attn.forward = lambda x, attn=block.attn, **unused: function(attn, x)
    yield "features of a ViT that has it in each block", vit(random(2, 3, 16, 16))


EXERCISE = Exercise(
    built(try_attention, Attention.forward),
    "A whole ViT that has it in each block gives timm's features.",
    (
        (built(try_attention, other_attention(lambda width, heads: 1)), "divide q k^T by the root of a head's width"),
        (
            built(try_attention, other_attention(lambda width, heads: width**0.5)),
            "the scale is the root of a head's width, d = D / h, not of the whole width D",
        ),
        (
            built(try_attention, other_attention(lambda width, heads: width / heads)),
            "the scale is the root of a head's width, not the width",
        ),
        (
            built(try_attention, other_attention(axis=-2)),
            "each query spreads 1 over the keys: softmax over the last axis",
        ),
        (built(try_attention, other_attention(swapped=True)), "rows are queries, columns are keys: q k^T, not k q^T"),
        (built(try_attention, other_attention(soft=False)), "the softmax is missing"),
        (
            built(try_attention, other_attention(merge=lambda mixed: mixed.reshape(len(mixed), mixed.shape[2], -1))),
            "bring the heads beside their token before you merge them: transpose(1, 2), then reshape to [B, N, D]",
        ),
        (
            built(try_attention, other_attention(split=not_transposed)),
            "reshape to [B, N, h, d] first, then bring h before N; reshape to [B, h, N, d] mixes tokens",
        ),
        (
            built(try_attention, other_attention(split=by_head)),
            "qkv gives all of q, then all of k, then all of v: reshape to [B, N, 3, h, d]",
        ),
        (built(try_attention, other_attention(heads=1)), "there are attn.num_heads heads, each with its own softmax"),
        (built(try_attention, other_attention(proj=lambda attn, x: x)), "the output goes through attn.proj"),
        (
            built(try_attention, other_attention(qkv=lambda attn, x: without_bias(attn.qkv, x))),
            "the bias of qkv is missing: attn.qkv(x) adds it",
        ),
        (
            built(try_attention, other_attention(proj=lambda attn, x: without_bias(attn.proj, x))),
            "the bias of proj is missing: attn.proj(x) adds it",
        ),
    ),
    help="attn.qkv(x).reshape(B, N, 3, h, d) holds q, k and v; permute(2, 0, 3, 1, 4) brings the 3 to the front.",
)
