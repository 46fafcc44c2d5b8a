"""SCT, salient channel tuning: the channels with the largest activations on the task's images get a linear map.

Idea: the images of a task excite some channels more than others; it is enough to tune these few.
Equation: x_S <- x_S + U x_S + u in each block. S, the salient channels, are the K with the largest score
    I[c] = mean over classes of ||h_c|| over all patches of all images of the class,
where h are activations of the plain, frozen backbone: no gradient, no head and no training is needed to choose.
Shapes: x [B, N, D]; S: K indices, U [K, K], u [K] for each block. K = D / 8 unless given.
Placement: "residual" maps the residual stream after the attention, before the second norm (released default), scored
there; "mlp" maps the MLP's output before it is added, scored on the stream behind the block.
Parameters: L (K^2 + K); ViT-B/16, K = 96: 111,744, the 0.11 M of the paper's abstract.
Start: U ~ N(0, 0.02) cut off at 2, u = 0, as in the authors' code, so not the frozen backbone.
Merging: impossible on the residual stream, where U also acts on what skips all weights; "mlp" merges into fc2.
Source: Zhao et al. 2023, arXiv 2309.08513, and its released code (github.com/showlab/SCT), where K = 96. Its scale is
switched off there, so we have none; its third placement, on q and v, is that of our two_stage with criterion "sct".
`fit` chooses the channels before it trains; trained without it, U acts on the first K channels.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ..backbones.types import ViT
from .core.base import Method, check_size, option, register
from .core.importance import channel_scores, choose
from .core.layers import After, fold_channels, replace_block
from .two_stage import ChannelBlock, ChannelMap


@register("sct")
@dataclass(frozen=True)
class SCT(Method):
    channels: int | None = option(None, "K, channels to tune in each block; none: an eighth of the width", at_least=1)
    placement: str = option("residual", "of the maps: stream after attention, MLP's output", ("residual", "mlp"))

    title = "SCT"
    idea = "tune the channels with the largest activations by a linear map"
    family = "additive"
    source = "Zhao et al. 2023"
    not_on_windows = "it chooses as many channels of one width in each block"
    lr = 5e-3
    identity_at_start = False

    @property
    def not_mergeable(self) -> str:  # type: ignore[override]  # depends on an option
        return "U also acts on the skip path, which no weight stands in" if self.placement == "residual" else ""

    def size(self, vit: ViT) -> int:
        return vit.embed_dim // 8 if self.channels is None else self.channels

    def apply(self, vit: ViT) -> None:
        check_size("channels", self.size(vit), vit.embed_dim)
        for block in self.blocks(vit, "mlp.fc2"):
            channel_map = ChannelMap(torch.arange(self.size(vit)), init="normal")
            if self.placement == "residual":
                replace_block(vit, block, ChannelBlock(block, self.name, channels=channel_map))
            else:
                block.mlp = After(block.mlp, channel_map)

    def begin(self, vit: ViT, before: ViT, batches: Iterable, seed: int = 0) -> tuple[Method, list[nn.Parameter]]:
        """Choose the salient channels of each changed block by the plain backbone's activations."""
        blocks = self.blocks(vit)
        scores = channel_scores(before, batches, self.placement, criterion="sct")[-len(blocks) :]
        for block, indices in zip(blocks, choose(scores, self.size(vit)), strict=True):
            channel_map = block.channels if self.placement == "residual" else block.mlp.after
            channel_map.indices.copy_(indices)
        return self, []

    def count(self, backbone: ViT) -> int:
        K = self.size(backbone)
        return len(self.blocks(backbone)) * (K**2 + K)

    def merge(self, vit: ViT) -> None:
        for block in self.blocks(vit):
            fold_channels(block.mlp.base.fc2, block.mlp.after)
            block.mlp = block.mlp.base
