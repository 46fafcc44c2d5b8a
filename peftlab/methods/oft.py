"""OFT: a weight is rotated, so its rows keep their lengths and the angles between them.

Idea: what a layer knows lies in the angles between its neurons, the rows of the weight; so turn all of them together.
Equation: W+ = W R, so y = W (R x) + b, by default on the fused qkv weight. R is block-diagonal, and each block is made
orthogonal by the Cayley transform R_j = (I + Q_j) (I - Q_j)^-1 of a skew-symmetric matrix, Q_j^T = -Q_j.
Shapes: R [d_in, d_in] with d_in / s blocks [s, s], s = block_size; trained are the s (s - 1) / 2 numbers above the
diagonal of each Q_j.
Parameters: d_in (s - 1) / 2 for each target and block; ViT-B/16, s = 16: 12 * 768 * 15 / 2 = 69,120.
Start: Q = 0, so R = I and exactly the frozen backbone.
A target is a whole layer: q, k and v stand in one weight and have their input in common, so they share one rotation.
Merging: W R is again one matrix.
Source: Qiu et al. 2023, arXiv 2306.07280, without its variant of bounded rotations (COFT); on the input's side as HF
peft, equal to its exact Cayley transform, use_cayley_neumann=False (tested).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from ..common.errors import PeftlabError
from .core.base import Method, check_targets, option, register
from .core.layers import LINEARS, Before


class Rotation(nn.Module):
    """x [.., width] -> R x, in pieces of `size` numbers, each turned by an orthogonal matrix of its own."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.upper = nn.Parameter(torch.zeros(width // size, size * (size - 1) // 2))  # of each Q

    def matrices(self) -> Float[Tensor, "pieces size size"]:
        """R_j = (I + Q_j) (I - Q_j)^-1. I - Q_j can always be inverted: a skew-symmetric Q has no eigenvalue 1."""
        upper = self.upper.to(torch.promote_types(self.upper.dtype, torch.float32))  # no inverse in half precision
        i, j = torch.triu_indices(self.size, self.size, offset=1, device=upper.device)
        Q = upper.new_zeros(len(upper), self.size, self.size)
        Q[:, i, j], Q[:, j, i] = upper, -upper
        identity = torch.eye(self.size).to(Q)
        return torch.linalg.solve(identity - Q, identity + Q).to(self.upper)  # the two factors commute

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        pieces = x.unflatten(-1, (-1, self.size))
        return torch.einsum("nij,...nj->...ni", self.matrices(), pieces).flatten(-2)


@register("oft")
@dataclass(frozen=True)
class OFT(Method):
    block_size: int = option(16, "numbers of the input that are turned together; must divide its width", at_least=2)
    targets: tuple[str, ...] = option(("qkv",), "layers with a turned input, among qkv, o, fc1, fc2")

    title = "OFT"
    idea = "rotate the input of the frozen query, key and value weights"
    family = "reparametrised"
    source = "Qiu et al. 2023"
    lr = 5e-3

    def layers(self, vit: ViT) -> list[tuple[Any, str, Any]]:
        """(block, path, layer) for every changed layer."""
        check_targets(self.targets, LINEARS)
        paths = [LINEARS[t] for t in self.targets]
        return [(block, path, block.get_submodule(path)) for block in self.blocks(vit, *paths) for path in paths]

    def apply(self, vit: ViT) -> None:
        for block, path, linear in self.layers(vit):
            if linear.in_features % self.block_size:
                raise PeftlabError(
                    f"block_size is {self.block_size}, but must divide the input width of {path}, {linear.in_features}"
                )
            block.set_submodule(path, Before(linear, Rotation(linear.in_features, self.block_size)))

    def count(self, backbone: ViT) -> int:
        return sum(linear.in_features * (self.block_size - 1) // 2 for _, _, linear in self.layers(backbone))

    def merge(self, vit: ViT) -> None:
        for block, path, layer in self.layers(vit):
            layer.base.weight.copy_(layer.base.weight @ torch.block_diag(*layer.before.matrices()))
            block.set_submodule(path, layer.base)
