"""The two-stage paradigm: align the backbone by its LayerNorms, then tune the channels that the loss depends on.

Idea: first narrow the shift between the data of pre-training and of the task, then change only what matters to it.
Equation: stage 1 trains gamma and beta of every LayerNorm, and the head. Then, with h the residual stream after
attention and g the gradient of an image's loss, I[c] = mean over images of |sum over tokens of h_c g_c| in each
block (importance.py), and S = the K channels with the largest I. Stage 2: x_S <- x_S + U x_S + u, and the head again.
Shapes: x [B, N, D]; S: K indices, U [K, K], u [K] for each block. K = D / 8 unless given.
Parameters: norms (2L + 1) 2D and L (K^2 + K); ViT-B/16, K = 96: 38,400 + 111,744 = 150,144.
Start: U = 0, u = 0, so stage 2 starts exactly at the model of stage 1, and that one at the frozen backbone.
Merging: impossible on the residual stream, where U also acts on what skips all weights; "mlp" and "qv" merge.
Source: Zhao et al. 2023, arXiv 2303.07910, of which we know the abstract alone: two stages, LayerNorm, Taylor scores,
few channels. A reconstruction: the score's formula (Molchanov et al. 2017), counting all tokens, placement, K, U's
shape, U = 0 and a head that goes on are ours or from the first author's later SCT (code read), here "sct". `fit` runs
both stages; trained without it, norms and U of the first K channels are trained together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..backbones.types import ViT
from ..common.errors import PeftlabError
from .core.base import Method, check_size, create_method, option, register, unfreeze
from .core.importance import CRITERIA, PLACEMENTS, channel_scores, choose
from .core.layers import After, ResidualBlock, fold_channels, replace_block
from .norm import norm_layers


class ChannelMap(nn.Module):
    """x [.., C] with U x_S + u added to the chosen channels S; the others pass bit for bit."""

    indices: Tensor

    def __init__(self, indices: Int64[Tensor, " K"], init: str) -> None:
        super().__init__()
        self.register_buffer("indices", indices)
        U, u = torch.zeros(len(indices), len(indices)), torch.zeros(len(indices))
        self.U, self.u = nn.Parameter(nn.init.trunc_normal_(U, std=0.02) if init == "normal" else U), nn.Parameter(u)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        change = nn.functional.linear(x[..., self.indices], self.U, self.u)
        # A clone lies in memory as x does, so that sums over it round alike; what index_add gives may not.
        return x.clone().index_add_(-1, self.indices, change.to(x.dtype))


class ChannelBlock(ResidualBlock):
    """A map on the residual stream between attention and MLP."""

    channels: nn.Module

    def after_attention(self, x: Tensor, branch: Tensor) -> Tensor:
        return self.channels(x + branch)


@register("two_stage")
@dataclass(frozen=True)
class TwoStage(Method):
    channels: int | None = option(None, "K, channels to tune in each block; none: an eighth of the width", at_least=1)
    placement: str = option("residual", "of the maps: stream after attention, MLP's output, q and v", PLACEMENTS)
    criterion: str = option("taylor", "how channels are scored; sct is SCT's rule, l2 ours after it", CRITERIA)
    order: str = option("top", "tune the top or, as a control, the bottom of the scores", ("top", "bottom"))
    balanced: bool = option(False, "average scores over classes, not over images; l2 and sct always do")
    prefix: bool = option(True, "count prefix tokens in the scores, not patches alone; sct never does")
    budget: str = option("layer", "K in each block, or shared out over all by normalised scores", ("layer", "global"))
    init: str = option("zero", "U at the start; normal is SCT's", ("zero", "normal"))
    align: bool = option(True, "train LayerNorms in stage 1; without, the head alone")
    sizes: tuple[int, ...] = option((), "channels of each place, as a global budget shared them out", at_least=0)

    title = "Two-stage"
    idea = "align by LayerNorm, then tune the channels with the highest Taylor importance"
    family = "selective"
    source = "Zhao et al. 2023 (reconstructed)"
    not_on_windows = "it chooses as many channels of one width in each block"
    lr = 5e-3

    @property
    def not_mergeable(self) -> str:  # type: ignore[override]  # depends on an option
        return "U also acts on the skip path, which no weight stands in" if self.placement == "residual" else ""

    @property
    def identity_at_start(self) -> bool:  # type: ignore[override]
        return self.init == "zero"

    def first(self) -> Method:
        """The method of stage 1; without alignment only the head is trained, which the scores need."""
        return create_method("norm", last_blocks=self.last_blocks) if self.align else create_method("linear")

    def counts(self, vit: ViT) -> tuple[int, ...]:
        """K of each place: one in each changed block, or two (q and v). Raises PeftlabError for sizes of others."""
        K = vit.embed_dim // 8 if self.channels is None else self.channels
        places = len(self.blocks(vit)) * (2 if self.placement == "qv" else 1)
        if self.sizes and (len(self.sizes) != places or self.budget != "global"):
            raise PeftlabError(f"sizes {self.sizes} do not fit; they are for budget='global', here of {places} places")
        return self.sizes or (K,) * places

    def norms(self, vit: ViT) -> list[Any]:  # those that stage 1 trains
        return norm_layers(self.trunk(vit), {vit.embed_dim}) if self.align else []

    def apply(self, vit: ViT) -> None:
        check_size("channels", max(self.counts(vit)), vit.embed_dim)
        for norm in self.norms(vit):
            unfreeze(norm, "weight", "bias")
        self.install(vit, [torch.arange(K) for K in self.counts(vit)])

    def install(self, vit: ViT, chosen: Sequence[Tensor]) -> None:
        """Put fresh maps on the chosen channels, a list of index tensors."""
        maps = iter([ChannelMap(indices, self.init).to(next(vit.parameters()).device) for indices in chosen])
        for block in self.blocks(vit, "attn.qkv", "mlp"):
            if isinstance(block, ChannelBlock):
                block.channels = next(maps)
            elif self.placement == "residual":
                replace_block(vit, block, ChannelBlock(block, self.name, channels=next(maps)))
            elif self.placement == "mlp":
                block.mlp = After(getattr(block.mlp, "base", block.mlp), next(maps))
            else:
                qkv, D = getattr(block.attn.qkv, "base", block.attn.qkv), vit.embed_dim
                both = [next(maps), next(maps)]
                both[1].indices += 2 * D  # v stands behind q and k
                block.attn.qkv = After(qkv, nn.Sequential(*both))

    def begin(self, vit: ViT, before: ViT, batches: Iterable, seed: int = 0) -> tuple[Method, list[nn.Parameter]]:
        """Take the tensors of stage 1 over, choose channels on the batches; a global budget sets `sizes`."""
        scores = channel_scores(before, batches, self.placement, self.criterion, self.balanced, self.prefix, seed)
        counts = self.counts(vit)
        chosen = choose(scores[-len(counts) :], sum(counts) // len(counts), self.order, self.budget)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.install(vit, chosen)
            for name, p in before.named_parameters():
                if p.requires_grad:
                    vit.get_parameter(name).copy_(p)
        sizes = tuple(len(indices) for indices in chosen) if self.budget == "global" else self.sizes
        return replace(self, sizes=sizes), [p for norm in self.norms(vit) for p in norm.parameters()]

    def count(self, backbone: ViT) -> int:
        norms = self.first().count(backbone) if self.align else 0
        return norms + sum(K**2 + K for K in self.counts(backbone))

    def merge(self, vit: ViT) -> None:
        for block in self.blocks(vit):
            if self.placement == "mlp":
                linear, maps, block.mlp = block.mlp.base.fc2, [block.mlp.after], block.mlp.base
            else:
                linear, maps, block.attn.qkv = block.attn.qkv.base, block.attn.qkv.after, block.attn.qkv.base
            for m in maps:
                fold_channels(linear, m)
