"""AdaptFormer: a small bottleneck network runs parallel to each MLP.

Idea: let a light branch learn the task while the MLP keeps what it knows, and add the two.
Equation: x <- x + MLP(u) + s (W_up ReLU(W_down u + b_down) + b_up), u = LN2(x).
Shapes: u [B, N, D]; W_down [h, D], W_up [D, h] for the bottleneck h; s a fixed number.
Parameters: L (2 D h + h + D); ViT-B/16, h = 8: 156,768, h = 64: 1,189,632.
Start: W_up and both biases 0, W_down Kaiming-uniform, so exactly the frozen backbone.
Merging: impossible, there is a nonlinearity between the two matrices.
Source: Chen et al. 2022, arXiv 2205.13535.
Differs from the authors' code: the branch reads u, what the MLP reads, where theirs reads x (through a LayerNorm of
its own or none), and it stands inside the block's LayerScale and DropPath, where there are any. s = 0.1 is our choice.
"""

import math
from dataclasses import dataclass

from torch import nn

from ..backbones.types import ViT
from .core.base import Method, check_size, option, register
from .core.layers import NOT_LINEAR, Bottleneck, ParallelBranch, bottleneck_size, width


@register("adaptformer")
@dataclass(frozen=True)
class AdaptFormer(Method):
    bottleneck: int = option(8, "h, inner width of the branch", at_least=1)
    scale: float = option(0.1, "s, by which the branch is multiplied", above=-math.inf)

    title = "AdaptFormer"
    idea = "run a small bottleneck network parallel to each MLP"
    family = "additive"
    source = "Chen et al. 2022"
    lr = 5e-3
    not_mergeable = NOT_LINEAR

    def apply(self, vit: ViT) -> None:
        check_size("bottleneck", self.bottleneck, vit.embed_dim)
        for block in self.blocks(vit, "mlp"):
            block.mlp = ParallelBranch(block.mlp, Bottleneck(width(block), self.bottleneck, nn.ReLU()), self.scale)

    def count(self, backbone: ViT) -> int:
        return sum(bottleneck_size(block, self.bottleneck) for block in self.blocks(backbone))
