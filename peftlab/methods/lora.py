"""LoRA: a low-rank matrix is added to chosen weights.

Idea: the change that a task needs is of low rank, so learn it as a product of two thin matrices.
Equation: y = W x + b + (alpha / rank) B A x, by default on the query and value rows of the fused qkv weight.
Shapes: A [rank, d_in], B [d_out, rank] for each target; x [.., d_in]. d_in = d_out = D for q, k, v and o (the output
projection); fc1 leads from D to the hidden width H, fc2 back; "qkv" is the fused matrix, D to 3D, with one A for all
three, as HF peft has it on timm models.
Parameters: rank (d_in + d_out) for each target and block; ViT-B/16, rank 8 on q and v: 12 * 2 * 2 * 768 * 8 = 294,912.
Start: A Kaiming-uniform, B = 0, so the product is exactly 0.
alpha and rank: B A x sums over rank terms, and the scale alpha / rank makes their mean out of the sum, times alpha. So
alpha sets the strength of the change and may stay when the rank is varied. alpha None means alpha = rank: a scale
of 1, as if there were none. Doubling alpha acts nearly as a doubled learning rate of B; tune one of the two.
Merging: W + (alpha / rank) B A is again one matrix.
Source: Hu et al. 2022, arXiv 2106.09685 (q and v as in its section 4.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import Method, check_size, check_targets, option, register
from .core.layers import LINEARS, QKV

PATHS = dict.fromkeys(QKV, LINEARS["qkv"]) | LINEARS


def rows(target: str, linear: nn.Linear) -> slice:
    """The output rows of a linear layer that belong to a target: a third of qkv for q, k and v, else all.

    >>> rows("v", nn.Linear(4, 12))
    slice(8, 12, None)
    """
    if target not in QKV:
        return slice(0, linear.out_features)
    width = linear.out_features // 3
    return slice(QKV.index(target) * width, (QKV.index(target) + 1) * width)


def targeted(method: Method, targets: Sequence[str], vit: ViT) -> list[tuple[Any, str, list[str]]]:
    """(block, path, targets in that layer) for every layer that a method changes."""
    check_targets(targets, PATHS)
    paths = {PATHS[t]: [s for s in targets if PATHS[s] == PATHS[t]] for t in targets}
    return [(block, path, names) for block in method.blocks(vit, *paths) for path, names in paths.items()]


class LoRALinear(nn.Module):
    """A frozen Linear plus one low-rank product for each target among its rows."""

    def __init__(self, base: nn.Linear, targets: Sequence[str], rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.rows = {t: rows(t, base) for t in targets}
        self.A = nn.ParameterDict({t: torch.empty(rank, base.in_features) for t in targets})
        self.B = nn.ParameterDict({t: torch.zeros(r.stop - r.start, rank) for t, r in self.rows.items()})
        for t in self.rows:
            nn.init.kaiming_uniform_(self.A[t], a=math.sqrt(5))

    def down(self) -> Float[Tensor, "rank width"]:
        """All A below one another, [T rank, d_in]: one thin product serves all targets."""
        return torch.cat([self.A[t] for t in self.rows])  # in this order, as in `up`; a ParameterDict sorts its names

    def up(self) -> Float[Tensor, "height rank"]:
        """All B side by side, [d_out, T rank], each in the rows of its target and zero elsewhere."""
        height = self.base.out_features
        return torch.cat([pad_rows(self.B[t], r, height) for t, r in self.rows.items()], dim=1)

    def delta(self) -> Float[Tensor, "height width"]:
        """The whole change of the weight, [d_out, d_in]."""
        return self.scale * self.up() @ self.down()

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch height"]:
        flat = x.flatten(0, -2)
        y = torch.addmm(self.base(flat), flat @ self.down().T, self.up().T, alpha=self.scale)
        return y.unflatten(0, x.shape[:-1])


def pad_rows(matrix: Float[Tensor, "n rank"], rows: slice, height: int) -> Float[Tensor, "height rank"]:
    """A matrix [n, r] as the given rows of a zero matrix [height, r]."""
    return nn.functional.pad(matrix, (0, 0, rows.start, height - rows.stop))


@register("lora")
@dataclass(frozen=True)
class LoRA(Method):
    rank: int = option(8, "inner width of the product B A", at_least=1)
    alpha: float | None = option(
        None, "strength of the change, which is scaled by alpha / rank; none: the rank", above=-math.inf
    )
    targets: tuple[str, ...] = option(("q", "v"), "changed weights, among q, k, v, qkv, o, fc1, fc2")

    title = "LoRA"
    idea = "add a low-rank matrix to the query and value weights"
    family = "reparametrised"
    source = "Hu et al. 2022"
    lr = 5e-3
    layer: ClassVar[type[LoRALinear]] = LoRALinear

    def layers(self, vit: ViT) -> list[tuple[Any, str, list[str]]]:
        """(block, path, targets in that layer) for every changed layer."""
        return targeted(self, self.targets, vit)

    def apply(self, vit: ViT) -> None:
        scale = (self.rank if self.alpha is None else self.alpha) / self.rank
        for block, path, names in self.layers(vit):
            linear = block.get_submodule(path)
            for span in (rows(t, linear) for t in names):
                check_size("rank", self.rank, min(linear.in_features, span.stop - span.start))
            block.set_submodule(path, self.layer(linear, names, self.rank, scale))

    def count(self, backbone: ViT) -> int:
        linears = [(block.get_submodule(path), names) for block, path, names in self.layers(backbone)]
        spans = [(linear.in_features, rows(t, linear)) for linear, names in linears for t in names]
        return sum(self.rank * (width + span.stop - span.start) for width, span in spans)

    def merge(self, vit: ViT) -> None:
        for block, path, _ in self.layers(vit):
            lora = block.get_submodule(path)
            lora.base.weight += lora.delta()
            block.set_submodule(path, lora.base)
