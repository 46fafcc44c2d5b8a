"""PiSSA: LoRA that starts at the principal part of each weight instead of at zero.

Idea: LoRA begins with random and zero matrices and needs time to find directions that matter. The singular vectors of
the weight with the largest singular values matter already: train those, and freeze the rest.
Equation: with the singular value decomposition W = U S V^T cut after `rank` values,
    B0 = U_r S_r^(1/2) / s^(1/2),  A0 = S_r^(1/2) V_r^T / s^(1/2),  s = alpha / rank,
    y = (W - s B0 A0) x + s B A x + b,  by default on the query and value rows of the fused qkv weight.
Shapes: A, A0 [rank, d_in], B, B0 [d_out, rank] for each target, as in LoRA. A and B are trained, A0 and B0 are frozen.
Parameters: rank (d_in + d_out) for each target and block, as LoRA; ViT-B/16, rank 8 on q and v: 294,912.
Start: A = A0 and B = B0. The change B A - B0 A0 is computed as B (A - A0) + (B - B0) A0, which is then exactly 0, so
the frozen weight W itself is never touched and models on the same backbone still share it.
Stored: A0 and B0, too, because another machine's decomposition may differ in the last bits, and in signs.
Weight decay pulls B A towards 0. That is where LoRA's product starts, but here it takes the principal part out of W.
Merging: W + s (B A - B0 A0) is again one matrix.
Source: Meng et al. 2024, arXiv 2404.02948; equal to HF peft's init_lora_weights="pissa" (tested).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .core.base import option, register
from .lora import LoRA, LoRALinear, pad_rows


@torch.no_grad()
def principal(
    weight: Float[Tensor, "height width"], rank: int
) -> tuple[Float[Tensor, "height rank"], Float[Tensor, "rank width"]]:
    """B [d_out, r] and A [r, d_in] whose product is the best approximation of a weight [d_out, d_in] of that rank.

    >>> B, A = principal(torch.diag(torch.tensor([4.0, 9.0, 1.0])), rank=1)
    >>> (B @ A).diag()
    tensor([0., 9., 0.])
    """
    exact = weight.to(torch.promote_types(weight.dtype, torch.float32))  # there is none in half precision
    U, S, Vh = torch.linalg.svd(exact, full_matrices=False)
    root = S[:rank].sqrt()
    return U[:, :rank] * root, root[:, None] * Vh[:rank]


class PiSSALinear(LoRALinear):
    """A LoRALinear whose products start at the principal part of their rows, which is taken out of the frozen ones."""

    def __init__(self, base: nn.Linear, targets: Sequence[str], rank: int, scale: float) -> None:
        super().__init__(base, targets, rank, scale)
        self.start = nn.Module()
        for t, r in self.rows.items():
            B, A = principal(base.weight[r], rank)
            for name, matrix in (("A", A), ("B", B)):
                getattr(self, name)[t] = nn.Parameter(matrix / scale**0.5)
                self.start.register_buffer(f"{name}_{t}", getattr(self, name)[t].detach().clone())

    def down(self) -> Float[Tensor, "rank width"]:
        """[2 T rank, d_in]: A - A0 and A0 of each target below one another."""
        starts = {t: self.start.get_buffer(f"A_{t}") for t in self.rows}
        return torch.cat([part for t, A0 in starts.items() for part in (self.A[t] - A0, A0)])

    def up(self) -> Float[Tensor, "height rank"]:
        """[d_out, 2 T rank]: B and B - B0 of each target side by side, in its rows and zero elsewhere."""
        starts = {t: self.start.get_buffer(f"B_{t}") for t in self.rows}
        parts = [(part, self.rows[t]) for t, B0 in starts.items() for part in (self.B[t], self.B[t] - B0)]
        return torch.cat([pad_rows(part, r, self.base.out_features) for part, r in parts], dim=1)


@register("pissa")
@dataclass(frozen=True)
class PiSSA(LoRA):
    alpha: float | None = option(
        None, "strength of the product, which is scaled by alpha / rank; none: the rank", above=0
    )

    title = "PiSSA"
    idea = "start LoRA at the principal part of the query and value weights"
    family = "reparametrised"
    source = "Meng et al. 2024"
    lr = 5e-3
    layer = PiSSALinear
