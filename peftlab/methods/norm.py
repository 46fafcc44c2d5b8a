"""LayerNorm tuning: only the scale and shift of the normalisation layers are trained.

Idea: re-weight and re-centre the channels that each sub-layer reads.
Equation: LN(x) = gamma * (x - mean) / std + beta, with gamma, beta in R^D trained.
Parameters: (2L + 1) 2D; ViT-B/16: 25 * 2 * 768 = 38,400.
Start: the pre-trained gamma and beta. Merging: LayerNorm stays LayerNorm, nothing to do.
Source: OSU-MLB's controlled study ("LN"); also the first stage of the two-stage paradigm, arXiv 2303.07910.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from timm.layers import RmsNorm
from torch import nn

from ..backbones.types import ViT
from .core.base import Method, register, unfreeze
from .core.layers import width


def norm_layers(parts: Iterable[nn.Module], widths: Collection[int]) -> list[Any]:
    """The normalisation layers over whole tokens in some modules, first to last: those of a width that tokens have.

    >>> layers = norm_layers([nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 8), nn.LayerNorm(8))], widths={4})
    >>> [layer.normalized_shape for layer in layers]
    [(4,)]
    """
    found = [m for part in parts for m in part.modules() if isinstance(m, nn.LayerNorm | RmsNorm)]
    return [m for m in found if m.weight.numel() in widths]


def token_widths(vit: ViT) -> set[int]:
    """The widths of tokens that the norms of a plain ViT read: one, or in a ViT of windows those of each stage."""
    merged = {block.merging.norm.weight.numel() for block in vit.blocks if hasattr(block, "merging")}
    return {vit.embed_dim, *(width(block) for block in vit.blocks), *merged}


@register("norm")
@dataclass(frozen=True)
class Norm(Method):
    title = "LayerNorm tuning"
    idea = "train scale and shift of every LayerNorm"
    family = "selective"
    source = "OSU-MLB, CVPR 2025"
    lr = 5e-3

    def apply(self, vit: ViT) -> None:
        for norm in norm_layers(self.trunk(vit), token_widths(vit)):
            unfreeze(norm, "weight", "bias")

    def count(self, backbone: ViT) -> int:
        norms = norm_layers(self.trunk(backbone), token_widths(backbone))
        per_layer = 2 if getattr(norms[0], "bias", None) is not None else 1
        return sum(per_layer * norm.weight.numel() for norm in norms)
