"""LoRALinear: a frozen layer with a thin one beside it."""

import math
from collections.abc import Callable
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


class MergedWithoutScale(LoRALinear):
    def merged(self) -> Tensor:
        return self.base.weight + self.B @ self.A


class MergedAlone(LoRALinear):
    def merged(self) -> Tensor:
        return self.scale * self.B @ self.A


def made(cls: Any, inputs: int = 6) -> Any:
    """The layer that it makes of one with 4 outputs, with rank 2 and scale 1/2."""
    with seeded():
        return cls(nn.Linear(inputs, 4), 2, 0.5)


def is_drawn(cls: Any) -> bool:
    """Is its A [r, d_in] as kaiming_uniform_ with a=sqrt(5) draws it, within 1 / sqrt(d_in) of 0 and up to there?"""
    A = made(cls, inputs=600).A
    bound = A.shape[1] ** -0.5
    return bool(-bound <= A.min() < -bound / 2 and bound / 2 < A.max() <= bound)


DRAWN = "whether A is drawn Kaiming-uniform"


def try_lora(cls: Any) -> Found:
    """A small layer: its start, then with given A and B its output, its gradients, merged."""
    layer, x = made(cls), random(3, 6).float()
    for name in "AB":
        start = getattr(layer, name)
        yield name, torch.zeros_like(start) if isinstance(start, Tensor) else start  # the shape alone; A is drawn
    yield DRAWN, torch.tensor(is_drawn(cls))
    yield "output at the start", layer(x)
    yield "trained tensors", torch.tensor(sum(p.requires_grad for p in layer.parameters()))
    with torch.no_grad():
        layer.A.copy_(random(2, 6, seed=1))
        layer.B.copy_(random(4, 2, seed=2))
    yield "output", (output := layer(x))
    output.square().sum().backward()
    for name in "AB":
        yield f"gradient of {name}", getattr(layer, name).grad
    yield "merged weight", layer.merged()


def starts(so: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Does it make a layer that is so, with A and B of the right shape?"""

    def test(cls: Any) -> bool:
        layer = made(cls)
        return layer.A.shape == (2, 6) and layer.B.shape == (4, 2) and bool(so(layer))

    return test


RIGHT = built(try_lora, LoRALinear)

EXERCISE = Exercise(
    RIGHT,
    "Output, gradients, start and merged weight are those of peftlab's.",
    (
        (built(try_lora, NoScale), "forward leaves out the scale"),
        (built(try_lora, NoBias), "the frozen layer has a bias, too: call self.base(x)"),
        (built(try_lora, AllScaled), "only the change is scaled, not the frozen layer"),
        (built(try_lora, MergedWithoutScale), "merged leaves out the scale"),
        (built(try_lora, MergedAlone), "merged is the whole weight: the frozen one plus the change"),
        (
            starts(lambda layer: (layer.A == 0).all() and (layer.B == 0).all()),
            "if A and B are both 0, neither ever gets a gradient: start A at random",
        ),
        (starts(lambda layer: (layer.A == 0).all()), "A starts at 0: A is drawn at random and B is 0"),
        (starts(lambda layer: (layer.B != 0).any()), "B has to start at 0, so that nothing is changed at first"),
        (
            lambda cls: RIGHT.explain(cls).startswith(DRAWN),
            "A is drawn Kaiming-uniform: nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))",
        ),
        (
            starts(lambda layer: any(p.requires_grad for p in layer.base.parameters())),
            "the base is trained, too: base.requires_grad_(False)",
        ),
    ),
    help="The thin way: x [.., d_in] @ A.T is [.., rank], and that @ B.T is [.., d_out].",
)
