"""GIST: a learned token gathers what a base method learns, and the two exchange knowledge while training.

Idea: the CLS token speaks for what the frozen backbone knows, a new token, the gist, for what the base method learns
on the task; both classify with the same head, and each is drawn towards the other's answer.
Equation: z = [cls; dropout(g); patches], any base method inside the blocks, h = LN(blocks(z)), s_c = head(h_cls),
s_g = head(h_gist), p = softmax(s / T), and
    L = CE(s_c, y) + 1/2 CE(s_g, y) + 3/4 KL(p_c || p_g) + 3/4 KL(p_g || p_c),  T = 3.
Shapes: g [1, 1, D], at index 1, without a position embedding; N + 1 tokens in every block; s [B, K].
KL is summed over classes and averaged over the batch; no factor T^2, and gradients flow into both sides.
Parameters: the base method's + D; ViT-B/16: 768 for the token, 83,760 around the released adapter, "parallel".
Start: g ~ U(-0.5, 0.5). Inference: s_c alone predicts, but the token stays in the sequence.
Merging: impossible, the token belongs to the input.
Source: Ruan et al. 2023, arXiv 2312.07255, and its released code (github.com/JCruan519/GIST), where the weights and T
are constants; here they are options. The base method is any registered method (adaptformer where none is named, our
choice; the script that was released has parallel); its options are given beside ours.
Where a backbone has no CLS token its pooled tokens stand in for it, the gist apart (our choice). In a Swin the token
stands in every window, its copies are averaged after attention, and four of them go through each merging of patches,
as in the authors' later code for it (`backbones/swin.py`).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.types import Labels, Logits, Tokens, ViT
from .core.base import Method, create_method, option, register
from .core.layers import width


class GistToken(nn.Module):
    """The token, which enters a sequence before one block and leaves it after another. `output` [B, D]: what left."""

    def __init__(self, width: int, position: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, width).uniform_(-0.5, 0.5))
        self.dropout, self.position = dropout, position
        self.output: Tensor | None = None

    def enter(self, block: Any, args: tuple) -> tuple:
        """Forward pre-hook: [B, N, D] -> [B, N + 1, D]."""
        x, *rest = args
        token = F.dropout(self.token.expand(len(x), -1, -1), self.dropout, self.training)  # a mask for each image
        return torch.cat([x[:, : self.position], token, x[:, self.position :]], dim=1), *rest

    def leave(self, block: Any, args: tuple, x: Tokens) -> Tensor:
        """Forward hook: [B, N + 1, D] -> [B, N, D]."""
        self.output = x[:, self.position]
        return torch.cat([x[:, : self.position], x[:, self.position + 1 :]], dim=1)

    def __getstate__(self) -> dict[str, Any]:  # a copy of the model takes no activations with it
        return self.__dict__ | {"output": None}


@contextmanager
def one_more_prefix_token(vit: ViT) -> Iterator[None]:
    """Within, the gist is one of the prefix tokens, as it is for the base method: prompts stand behind it."""
    vit.num_prefix_tokens += 1
    try:
        yield
    finally:
        vit.num_prefix_tokens -= 1


def kl(
    logits: Float[Tensor, "batch classes"], towards: Float[Tensor, "batch classes"], temperature: float
) -> Float[Tensor, ""]:
    """KL(softmax(logits / T) || softmax(towards / T)), summed over classes, mean over the batch, in nats.

    >>> even, sure = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    >>> kl(even, sure, temperature=1), kl(sure, even, temperature=1)
    (tensor(0.5108), tensor(0.3681))
    """
    log_p, log_q = ((s / temperature).log_softmax(-1) for s in (logits, towards))
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


@register("gist")
@dataclass(frozen=True)
class Gist(Method):
    # The token enters before the first block in any case; last_blocks is an option of the base method.
    last_blocks: ClassVar[None] = None  # type: ignore[misc]
    base_method: Method = option(  # type: ignore[misc]  # an option here, and none elsewhere
        lambda: create_method("adaptformer"), "the method to put the token around; its options are given beside ours"
    )
    ce_gist: float = option(0.5, "weight of the gist's cross-entropy", at_least=0)
    kl_cls_gist: float = option(0.75, "weight of KL(CLS || gist)", at_least=0)
    kl_gist_cls: float = option(0.75, "weight of KL(gist || CLS)", at_least=0)
    temperature: float = option(3.0, "T, which softens both answers before they are compared", above=0)
    dropout: float = option(0.1, "of the token's entries, in training", at_least=0, below=1)

    title = "GIST"
    idea = "add a token that gathers what a base method learns, and let both exchange it"
    family = "prompt"
    source = "Ruan et al. 2023"
    identity_at_start = False
    not_mergeable = "its token belongs to the sequence, and weights cannot hold tokens"

    @property
    def lr(self) -> float:  # type: ignore[override]
        return self.base_method.lr  # so that base method and GIST are trained alike

    def options(self) -> dict[str, Any]:
        own = super().options()
        return own | {"base_method": self.base_method.name} | self.base_method.options()

    def apply(self, vit: ViT) -> None:
        first = width(vit.blocks[0])
        with one_more_prefix_token(vit):
            self.base_method.apply(vit)
        gist = vit.blocks[0].gist = GistToken(first, int(vit.has_class_token), self.dropout)
        vit.blocks[0].register_forward_pre_hook(gist.enter, prepend=True)
        vit.blocks[-1].register_forward_hook(gist.leave)

    def begin(self, vit: ViT, before: ViT, batches: Iterable, seed: int = 0) -> tuple[Method, list[nn.Parameter]]:
        base, frozen = self.base_method.begin(vit, before, batches, seed)
        return replace(self, base_method=base), frozen

    def count(self, backbone: ViT) -> int:
        with one_more_prefix_token(backbone):
            return self.base_method.count(backbone) + width(backbone.blocks[0])

    def gist_logits(self, vit: ViT) -> Logits:
        """s_g [B, K] of the batch that last went through the blocks."""
        return vit.head(vit.head_drop(vit.fc_norm(vit.norm(vit.blocks[0].gist.output))))

    def loss(self, vit: ViT, logits: Logits, labels: Labels, label_smoothing: float = 0.0) -> dict[str, Any]:
        cls, gist = logits.float(), self.gist_logits(vit).float()
        terms = {
            "ce_cls": F.cross_entropy(cls, labels, label_smoothing=label_smoothing),
            "ce_gist": F.cross_entropy(gist, labels, label_smoothing=label_smoothing),
            "kl_cls_gist": kl(cls, gist, self.temperature),
            "kl_gist_cls": kl(gist, cls, self.temperature),
        }
        weights = {"ce_gist": self.ce_gist, "kl_cls_gist": self.kl_cls_gist, "kl_gist_cls": self.kl_gist_cls}
        total = terms["ce_cls"] + sum(weight * terms[name] for name, weight in weights.items())
        agreement = (cls.argmax(1) == gist.argmax(1)).float().mean()
        gist_accuracy = (gist.argmax(1) == labels).float().mean()
        return {"loss": total} | terms | {"gist_accuracy": gist_accuracy, "agreement": agreement}
