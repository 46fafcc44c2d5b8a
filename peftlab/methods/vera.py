"""VeRA: all layers share one pair of frozen random matrices, and each trains two vectors that scale them.

Idea: LoRA's matrices may be random and common to all layers, if each layer says how much of every row it takes.
Equation: W+ = W + diag(b) B diag(d) A, so y = W x + b * (B (d * (A x))) + bias, by default on the query and value rows
of the fused qkv weight.
Shapes: A [rank, d_in] and B [d_out, rank], frozen, the largest that a layer needs, of which smaller layers take the
first columns of A and the first rows of B; d [rank] and b [d_out] for each target and block.
Parameters: rank + d_out for each target and block; ViT-B/16, rank 256 on q and v: 12 * 2 * (256 + 768) = 24,576.
The rank may exceed the width: each of its numbers costs one parameter, not d_in + d_out.
Start: d = 0.1, b = 0, so exactly the frozen backbone; A and B Kaiming-uniform.
Stored: d and b. A and B are drawn again from the option `key`, on the CPU, as HF peft draws them from its
projection_prng_key; so an adapter is as small as its count.
Merging: W + diag(b) B diag(d) A is again one matrix.
Source: Kopiczko et al. 2024, arXiv 2310.11454; equal to HF peft's (tested).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import Method, option, register
from .lora import pad_rows, rows, targeted


class Projections(nn.Module):
    """The frozen random matrices A [rank, width] and B [height, rank] that all layers share."""

    A: Tensor
    B: Tensor

    def __init__(self, rank: int, width: int, height: int, key: int, like: Tensor) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(key)
        for name, shape in (("A", (rank, width)), ("B", (height, rank))):
            matrix = nn.init.kaiming_uniform_(torch.empty(shape, device="cpu"), generator=random)
            self.register_buffer(name, matrix.to(like), persistent=False)


class VeRALinear(nn.Module):
    """A frozen Linear plus the shared product, scaled by vectors of its own for each target among its rows."""

    def __init__(self, base: nn.Linear, targets: Sequence[str], shared: Projections) -> None:
        super().__init__()
        self.base = base
        self.shared = (shared,)  # in a tuple: registered once, in the first changed block
        self.rows = {t: rows(t, base) for t in targets}
        self.d = nn.ParameterDict({t: torch.full((len(shared.A),), 0.1) for t in targets})
        self.b = nn.ParameterDict({t: torch.zeros(r.stop - r.start) for t, r in self.rows.items()})

    def down(self) -> Float[Tensor, "rank width"]:
        """A, as wide as this layer's input; the same for all targets."""
        return self.shared[0].A[:, : self.base.in_features]

    def up(self) -> Float[Tensor, "height rank"]:
        """diag(b) B diag(d) of each target in its rows, [d_out, rank]."""
        scaled = {t: self.b[t][:, None] * self.shared[0].B[: len(self.b[t])] * self.d[t] for t in self.rows}
        return torch.stack([pad_rows(scaled[t], r, self.base.out_features) for t, r in self.rows.items()]).sum(0)

    def delta(self) -> Float[Tensor, "height width"]:
        """The whole change of the weight, [d_out, d_in]."""
        return self.up() @ self.down()

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch height"]:
        flat = x.flatten(0, -2)
        return torch.addmm(self.base(flat), flat @ self.down().T, self.up().T).unflatten(0, x.shape[:-1])


@register("vera")
@dataclass(frozen=True)
class VeRA(Method):
    rank: int = option(256, "inner width of the product B A; may exceed the width of the backbone", at_least=1)
    targets: tuple[str, ...] = option(("q", "v"), "changed weights, among q, k, v, qkv, o, fc1, fc2")
    key: int = option(0, "seed of the frozen random matrices", at_least=0, below=2**63)

    title = "VeRA"
    idea = "scale one pair of random matrices, shared by all layers, by vectors of each layer"
    family = "reparametrised"
    source = "Kopiczko et al. 2024"
    lr = 2e-2

    def layers(self, vit: ViT) -> list[tuple[Any, str, list[str]]]:
        """(block, path, targets in that layer) for every changed layer."""
        return targeted(self, self.targets, vit)

    def apply(self, vit: ViT) -> None:
        layers = [(block, path, block.get_submodule(path), names) for block, path, names in self.layers(vit)]
        width = max(linear.in_features for *_, linear, _ in layers)
        height = max(r.stop - r.start for *_, linear, names in layers for r in (rows(t, linear) for t in names))
        shared = Projections(self.rank, width, height, self.key, layers[0][2].weight)
        layers[0][0].shared = shared
        for block, path, linear, names in layers:
            block.set_submodule(path, VeRALinear(linear, names, shared))

    def count(self, backbone: ViT) -> int:
        changed = [rows(t, block.get_submodule(path)) for block, path, names in self.layers(backbone) for t in names]
        return sum(self.rank + r.stop - r.start for r in changed)

    def merge(self, vit: ViT) -> None:
        for block, path, _ in self.layers(vit):
            vera = block.get_submodule(path)
            vera.base.weight += vera.delta()
            block.set_submodule(path, vera.base)
        del self.blocks(vit)[0].shared
