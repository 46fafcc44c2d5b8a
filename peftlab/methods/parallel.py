"""Parallel adapter: one small bottleneck network a block, used twice, beside attention and beside the MLP.

Idea: correct the residual stream itself, with the same correction before and after the attention has spoken.
Equation: x <- x + MHSA(LN1 x) + A(x); x <- x + MLP(LN2 x) + A(x), with A(x) = s (W_up GELU(W_down x + b_down) + b_up).
Shapes: x [B, N, D], not normalised; W_down [h, D], W_up [D, h] for the bottleneck h; s = 0.1.
Parameters: L (2 D h + h + D); ViT-B/16, h = 4: 82,992.
Start: weights truncated normal with std 0.02, biases 0: near the frozen backbone, not equal to it.
Merging: impossible, there is a nonlinearity between the two matrices.
Source: the adapter that GIST's authors released with it (github.com/JCruan519/GIST), h = 4 and s = 0.1 as there.
"""

from dataclasses import dataclass

from timm.models.vision_transformer import Block
from torch import nn

from .core.base import Method, check_size, register
from .core.layers import NOT_LINEAR, Bottleneck, become


class ParallelBlock(Block):
    """timm's Block with A added twice, outside LayerScale and DropPath. An existing Block becomes one by its class."""

    def forward(self, x, attn_mask=None, is_causal=False):
        attended = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        x = x + self.drop_path1(self.ls1(attended)) + self.parallel_scale * self.parallel(x)
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x)))) + self.parallel_scale * self.parallel(x)


@register("parallel")
@dataclass(frozen=True)
class Parallel(Method):
    bottleneck: int = 4
    scale: float = 0.1

    title = "Parallel adapter"
    idea = "run one small bottleneck network twice in each block"
    family = "additive"
    source = "GIST's released code"
    lr = 5e-3
    identity_at_start = False
    not_mergeable = NOT_LINEAR

    def apply(self, vit):
        check_size("bottleneck", self.bottleneck, vit.embed_dim)
        for block in self.blocks(vit, "attn", "mlp"):
            block.parallel, block.parallel_scale = Bottleneck(vit.embed_dim, self.bottleneck, nn.GELU()), self.scale
            for linear in (block.parallel.down, block.parallel.up):
                nn.init.trunc_normal_(linear.weight, std=0.02)
            become(block, ParallelBlock, self.name)

    def count(self, backbone):
        D, h = backbone.embed_dim, self.bottleneck
        return len(self.blocks(backbone)) * (2 * D * h + h + D)
