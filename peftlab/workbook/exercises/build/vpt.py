"""VPT's hook: the prompts of a block enter the sequence, those of the block before leave it."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ....backbones.stages import run_stages
from ..base import Exercise
from .oracle import Found, built, random, seeded


def insert(x: Tensor, prompts: Tensor, at: int) -> Tensor:
    """[B, N, D] and [p, D] -> [B, N + p, D]."""
    return torch.cat([x[:, :at], prompts.expand(len(x), -1, -1), x[:, at:]], dim=1)


def drop(x: Tensor, start: int, number: int) -> Tensor:
    """[B, N, D] -> [B, N - number, D]."""
    return torch.cat([x[:, :start], x[:, start + number :]], dim=1)


def put(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    """[B, N + before, D] -> [B, N + p, D]: prompts [p, D] behind the prefix, instead of `before` others."""
    return insert(drop(x, prefix, before), prompts, prefix)


def put_last(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return insert(x, prompts, x.shape[1])


def put_first(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return insert(x, prompts, 0)


def put_second(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return put(x, prompts, 1, before)


def overwrite(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return insert(drop(x, prefix, len(prompts)), prompts, prefix)


def add(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    stop = prefix + len(prompts)
    return torch.cat([x[:, :prefix], x[:, prefix:stop] + prompts, x[:, stop:]], dim=1)


def keep_all(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return insert(x, prompts, prefix)


def drop_patches(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return insert(drop(x, x.shape[1] - before, before), prompts, prefix)


def drop_prefix(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return insert(drop(x, 0, before), prompts, prefix)


def shallow(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return x if before else insert(x, prompts, prefix)


def detached(x: Tensor, prompts: Tensor, prefix: int, before: int) -> Tensor:
    return put(x, prompts.detach(), prefix, before)


def try_first(function: Any) -> Found:
    """Two images through the embedding of a random ViT with CLS, a register and four patches; then three prompts."""
    vit, x = images()
    yield "tokens of block 1", function(x, random(3, 12, seed=1), vit.num_prefix_tokens, 0)


def try_vpt(function: Any) -> Found:
    """The same, then two prompts of block 2's own, and none after it; what becomes of it, and gradients."""
    yield from try_first(function)
    vit, x = images()
    prompts = [random(3, 12, seed=1).requires_grad_(), random(2, 12, seed=2).requires_grad_()]
    first = vit.blocks[0](function(x, prompts[0], vit.num_prefix_tokens, 0))
    yield "tokens of block 2", (second := function(first, prompts[1], vit.num_prefix_tokens, 3))
    after = function(vit.blocks[1](second), prompts[0][:0], vit.num_prefix_tokens, 2)
    yield "tokens after block 2, without prompts", after
    yield "features", (features := vit.forward_head(vit.norm(after)))
    gradients = torch.autograd.grad(features.square().sum(), prompts, materialize_grads=True)
    for i, gradient in enumerate(gradients, start=1):
        yield f"gradient of the prompts of block {i}", gradient


def images() -> tuple[Any, Tensor]:
    """-> (a random ViT of two blocks and width 12, its embedded tokens [2, 6, 12])."""
    with seeded():
        vit = VisionTransformer(16, 8, embed_dim=12, depth=2, num_heads=2, reg_tokens=1, num_classes=0)
    vit = vit.double().eval()
    return vit, run_stages(vit, random(2, 3, 16, 16), stop=1)


EXERCISE = Exercise(
    built(try_vpt, put),
    "Prefix tokens stand first, patches keep their positions, and gradients reach the prompts of each block.",
    (
        (built(try_first, put_last), "prompts stand behind the prefix tokens, not behind the patches"),
        (built(try_first, put_first), "CLS stays first: the head reads token 0"),
        (built(try_first, put_second), "there are `prefix` prefix tokens: CLS and, in some ViTs, registers"),
        (
            built(try_first, overwrite),
            "patches are lost: take `before` tokens away (none in block 1), not as many as you put in",
        ),
        (built(try_first, add), "prompts are tokens of their own; nothing is added to the patches"),
        (built(try_vpt, keep_all), "the prompts of the block before stay: take the `before` tokens away first"),
        (built(try_vpt, drop_patches), "the old prompts stand behind the prefix tokens; you take patches away"),
        (built(try_vpt, drop_prefix), "the old prompts stand behind the prefix tokens; you take CLS away"),
        (built(try_vpt, shallow), "each block has prompts of its own: put them in where `before` is not 0, too"),
        (
            built(try_vpt, detached),
            "no gradient reaches the prompts: use them as they are, not detached or copied",
        ),
    ),
    help="torch.cat along dimension 1 of x[:, :prefix], the prompts for each image, and x[:, prefix + before :].",
)
