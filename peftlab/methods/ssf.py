"""SSF: after every layer, features are scaled and shifted.

Idea: a new task's features differ from the old ones by a scale and a shift of each channel, layer by layer.
Equation: y <- gamma * y + beta after the patch embedding, every LayerNorm and every linear layer.
Shapes: gamma, beta as wide as the layer's output: D, 3D after qkv, H after fc1.
Parameters: L (2 * 2D + 2 * 3D + 2D + 2H + 2D) + 4D; ViT-B/16: 205,824.
Start: gamma ~ N(1, 0.02), beta ~ N(0, 0.02) as in the authors' code, so not the frozen backbone. Features of the
embedded backbone move by less than half of their norm (tested), those of others may move farther.
Merging: gamma goes into the weights' rows, gamma and beta into the bias.
Source: Lian et al. 2022, arXiv 2210.08823.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from ..common.errors import NotMergeable
from .core.base import Method, register
from .core.layers import LINEARS, After


class ScaleShift(nn.Module):
    """y [.., width] -> scale * y + shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width).normal_(1, 0.02))
        self.shift = nn.Parameter(torch.empty(width).normal_(0, 0.02))

    def forward(self, y: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return torch.addcmul(self.shift, y, self.scale)


def channels(layer: Any, of_patches: int) -> int:
    """Channels that a layer gives: a Linear, a norm, or the Identity behind the patch embedding."""
    if isinstance(layer, nn.Identity):
        return of_patches
    return getattr(layer, "out_features", len(layer.weight))


def fold(layer: Any, affine: ScaleShift) -> None:
    """Write a scale and shift of a layer's output into its own weight and bias. Raises NotMergeable without a bias."""
    if getattr(layer, "bias", None) is None:
        raise NotMergeable(
            f"this backbone's {type(layer).__name__} has no bias, into which ssf's shift could be merged"
        )
    layer.weight *= affine.scale.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.bias.copy_(affine(layer.bias))


@register("ssf")
@dataclass(frozen=True)
class SSF(Method):
    title = "SSF"
    idea = "scale and shift the output of every layer"
    family = "reparametrised"
    source = "Lian et al. 2022"
    lr = 5e-3
    identity_at_start = False

    def places(self, vit: ViT) -> list[tuple[Any, str]]:
        """(parent, name) of each module to wrap: a Linear, a norm, or the Identity behind the patch embedding."""
        found = []
        for block in self.blocks(vit, *LINEARS.values()):
            found += [(block, "norm1"), (block.attn, "qkv"), (block.attn, "proj")]
            found += [(block, "norm2"), (block.mlp, "fc1"), (block.mlp, "fc2")]
        found += [(vit, name) for name in ("norm", "fc_norm") if not isinstance(getattr(vit, name), nn.Identity)]
        return found + ([(vit.patch_embed, "norm")] if self.last_blocks is None else [])

    def widths(self, vit: ViT) -> list[int]:
        return [channels(getattr(parent, name), vit.embed_dim) for parent, name in self.places(vit)]

    def apply(self, vit: ViT) -> None:
        for (parent, name), width in zip(self.places(vit), self.widths(vit), strict=True):
            setattr(parent, name, After(getattr(parent, name), ScaleShift(width)))

    def count(self, backbone: ViT) -> int:
        return 2 * sum(self.widths(backbone))

    def merge(self, vit: ViT) -> None:
        for parent, name in self.places(vit):
            layer = getattr(parent, name)
            into = parent.proj if isinstance(layer.base, nn.Identity) else layer.base
            fold(into, layer.after)
            setattr(parent, name, layer.base)
