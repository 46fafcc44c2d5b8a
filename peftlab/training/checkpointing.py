"""Gradient checkpointing: blocks keep their input alone for the backward pass, and are computed a second time there.

Equal numbers for less memory and the forward pass of the blocks once more. Source: Chen et al. 2016, arXiv 1604.06174;
`torch.utils.checkpoint` does it, which also repeats random numbers and autocast.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..backbones.types import ViT
from .precision import explicit_attention


@contextmanager
def checkpointing(vit: ViT, wanted: bool = True) -> Iterator[None]:
    """Within, the blocks of a ViT are checkpointed if that is wanted.

    What methods hang around a block (hooks) is not computed again, only what is in it.
    """
    blocks = list(vit.blocks) if wanted else []
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = _checkpointed(block, block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


def _checkpointed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        trained = x.requires_grad or any(p.requires_grad for p in block.parameters())
        if not (trained and torch.is_grad_enabled()):
            return forward(x, *args, **kwargs)  # a frozen block with frozen ones before it keeps nothing
        # The backward pass comes when `computing` has ended, but has to meet the attention that the forward pass had.
        explicit = not any(getattr(m, "fused_attn", False) for m in block.modules())

        def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
            return nullcontext(), explicit_attention(block) if explicit else nullcontext()

        return checkpoint(forward, x, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return run
