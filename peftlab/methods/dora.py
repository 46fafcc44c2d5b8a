"""DoRA: a weight is split into length and direction; LoRA turns the direction, and the length is trained by itself.

Idea: full fine-tuning moves lengths and directions of weights in other proportions than LoRA can; train them apart.
Equation: with V = W + (alpha / rank) B A, row by row  W+ = m V / ||V||,  y = W+ x + b, by default on q and v.
Shapes: A [rank, d_in], B [d_out, rank] as in LoRA; m [d_out], ||V|| [d_out], the norm of each output row.
Parameters: rank (d_in + d_out) + d_out for each target and block; ViT-B/16, rank 8 on q and v: 313,344.
Start: A Kaiming-uniform, B = 0, m = ||W||, so exactly the frozen backbone.
Gradients do not flow through ||V||, as in section 4.3 of the paper, which saves memory.
Merging: W+ is again one matrix.
Source: Liu et al. 2024, arXiv 2402.09353; equal to HF peft's on a plain linear layer (tested).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import register
from .lora import LoRA, LoRALinear, rows


class DoRALinear(LoRALinear):
    """A LoRALinear whose summed rows are stretched to lengths of their own, m."""

    def __init__(self, base: nn.Linear, targets: list[str], rank: int, scale: float) -> None:
        super().__init__(base, targets, rank, scale)
        lengths = base.weight.norm(dim=1)
        self.m = nn.ParameterDict({t: lengths[r].detach().clone() for t, r in self.rows.items()})

    def stretch(self) -> Float[Tensor, " height"]:
        """m / ||V|| for the rows of the targets, 1 for the others."""
        norms = (self.base.weight + self.delta()).norm(dim=1).detach()
        factor = torch.ones_like(norms)
        for target, r in self.rows.items():
            factor = torch.cat([factor[: r.start], self.m[target] / norms[r], factor[r.stop :]])
        return factor

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch height"]:
        y = super().forward(x)
        without_bias = y if self.base.bias is None else y - self.base.bias
        return y + (self.stretch() - 1) * without_bias  # so written, it is exactly y at the start


@register("dora")
@dataclass(frozen=True)
class DoRA(LoRA):
    title = "DoRA"
    idea = "train the length of each weight row apart from its direction, which LoRA turns"
    family = "reparametrised"
    source = "Liu et al. 2024"
    lr = 5e-3
    layer = DoRALinear

    def count(self, backbone: ViT) -> int:
        lengths = [rows(t, block.get_submodule(path)) for block, path, names in self.layers(backbone) for t in names]
        return super().count(backbone) + sum(r.stop - r.start for r in lengths)

    def merge(self, vit: ViT) -> None:
        for block, path, _ in self.layers(vit):
            dora = block.get_submodule(path)
            dora.base.weight.copy_(dora.stretch()[:, None] * (dora.base.weight + dora.delta()))
            block.set_submodule(path, dora.base)
