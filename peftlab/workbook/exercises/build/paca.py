"""PaCa: the attention by which GIFT clusters the rows of a weight."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....methods.gift import PaCa
from ..base import Exercise
from .oracle import Found, built, random, seeded


def paca(
    U: Tensor, cluster: nn.Linear, q: nn.Linear, k: nn.Linear, v: nn.Linear, proj: nn.Linear
) -> tuple[Tensor, ...]:
    """Parameter-to-cluster attention with one head -> C [N, M], Z [M, d], A [N, M], output [N, d]."""
    C = cluster(U).sigmoid()
    Z = F.normalize(C.T @ U, dim=-1)
    A = (q(U) @ k(Z).T / U.shape[1] ** 0.5).softmax(-1)
    return C, Z, A, proj(A @ v(Z))


def other_paca(
    assign: Callable[[Tensor], Tensor] = torch.sigmoid,
    unit: bool = True,
    root: float = 0.5,
    axis: int = -1,
    last: bool = True,
) -> Callable[..., tuple[Tensor, ...]]:
    """PaCa with another assignment, without Z's norm, another scale, softmax over tokens, or without proj."""

    def build(U: Tensor, cluster: Any, q: Any, k: Any, v: Any, proj: Any) -> tuple[Tensor, ...]:
        C = assign(cluster(U))
        Z = F.normalize(C.T @ U, dim=-1) if unit else C.T @ U
        A = (q(U) @ k(Z).T / U.shape[1] ** root).softmax(axis)
        mixed = A @ v(Z)
        return C, Z, A, proj(mixed) if last else mixed

    return build


def try_paca(function: Any) -> Found:
    """Seven tokens of width 6 and three clusters, with the layers of the package's own PaCa."""
    with seeded():
        own = PaCa(6, 3, 1, "sigmoid").double()
    found = function(random(7, 6), own.cluster, own.q, own.k, own.v, own.proj)
    yield "tensors returned", torch.tensor(len(found) if isinstance(found, tuple | list) else found is not None)
    yield from zip(("C", "Z", "A", "output"), found, strict=True)


EXERCISE = Exercise(
    built(try_paca, paca),
    "C, Z, A and the output are those of peftlab's PaCa.",
    (
        (
            built(try_paca, other_paca(lambda c: c.softmax(-1))),
            "C is a sigmoid: clusters do not compete for a token",
        ),
        (built(try_paca, other_paca(lambda c: c)), "C is between 0 and 1: put it through a sigmoid"),
        (built(try_paca, other_paca(unit=False)), "each cluster of Z is divided by its norm"),
        (built(try_paca, other_paca(root=0)), "divide Q K^T by the root of the width before the softmax"),
        (built(try_paca, other_paca(root=1)), "the scale is the root of the width, not the width"),
        (
            built(try_paca, other_paca(axis=0)),
            "each token spreads 1 over the clusters: softmax over the last axis",
        ),
        (built(try_paca, other_paca(last=False)), "the output goes through proj"),
    ),
    help="C.T @ U is [M, d], q(U) @ k(Z).T is [N, M]. Queries come from tokens, keys and values from clusters.",
)
