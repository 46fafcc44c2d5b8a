"""Parallel adapter: one small bottleneck network a block, used twice, parallel to attention and to the MLP.

Idea: correct the residual stream itself, with the same correction before and after the attention has spoken.
Equation: x <- x + MHSA(LN1 x) + A(x); x <- x + MLP(LN2 x) + A(x), with A(x) = s (W_up GELU(W_down x + b_down) + b_up).
Shapes: x [B, N, D], not normalised; W_down [h, D], W_up [D, h] for the bottleneck h; s = 0.1.
Parameters: L (2 D h + h + D); ViT-B/16, h = 4: 82,992.
Start: weights truncated normal with std 0.02, biases 0: near the frozen backbone, not equal to it.
Merging: impossible, there is a nonlinearity between the two matrices.
Source: the adapter that GIST's authors released with it (github.com/JCruan519/GIST), h = 4 and s = 0.1 as there.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import Method, check_size, option, register
from .core.layers import NOT_LINEAR, Bottleneck, ResidualBlock, replace_block


class ParallelBlock(ResidualBlock):
    """A is added twice, outside LayerScale and DropPath."""

    def __init__(self, block: nn.Module, parallel: nn.Module, scale: float) -> None:
        super().__init__(block, "parallel")
        self.parallel, self.scale = parallel, scale

    def after_attention(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch + self.scale * self.parallel(x)

    after_mlp = after_attention


@register("parallel")
@dataclass(frozen=True)
class Parallel(Method):
    bottleneck: int = option(4, "h, inner width of the adapter", at_least=1)
    scale: float = option(0.1, "s, by which the adapter is multiplied", above=-math.inf)

    title = "Parallel adapter"
    idea = "run one small bottleneck network twice in each block"
    family = "additive"
    source = "GIST's released code"
    not_on_windows = "it opens timm's plain Block, and some of these merge tokens first"
    lr = 5e-3
    identity_at_start = False
    not_mergeable = NOT_LINEAR

    def apply(self, vit: ViT) -> None:
        check_size("bottleneck", self.bottleneck, vit.embed_dim)
        for block in self.blocks(vit, "attn", "mlp"):
            adapter = Bottleneck(vit.embed_dim, self.bottleneck, nn.GELU())
            for linear in (adapter.down, adapter.up):
                nn.init.trunc_normal_(linear.weight, std=0.02)
            replace_block(vit, block, ParallelBlock(block, adapter, self.scale))

    def count(self, backbone: ViT) -> int:
        D, h = backbone.embed_dim, self.bottleneck
        return len(self.blocks(backbone)) * (2 * D * h + h + D)
