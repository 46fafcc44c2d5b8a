"""VPT: learned tokens, prompts, are put among the image's tokens.

Idea: change what the frozen network sees instead of what it computes.
Equation: [prefix; patches] -> [prefix; P; patches]. Shallow prompts enter before the first block and leave after the
last one; deep ones belong to one block each: they enter before it and leave after it, to make room for the next.
Shapes: P [p, D]; a block reads N + p tokens. Outside the blocks there are N as ever, so pooling never sees a prompt.
Parameters: shallow p D, deep L p D; ViT-B/16, p = 5, deep: 46,080.
Start: uniform in +-sqrt(6 / (3 P^2 + D)) for patches of P x P pixels, as in the authors' code: not the frozen
backbone, for prompts are attended to at once. Features of the embedded backbone move by less than half of their norm
(tested), those of others may move farther.
Merging: impossible, the tokens belong to the input.
Source: Jia et al. 2022, arXiv 2203.12119.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.types import Tokens, ViT
from .core.base import Method, option, register


class Prompts(nn.Module):
    """Tokens [p, D] that stand in a sequence [B, N, D] from a position on. The methods are hooks of the blocks."""

    def __init__(self, number: int, width: int, bound: float, position: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(number, width).uniform_(-bound, bound))
        self.position = position

    def enter(self, block: Any, args: tuple) -> tuple:
        """Forward pre-hook: [B, N, D] -> [B, N + p, D]. The block, and whoever looks into it, stays as it was."""
        x, *rest = args
        tokens = self.tokens.expand(len(x), -1, -1)
        return torch.cat([x[:, : self.position], tokens, x[:, self.position :]], dim=1), *rest

    def leave(self, block: Any, args: tuple, x: Tokens) -> Tensor:
        """Forward hook: [B, N + p, D] -> [B, N, D]."""
        return torch.cat([x[:, : self.position], x[:, self.position + len(self.tokens) :]], dim=1)


@register("vpt")
@dataclass(frozen=True)
class VPT(Method):
    prompts: int = option(5, "p, learned tokens in a block", at_least=1)
    deep: bool = option(True, "prompts of its own for each block; else one set from first to last")

    title = "VPT"
    idea = "put learned tokens among the image's tokens"
    family = "prompt"
    source = "Jia et al. 2022"
    not_on_windows = "its prompts would need the width of each stage, and a way through the merging of patches"
    lr = 1e-2
    identity_at_start = False
    not_mergeable = "its prompts are tokens, and weights cannot hold tokens"

    def apply(self, vit: ViT) -> None:
        bound = math.sqrt(6 / (3 * math.prod(vit.patch_embed.patch_size) + vit.embed_dim))
        blocks = self.blocks(vit)
        for first, last in zip(blocks, blocks, strict=True) if self.deep else [(blocks[0], blocks[-1])]:
            first.prompts = Prompts(self.prompts, vit.embed_dim, bound, vit.num_prefix_tokens)
            first.register_forward_pre_hook(first.prompts.enter)
            last.register_forward_hook(first.prompts.leave)

    def count(self, backbone: ViT) -> int:
        places = len(self.blocks(backbone)) if self.deep else 1
        return places * self.prompts * backbone.embed_dim
