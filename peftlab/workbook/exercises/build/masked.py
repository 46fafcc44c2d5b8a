"""The product of Context-PEFT: each token through the adapter of its context, in one go."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base import Exercise
from .oracle import Found, built, random


def masked(x: Tensor, A: Tensor, B: Tensor, contexts: Tensor) -> Tensor:
    """y [batch, tokens, D] = B_c A_c x with c the context of each token; A [C, r, D], B [C, D, r]."""
    down = torch.einsum("btd,crd->btcr", x, A) * F.one_hot(contexts, len(A))[..., None]
    return torch.einsum("btcr,cdr->btd", down, B)


def other_masked(rule: str) -> Callable[..., Tensor]:
    """The whole product in one einsum, with another rule of what belongs together."""

    def build(x: Tensor, A: Tensor, B: Tensor, contexts: Tensor) -> Tensor:
        s = F.one_hot(contexts, len(A)).to(x.dtype)
        if rule == "all":
            s = torch.ones_like(s)
        if rule == "first":
            s = F.one_hot(torch.zeros_like(contexts), len(A)).to(x.dtype)
        if rule == "other":
            s = s.flip(1)
        if rule == "mean":
            s = s / len(A)
        if rule == "whole":
            return torch.einsum("btd,crd,tc,uer->bte", x, A, s, B)
        y = torch.einsum("btd,crd,tc,cer->bte", x, A, s, B)
        return x + y if rule == "residual" else y

    return build


def try_masked(function: Any) -> Found:
    """Two images of five tokens, width 4, two contexts of rank 3."""
    contexts = torch.tensor([0, 0, 1, 1, 1])
    yield "output", function(random(2, 5, 4), random(2, 3, 4, seed=1), random(2, 4, 3, seed=2), contexts)


EXERCISE = Exercise(
    built(try_masked, masked),
    "Each token goes through the adapter of its own context, and through no other.",
    (
        (built(try_masked, other_masked("all")), "every token goes through all contexts: mask by its own"),
        (built(try_masked, other_masked("first")), "all tokens go through context 0: use `contexts`"),
        (built(try_masked, other_masked("other")), "the contexts are swapped"),
        (built(try_masked, other_masked("mean")), "a token has one context: nothing is averaged over them"),
        (built(try_masked, other_masked("whole")), "the mask has to reach B, too: A's context and B's are one"),
        (built(try_masked, other_masked("residual")), "only the change is asked for, not x plus the change"),
    ),
    help="All A x first: [batch, tokens, C, r]; times one_hot(contexts)[..., None]; then all B, summed over C and r.",
)
