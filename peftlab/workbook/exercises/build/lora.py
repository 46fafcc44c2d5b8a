"""LoRALinear: a frozen layer with a thin one beside it."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..base import Exercise
from .oracle import Found, built, random, seeded


class LoRALinear(nn.Module):
    """y = base(x) + scale B A x, the base frozen; starts at the base."""

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), scale
        self.A = nn.Parameter(torch.empty(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * x @ self.A.T @ self.B.T

    def merged(self) -> Tensor:
        return self.base.weight + self.scale * self.B @ self.A


class NoScale(LoRALinear):
    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.A.T @ self.B.T


class NoBias(LoRALinear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.base.weight + self.scale * self.B @ self.A).T


class AllScaled(LoRALinear):
    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (self.base(x) + x @ self.A.T @ self.B.T)


class BothRandom(LoRALinear):
    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base, rank, scale)
        nn.init.normal_(self.B)


class BothZero(LoRALinear):
    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base, rank, scale)
        nn.init.zeros_(self.A)


class NotFrozen(LoRALinear):
    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base, rank, scale)
        self.base.requires_grad_(True)


class MergedWithoutScale(LoRALinear):
    def merged(self) -> Tensor:
        return self.base.weight + self.B @ self.A


class MergedAlone(LoRALinear):
    def merged(self) -> Tensor:
        return self.scale * self.B @ self.A


def try_lora(cls: Any) -> Found:
    """A layer of 6 inputs and 4 outputs: at its start, with given A and B, its gradients, merged."""
    with seeded():
        base, x = nn.Linear(6, 4), random(3, 6).float()
        layer = cls(base, 2, 0.5)
        found = {
            "output at the start, less the frozen layer's": layer(x) - base(x),
            "whether A starts at 0": (layer.A == 0).all(),
            "whether the frozen weight is trained": torch.tensor(base.weight.requires_grad),
        }
        with torch.no_grad():
            layer.A.copy_(random(2, 6, seed=1))
            layer.B.copy_(random(4, 2, seed=2))
        output = layer(x)
        output.square().sum().backward()
        gradients = {f"gradient of {name}": getattr(layer, name).grad for name in "AB"}
        return found | {"output": output} | gradients | {"merged weight": layer.merged()}


EXERCISE = Exercise(
    built(try_lora, LoRALinear),
    "Output, gradients, start and merged weight are those of peftlab's.",
    (
        (built(try_lora, NoScale), "forward leaves out the scale"),
        (built(try_lora, NoBias), "the frozen layer has a bias, too: call self.base(x)"),
        (built(try_lora, AllScaled), "only the change is scaled, not the frozen layer"),
        (built(try_lora, BothRandom), "B has to start at 0, so that nothing is changed at first"),
        (built(try_lora, BothZero), "if A and B are both 0, neither ever gets a gradient: start A at random"),
        (built(try_lora, NotFrozen), "the base is trained, too: base.requires_grad_(False)"),
        (built(try_lora, MergedWithoutScale), "merged leaves out the scale"),
        (built(try_lora, MergedAlone), "merged is the whole weight: the frozen one plus the change"),
    ),
    help="The thin way: x [.., d_in] @ A.T is [.., rank], and that @ B.T is [.., d_out].",
)
