"""RepAdapter: a linear bottleneck stands in line before the attention and before the MLP.

Idea: an adapter without a nonlinearity can be written into the linear layer behind it and then costs nothing.
Equation: u <- u + s (B (A u + a) + b), where u = LN(x) is what the attention or the MLP reads. B has G groups: the
first D / G channels are made of the first h / G of the h inner values alone, the next of the next, and so on.
Shapes: u [B, N, D]; A [h, D], a [h], b [D]. Of B only the groups are stored, below one another, [D, h / G]; as a
matrix [D, h] it is block-diagonal. s is a fixed number.
Parameters: L (D h + D h / G + h + D) for each of the two; ViT-B/16, h = 8, G = 2: 239,808. Without the biases 221,184,
the 0.22 M that V-PETL Bench prints.
Start: B, a and b 0, A Xavier-uniform, so exactly the frozen backbone.
Merging: with P = I + s B A, the layer behind it, W u + c, becomes W P u + W s (B a + b) + c: qkv and fc1 change.
Source: Luo et al. 2023, arXiv 2302.08106, and its released code (github.com/luogen1996/RepAdapter), whose h = 8 and
G = 2 we keep; sublayers=("attn",) is its "repattn". s is one of 0.1, 0.5, 1, 5, 10 for each task there; s = 1 is our
choice. Their code has a dropout of 0.1 between A and B, ours has none.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.types import ViT
from ..common.errors import NotMergeable, PeftlabError
from .core.base import Method, check_size, check_targets, option, register
from .core.layers import After, width

# Of each sub-layer: the norm whose output is changed, and the linear layer that reads it.
PLACES = {"attn": ("norm1", "attn.qkv"), "mlp": ("norm2", "mlp.fc1")}


class GroupedBottleneck(nn.Module):
    """u [.., D] -> u + s (B (A u + a) + b), with B in groups."""

    def __init__(self, width: int, bottleneck: int, groups: int, scale: float) -> None:
        super().__init__()
        self.groups, self.scale = groups, scale
        self.down = nn.Linear(width, bottleneck)
        self.up, self.shift = nn.Parameter(torch.zeros(width, bottleneck // groups)), nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def matrix(self) -> Float[Tensor, "width bottleneck"]:
        """B with its zeros: the groups along the diagonal."""
        return torch.block_diag(*self.up.chunk(self.groups))

    def forward(self, u: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return u + self.scale * F.linear(self.down(u), self.matrix(), self.shift)


@register("rep_adapter")
@dataclass(frozen=True)
class RepAdapter(Method):
    bottleneck: int = option(8, "h, inner width of the adapter", at_least=1)
    groups: int = option(2, "G, parts that B is divided into; must divide h and the width", at_least=1)
    scale: float = option(
        1.0, "s, by which the adapter is multiplied; tuned for each task in the paper", above=-math.inf
    )
    sublayers: tuple[str, ...] = option(tuple(PLACES), "what it stands before: attn, mlp")

    title = "RepAdapter"
    idea = "put linear bottlenecks before attention and MLP, and merge them into qkv and fc1"
    family = "reparametrised"
    source = "Luo et al. 2023"
    lr = 5e-3

    def apply(self, vit: ViT) -> None:
        check_size("bottleneck", self.bottleneck, vit.embed_dim)
        check_targets(self.sublayers, PLACES)
        for block in self.blocks(vit, *(path for name in self.sublayers for path in PLACES[name])):
            D, h = width(block), self.bottleneck
            if h % self.groups or D % self.groups:
                raise PeftlabError(f"groups is {self.groups}, but must divide the bottleneck, {h}, and the width, {D}")
            for norm in (PLACES[name][0] for name in self.sublayers):
                setattr(block, norm, After(getattr(block, norm), GroupedBottleneck(D, h, self.groups, self.scale)))

    def count(self, backbone: ViT) -> int:
        h, widths = self.bottleneck, [width(block) for block in self.blocks(backbone)]
        return len(self.sublayers) * sum(D * h + D * h // self.groups + h + D for D in widths)

    def merge(self, vit: ViT) -> None:
        for block in self.blocks(vit):
            for norm, path in (PLACES[name] for name in self.sublayers):
                adapter, linear = getattr(block, norm).after, block.get_submodule(path)
                if linear.bias is None:
                    raise NotMergeable(f"this backbone's {path} has no bias, into which rep_adapter's could be merged")
                B = adapter.scale * adapter.matrix()
                linear.bias += linear.weight @ (B @ adapter.down.bias + adapter.scale * adapter.shift)
                linear.weight += linear.weight @ B @ adapter.down.weight
                setattr(block, norm, getattr(block, norm).base)
