"""LoRA: a low-rank matrix is added to chosen weights.

Idea: the change that a task needs is of low rank, so learn it as a product of two thin matrices.
Equation: y = W x + b + (alpha / rank) B A x, on the query and value rows of the fused qkv weight.
Shapes: A [rank, D], B [D, rank] for each target; x [.., D].
Parameters: L * (number of targets) * 2 * D * rank; ViT-B/16, rank 8 on q and v: 294,912.
Start: A Kaiming-uniform, B = 0, so the product is exactly 0.
The scale alpha / rank keeps the size of the change comparable when the rank is varied; alpha None means alpha = rank,
a scale of 1.
Merging: W + (alpha / rank) B A is again one matrix.
Source: Hu et al. 2022, arXiv 2106.09685 (q and v as in its section 4.2).
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import PeftlabError, near
from .base import Method, register

PARTS = ("q", "k", "v")


class LoRALinear(nn.Module):
    """A frozen fused qkv Linear plus one low-rank product per target."""

    def __init__(self, linear, targets, rank, scale):
        super().__init__()
        self.linear, self.targets, self.scale = linear, targets, scale
        self.width = linear.out_features // len(PARTS)
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.A = nn.ParameterDict({t: torch.empty(rank, linear.in_features, **like) for t in targets})
        self.B = nn.ParameterDict({t: torch.zeros(self.width, rank, **like) for t in targets})
        for A in self.A.values():
            nn.init.kaiming_uniform_(A, a=math.sqrt(5))

    def rows(self, target):
        start = PARTS.index(target) * self.width
        return slice(start, start + self.width)

    def delta(self):
        """The whole change of the weight, [3 D, D]."""
        change = torch.zeros_like(self.linear.weight)
        for t in self.targets:
            change[self.rows(t)] = self.scale * self.B[t] @ self.A[t]
        return change

    def forward(self, x):
        y = self.linear(x)
        for t in self.targets:
            y[..., self.rows(t)] += self.scale * (x @ self.A[t].T @ self.B[t].T)
        return y


@register("lora")
@dataclass(frozen=True)
class LoRA(Method):
    rank: int = 8
    alpha: float | None = None
    targets: tuple = ("q", "v")

    title = "LoRA"
    idea = "add a low-rank matrix to the query and value weights"
    source = "Hu et al. 2022"
    lr = 5e-3

    def apply(self, vit):
        if not 1 <= self.rank <= vit.embed_dim:
            raise PeftlabError(f"rank is {self.rank}, but must lie between 1 and the width, {vit.embed_dim}")
        for target in self.targets:
            if target not in PARTS:
                raise PeftlabError(f"unknown LoRA target {target!r}{near(target, PARTS)}")
        scale = (self.rank if self.alpha is None else self.alpha) / self.rank
        for block in vit.blocks:
            block.attn.qkv = LoRALinear(block.attn.qkv, self.targets, self.rank, scale)

    def count(self, vit):
        return len(vit.blocks) * len(self.targets) * 2 * vit.embed_dim * self.rank

    def merge(self, vit):
        for block in vit.blocks:
            lora = block.attn.qkv
            lora.linear.weight += lora.delta()
            block.attn.qkv = lora.linear
