"""VPT: learned tokens, prompts, are put among the image's tokens.

Idea: change what the frozen network sees instead of what it computes.
Equation: [prefix; patches] -> [prefix; P; patches] before the first block ("shallow"); "deep" does so before every
block with prompts of its own, which take the place of those that come out of the block before.
Shapes: P [p, D]; a block then reads N + p tokens. Prompts count as prefix tokens and are left out of mean pooling.
Parameters: shallow p D, deep L p D; ViT-B/16, p = 5, deep: 46,080.
Start: uniform in +-sqrt(6 / (3 P^2 + D)) for patches of P x P pixels, as in the authors' code: not the frozen
backbone, for prompts are attended to at once: features of a trained backbone move by less than half of their norm
(tested).
Merging: impossible, the tokens belong to the input.
Source: Jia et al. 2022, arXiv 2203.12119.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import PeftlabError
from .base import Method, register


class Prompts(nn.Module):
    """Tokens [p, D] that enter a sequence [B, N, D] at a position, over those already there or between them."""

    def __init__(self, number, width, bound, position, replace):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(number, width).uniform_(-bound, bound))
        self.position, self.replace = position, replace

    def forward(self, x):
        rest = self.position + (len(self.tokens) if self.replace else 0)
        tokens = self.tokens.expand(len(x), -1, -1)
        return torch.cat([x[:, : self.position], tokens, x[:, rest:]], dim=1)

    def enter(self, block, args):
        """Forward pre-hook of a block: the block itself, and whoever looks into it, stays as it was."""
        return (self(args[0]), *args[1:])


@register("vpt")
@dataclass(frozen=True)
class VPT(Method):
    prompts: int = 5
    deep: bool = True

    title = "VPT"
    idea = "put learned tokens among the image's tokens"
    family = "prompt"
    source = "Jia et al. 2022"
    lr = 1e-2
    identity_at_start = False
    not_mergeable = "its prompts are tokens, and weights cannot hold tokens"

    def apply(self, vit):
        if not (isinstance(self.prompts, int) and self.prompts >= 1):
            raise PeftlabError(f"prompts is {self.prompts}, but must be a whole number of at least 1")
        bound = math.sqrt(6 / (3 * math.prod(vit.patch_embed.patch_size) + vit.embed_dim))
        blocks = self.blocks(vit)
        for i, block in enumerate(blocks if self.deep else blocks[:1]):
            block.prompts = Prompts(self.prompts, vit.embed_dim, bound, vit.num_prefix_tokens, replace=i > 0)
            block.register_forward_pre_hook(block.prompts.enter)
        vit.num_prefix_tokens += self.prompts

    def count(self, backbone):
        places = len(self.blocks(backbone)) if self.deep else 1
        return places * self.prompts * backbone.embed_dim
