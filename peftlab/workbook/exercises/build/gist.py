"""GIST's loss: two cross-entropies and two divergences."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....methods.gist import kl
from ..base import Exercise
from .oracle import Found, built, random


def gist_loss(cls: Tensor, gist: Tensor, labels: Tensor, T: float) -> Tensor:
    """CE(cls) + CE(gist) / 2 + 3/4 (KL(cls || gist) + KL(gist || cls)), both KLs of softmax(logits / T)."""
    both = kl(cls, gist, T) + kl(gist, cls, T)
    return F.cross_entropy(cls, labels) + 0.5 * F.cross_entropy(gist, labels) + 0.75 * both


def other_gist(
    half: float = 0.5,
    forward: float = 0.75,
    back: float = 0.75,
    averaged: bool = False,
    T: float | None = None,
    kl: Callable[[Tensor, Tensor, float], Tensor] = kl,
) -> Callable[..., Tensor]:
    """A loss with other weights, a mean over classes, another temperature, or another form of the KL."""

    def loss(cls: Tensor, gist: Tensor, labels: Tensor, temperature: float) -> Tensor:
        t = T or temperature
        both = forward * kl(cls, gist, t) + back * kl(gist, cls, t)
        ce = F.cross_entropy(cls, labels) + half * F.cross_entropy(gist, labels)
        return ce + both / (cls.shape[1] if averaged else 1)

    return loss


def of_probabilities(logits: Tensor, towards: Tensor, T: float) -> Tensor:
    """F.kl_div as if it took probabilities twice."""
    return F.kl_div((towards / T).softmax(1), (logits / T).softmax(1), reduction="batchmean")


LARGE = "loss at logits of 10,000"


def try_gist(loss: Any) -> Found:
    """The loss of five images and four classes, its gradients, and the loss of very large logits."""
    cls, gist = random(5, 4).requires_grad_(), random(5, 4, seed=1).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0])
    value = loss(cls, gist, labels, 3.0)
    yield "loss", value
    if value.requires_grad:
        value.backward()
    yield "gradient of the CLS logits", cls.grad
    yield "gradient of the gist logits", gist.grad
    yield LARGE, loss(1e4 * cls.detach().sign(), 1e4 * gist.detach().sign(), labels, 3.0)


RIGHT = built(try_gist, gist_loss)

EXERCISE = Exercise(
    RIGHT,
    "Finite at logits of 10,000, and with gradients in both branches.",
    (
        (
            lambda loss: RIGHT.explain(loss).startswith(LARGE) and not dict(try_gist(loss))[LARGE].isfinite(),
            "at logits of 10,000 it is not finite: log of a softmax is log(0) there; take log_softmax",
        ),
        (
            lambda loss: dict(try_gist(loss))["loss"].isnan(),
            "the loss is NaN: F.kl_div takes probabilities as its second argument, unless log_target=True",
        ),
        (built(try_gist, other_gist(kl=of_probabilities)), "F.kl_div takes log-probabilities as its first argument"),
        (built(try_gist, other_gist(half=1)), "the gist's cross-entropy counts half"),
        (built(try_gist, other_gist(back=0)), "KL(gist || CLS) is missing: there are two directions"),
        (built(try_gist, other_gist(forward=0)), "KL(CLS || gist) is missing: there are two directions"),
        (built(try_gist, other_gist(forward=1, back=1)), "each KL is weighted by 3/4"),
        (built(try_gist, other_gist(T=1)), "both logits are divided by T before the softmax of the KLs"),
        (
            lambda loss: RIGHT.explain(loss).startswith("gradient"),
            "nothing is detached: both branches learn from both KLs",
        ),
        (
            built(try_gist, other_gist(averaged=True)),
            "sum over classes, mean over images: F.kl_div takes reduction='batchmean'",
        ),
        (built(try_gist, other_gist(forward=6.75, back=6.75)), "the KLs are not multiplied by T squared here"),
    ),
    help="Begin with log_softmax; F.kl_div(log_q, log_p, reduction='batchmean', log_target=True) is KL(p || q).",
)
