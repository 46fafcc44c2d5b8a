"""Taylor scores: what the removal of a channel would do to the loss, to first order."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ....methods.core.importance import channel_scores
from ..base import Exercise
from .oracle import Found, built, random, seeded


def taylor(vit: Any, x: Tensor, y: Tensor) -> Tensor:
    """Scores [blocks, D] of the residual stream after attention: mean over images of |sum over tokens of h dL/dh|."""
    return channel_scores(vit, [(x, y)])


def other_taylor(
    score: Callable[[Tensor, Tensor], Tensor], share: bool = False, read: Callable[[Any], nn.Module] | None = None
) -> Callable[..., Tensor]:
    """Another score of h and g [B, N, D] of each block; of the mean loss; of what the module `read(block)` gives."""

    def build(vit: Any, x: Tensor, y: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hooks = [
            read(block).register_forward_hook(lambda m, a, out: seen.append(out))
            if read
            else block.norm2.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
            for block in vit.blocks
        ]
        loss = F.cross_entropy(vit(x), y, reduction="mean" if share else "sum")
        for hook in hooks:
            hook.remove()
        gradients = torch.autograd.grad(loss, seen)
        return torch.stack([score(h, g) for h, g in zip(seen, gradients, strict=True)])

    return build


def first_order(h: Tensor, g: Tensor) -> Tensor:
    return (h * g).sum(1).abs().mean(0)


HOOKS = "hooks left in the ViT"


def try_taylor(function: Any) -> Found:
    """A random ViT of two blocks and width 24 on four images of three classes."""
    with seeded():
        vit = VisionTransformer(32, 8, embed_dim=24, depth=2, num_heads=2, num_classes=3).eval()
    yield "scores", function(vit, random(4, 3, 32, 32).float(), torch.tensor([0, 1, 2, 0]))
    yield HOOKS, torch.tensor(sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in vit.modules()))


EXERCISE = Exercise(
    built(try_taylor, taylor),
    "One backward pass for all channels of all blocks.",
    (
        (built(try_taylor, other_taylor(first_order, share=True)), "take the sum of the losses, not their mean"),
        (
            built(try_taylor, other_taylor(lambda h, g: (h * g).abs().sum(1).mean(0))),
            "a channel is removed from all tokens at once: sum over tokens first, then take the absolute value",
        ),
        (built(try_taylor, other_taylor(lambda h, g: (h * g).sum(1).mean(0))), "the absolute value is missing"),
        (
            built(try_taylor, other_taylor(lambda h, g: (h * g).sum((0, 1)).abs() / len(h))),
            "take the absolute value for each image, then the mean: images must not cancel",
        ),
        (
            built(try_taylor, other_taylor(lambda h, g: g.sum(1).abs().mean(0))),
            "the gradient alone says how the loss moves for a step of 1; multiply by the activation",
        ),
        (
            built(try_taylor, other_taylor(first_order, read=lambda block: block)),
            "the stream is read after attention, where norm2 reads it, not after the block",
        ),
        (
            built(try_taylor, other_taylor(first_order, read=lambda block: block.norm2)),
            "that is what norm2 gives; take what goes into it",
        ),
        (lambda function: dict(try_taylor(function))[HOOKS] > 0, "take your hooks away again: hook.remove()"),
    ),
    help="A pre-hook of block.norm2 sees the stream as args[0]. torch.autograd.grad(loss, streams) gives all g.",
)
