"""Context-PEFT: every domain of tokens has adapter parameters of its own.

Idea: tokens of different kinds need different changes of the same frozen weights, so each token carries a context
number c, and only the c-th group of parameters acts on it; attention then mixes tokens as ever.
Equation: with s_c in {0, 1} the token's context, sum_c s_c = 1,
  lora    y = W x + b + sum_c s_c B_c A_c x    no scale; in attention q, k, v, o; in the FFN fc1 and fc2
  bitfit  y = W x + b + sum_c s_c b'_c         a second bias; the same layers
  ia3     y = (sum_c s_c l_c) * (W x + b)      in attention k and v; in the FFN it is the input x of fc2 that is scaled
Targets: attention, the FFN, or both, the three columns of the paper's table of perplexities.
Shapes: A [C rank, d_in], B [d_out, C rank]; b' and l [C, width]. The products of all contexts are one thin product
of rank C rank, whose inner axis is masked by each token's context: no context's change is ever formed in full.
Contexts: 'domain': prefix tokens (CLS, gist, prompts, registers) and patches; 'quadrant': prefix tokens and the four
quarters of the image; 'parity': a checkerboard of patches, a control with the parameters of 'domain' and nothing to
gain; 'one': all alike, which is ordinary LoRA, BitFit on linear layers, (IA)^3. A ViT without prefix tokens has no
context for them. In captioning (`peftlab.captioning`) 'domain' means image and text.
Parameters: for each context of a ViT, attention + FFN: lora L rank (8D + 2 (D + H)), bitfit L (4D + (D + H)), ia3
L (2D + H); ViT-B/16 with two contexts: lora (147,456 + 184,320) rank, bitfit 73,728 + 92,160, ia3 36,864 + 73,728.
What the last block holds for tokens that nobody reads any more stays at its start.
Start: A Kaiming-uniform, B = 0, b' = 0, l = 1 (init not stated in the paper, ours).
Merging: with one context only; otherwise the weights differ from token to token.
Source: Hadji-Kyriacou & Arandjelovic 2023, arXiv 2312.08900 (a language model with image and text tokens). Contexts
within a ViT are our transfer, not the paper's.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.types import ViT
from .core.base import Method, check_size, check_tokens, option, register
from .core.contexts import KINDS, TARGETS, WHOLE, Site, count_one, insert, merge_one, targeted
from .core.layers import LINEARS, QKV

CONTEXTS = ("domain", "one", "parity", "quadrant")


class PatchContexts(nn.Module):
    """The context of each token of a ViT: x [B, N, ..] -> 0/1 mask [N, C]. Prefix tokens, if any, have number 0."""

    patches: Tensor

    def __init__(self, vit: ViT, kind: str) -> None:
        super().__init__()
        h, w = vit.patch_embed.grid_size
        row, column = torch.meshgrid(torch.arange(h, device="cpu"), torch.arange(w, device="cpu"), indexing="ij")
        first = int(vit.num_prefix_tokens > 0)  # of the numbers that patches have for themselves
        number = {
            "one": torch.zeros_like(row),
            "domain": torch.full_like(row, first),
            "parity": (row + column) % 2,
            "quadrant": first + 2 * (2 * row >= h) + (2 * column >= w),
        }[kind]
        self.register_buffer("patches", number.flatten(), persistent=False)
        self.count, self.tokens = int(number.max()) + 1, vit.num_prefix_tokens + number.numel()

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "tokens contexts"]:
        check_tokens(x.shape[1], self.tokens)
        numbers = F.pad(self.patches, (self.tokens - len(self.patches), 0))
        return F.one_hot(numbers, self.count).to(x.dtype)


@register("context_peft")
@dataclass(frozen=True)
class ContextPEFT(Method):
    kind: str = option("lora", "of the adapters", KINDS)
    rank: int = option(8, "of each context's product, where the kind is lora", at_least=1)
    contexts: str = option("domain", "which tokens share adapters", CONTEXTS)
    targets: str = option("both", "the layers that are changed, of attention, of the FFN, or of both", TARGETS)

    title = "Context-PEFT"
    idea = "give prefix tokens and patches adapters of their own"
    family = "reparametrised"
    source = "Hadji-Kyriacou & Arandjelovic 2023"
    not_on_windows = "it knows tokens by their place in one sequence"
    lr = 5e-3

    @property
    def not_mergeable(self) -> str:  # type: ignore[override]  # a property, since it depends on an option
        several = "its weights differ from token to token; only contexts='one' is one matrix"
        return "" if self.contexts == "one" else several

    def sites(self, vit: ViT) -> list[Site]:
        """(block, {path: (targets, role)}) for every changed block."""
        roles = dict(zip(LINEARS.values(), ((QKV, "qkv"), (WHOLE, "o"), (WHOLE, "up"), (WHOLE, "down")), strict=True))
        layers = targeted(roles, self.targets)
        return [(block, layers) for block in self.blocks(vit, *layers)]

    def apply(self, vit: ViT) -> None:
        check_size("rank", self.rank, vit.embed_dim)
        insert(self.kind, self.rank, self.sites(vit), PatchContexts(vit, self.contexts))

    def count(self, backbone: ViT) -> int:
        return PatchContexts(backbone, self.contexts).count * count_one(self.kind, self.rank, self.sites(backbone))

    def merge(self, vit: ViT) -> None:
        merge_one(self.sites(vit))
