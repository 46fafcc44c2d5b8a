"""Convpass: a convolutional bottleneck runs parallel to each attention and each MLP.

Idea: give the ViT what it lacks on little data, the bias of convolutions that neighbouring patches belong together.
Equation: x <- x + f(u) + s W_up act(conv(act(W_down u))), u = LN(x), f the attention or the MLP, act = QuickGELU.
Shapes: u [B, N, D] -> [B, h, rows, columns] for the patches; conv [h, h, 3, 3]; every prefix token (CLS, registers) is
an image of one pixel, which only the kernel's centre reads.
Parameters: 2L ((2h + 1) D + 9 h^2 + 2h); ViT-B/16, h = 8: 327,552. With sublayers=("attn",) half of it.
Start: W_up and biases 0, conv the identity, W_down Xavier-uniform, so exactly the frozen backbone.
Merging: impossible: nonlinear, and it mixes neighbouring tokens.
Source: Jie & Deng 2022, arXiv 2207.07039. s is set per task there; s = 1 is our choice. No dropout in the branch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.types import Tokens, ViT
from .core.base import Method, check_size, check_targets, check_tokens, option, register
from .core.layers import ParallelBranch

SUBLAYERS = ("attn", "mlp")


def quick_gelu(x: Tensor) -> Tensor:
    """A cheap approximation of GELU: x * sigmoid(1.702 x).

    >>> quick_gelu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1542,  0.0000,  0.8458])
    """
    return x * torch.sigmoid(1.702 * x)


class ConvBottleneck(nn.Module):
    """Tokens [B, N, D] -> [B, N, D]; the last rows * columns tokens are the patches of that grid."""

    def __init__(self, width: int, bottleneck: int, prefix: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.prefix, self.grid = prefix, grid
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        self.conv = nn.Conv2d(bottleneck, bottleneck, 3, padding=1)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.dirac_(self.conv.weight)
        for zero in (self.down.bias, self.conv.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]  # every layer here has its bias

    def forward(self, u: Tokens) -> Tokens:
        check_tokens(u.shape[1], self.prefix + math.prod(self.grid))
        h = quick_gelu(self.down(u))
        prefix, patches = h[:, : self.prefix], h[:, self.prefix :]
        image = self.conv(patches.transpose(1, 2).unflatten(2, self.grid))
        single = F.linear(prefix, self.conv.weight[:, :, 1, 1], self.conv.bias)
        return self.up(quick_gelu(torch.cat([single, image.flatten(2).transpose(1, 2)], dim=1)))


@register("convpass")
@dataclass(frozen=True)
class Convpass(Method):
    bottleneck: int = option(8, "h, inner width of the branch", at_least=1)
    scale: float = option(
        1.0, "s, by which the branch is multiplied; tuned for each task in the paper", above=-math.inf
    )
    sublayers: tuple[str, ...] = option(SUBLAYERS, "what it runs parallel to: attn, mlp")

    title = "Convpass"
    idea = "run a convolutional bottleneck parallel to attention and MLP"
    family = "additive"
    source = "Jie & Deng 2022"
    not_on_windows = "its convolution is laid over one grid of patches"
    lr = 2e-3
    not_mergeable = "it is nonlinear and mixes neighbouring tokens, which no weight of the block does"

    def apply(self, vit: ViT) -> None:
        check_size("bottleneck", self.bottleneck, vit.embed_dim)
        check_targets(self.sublayers, SUBLAYERS)
        for block in self.blocks(vit, *self.sublayers):
            for name in self.sublayers:
                grid = vit.patch_embed.grid_size
                branch = ConvBottleneck(vit.embed_dim, self.bottleneck, vit.num_prefix_tokens, grid)
                setattr(block, name, ParallelBranch(getattr(block, name), branch, self.scale))

    def count(self, backbone: ViT) -> int:
        D, h = backbone.embed_dim, self.bottleneck
        return len(self.blocks(backbone)) * len(self.sublayers) * ((2 * h + 1) * D + 9 * h**2 + 2 * h)
