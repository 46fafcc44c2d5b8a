"""timm's SwinTransformer written as a VisionTransformer, and back.

A Swin attends within windows, shifted in every second block, and merges 2 x 2 tokens before each later stage, which
doubles their width. Here all blocks stand in one row and give tokens [B, N, D], N and D those of their stage:

    Swin                                       here
    tokens [B, H, W, D]                        [B, H W, D]
    attention cut into windows by its block    an attention that cuts its tokens itself, `Windows`
    patch merging at the head of a stage       part of the stage's first block, `MergingBlock`

There is no CLS token; the mean over tokens is read. `embed_dim` is the width of the last stage, which the head reads.
Methods that need one width, or one sequence of tokens, say why they cannot be put on it (`Method.not_on_windows`).
Source: Liu et al. 2021, arXiv 2103.14030.
"""

import copy
import math
from types import SimpleNamespace
from typing import Any

import torch
from timm.models.swin_transformer import PatchMerging, SwinTransformer, SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import PeftlabError
from .translation import Translated, move, translated

OF_BLOCK = ("norm1", "drop_path1", "norm2", "mlp", "drop_path2")
OF_ATTENTION = ("qkv", "attn_drop", "proj", "proj_drop", "relative_position_bias_table")
OF_GEOMETRY = ("window_size", "window_area", "shift_size", "input_resolution", "dynamic_mask")


class Windows(WindowAttention):
    """Attention within windows, of all tokens of an image [B, H W, D]: timm's block cuts and joins them.

    Tokens that a method has put before the patches stand in every window, without a relative position; their copies
    are averaged afterwards.
    """

    added: int  # of the current pass
    input_resolution: tuple[int, int]

    def __init__(self, block: Any) -> None:
        nn.Module.__init__(self)  # every part comes from the block
        old = block.attn
        move(old, self, (*OF_ATTENTION, "dim", "num_heads", "scale", "fused_attn", "softmax"))
        move(block, self, OF_GEOMETRY)
        self.register_buffer("relative_position_index", old.relative_position_index, persistent=False)
        self.register_buffer("attn_mask", block.attn_mask, persistent=False)

    def _get_rel_pos_bias(self) -> Tensor:
        return F.pad(super()._get_rel_pos_bias(), (self.added, 0, self.added, 0))

    def forward(self, x: Tensor, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        self.added = x.shape[1] - math.prod(self.input_resolution)
        first, patches = x[:, : self.added], x[:, self.added :].unflatten(1, self.input_resolution)
        means = []

        def attend(windows: Tensor, mask: Tensor | None) -> Tensor:
            copies = first.repeat_interleave(len(windows) // len(x), dim=0)
            mask = None if mask is None else F.pad(mask, (self.added, 0, self.added, 0))
            y = super(Windows, self).forward(torch.cat([copies, windows], dim=1), mask)
            means.append(y[:, : self.added].unflatten(0, (len(x), -1)).mean(1))
            return y[:, self.added :]

        block: Any = SimpleNamespace(
            attn=attend, attn_mask=self.attn_mask, **{k: getattr(self, k) for k in OF_GEOMETRY}
        )
        y = SwinTransformerBlock._attn(block, patches).flatten(1, 2)
        return torch.cat([*means, y], dim=1)


class MergingBlock(Block):
    """A Block that first merges 2 x 2 tokens: [B, H W, D] -> [B, H W / 4, 2 D].

    Of a token that a method has put before the patches, four copies are merged.
    """

    merging: Any
    grid: tuple[int, int]

    def forward(self, x: Tensor, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        added = x.shape[1] - math.prod(self.grid)
        first = self.merging.reduction(self.merging.norm(x[:, :added].repeat(1, 1, 4)))
        patches = self.merging(x[:, added:].unflatten(1, self.grid)).flatten(1, 2)
        return super().forward(torch.cat([first, patches], dim=1))


class SwinViT(Translated):
    """A SwinTransformer as a VisionTransformer."""

    def __init__(self, swin: Any) -> None:
        super().__init__(swin)
        move(swin, self, ("patch_embed", "norm", "num_classes", "num_features", "head_hidden_size"))
        self.embed_dim, self.global_pool = swin.num_features, "avg"
        self.cls_token = self.reg_token = self.pos_embed = self.attn_pool = None
        self.num_prefix_tokens = self.num_reg_tokens = 0
        self.has_class_token = self.pool_include_prefix = False
        vars(self)["dynamic_img_size"] = False
        self.no_embed_class = True
        self.pos_drop, self.norm_pre, self.fc_norm = (nn.Identity() for _ in range(3))
        self.head, self.head_drop = swin.head.fc, swin.head.drop
        self.blocks = nn.Sequential(*(from_block(stage, block) for stage in swin.layers for block in stage.blocks))

    def set_input_size(self, img_size: Any = None, patch_size: Any = None) -> None:
        """As timm does it: windows and their tables of relative positions grow with the image."""
        swin, original = self.timm(), dict(vars(self))
        swin.set_input_size(img_size, patch_size)
        kept = {name: value for name, value in original.items() if name.startswith("peftlab_")}
        SwinViT.__init__(self, swin)
        vars(self).update(kept)
        self.requires_grad_(False).train(original["training"])

    def timm(self) -> SwinTransformer:
        """The timm SwinTransformer that this is."""
        swin: Any = copy.deepcopy(self.original[0])
        move(self, swin, ("patch_embed", "norm"))
        swin.reset_classifier(self.num_classes)
        swin.head.fc = self.head
        blocks = iter(self.blocks)
        for stage in swin.layers:
            for new in stage.blocks:
                block = next(blocks)
                move(block, new, OF_BLOCK)
                move(block.attn, new.attn, OF_ATTENTION)
                if isinstance(block, MergingBlock):
                    stage.downsample = block.merging
        return swin.requires_grad_(False).train(self.training)


def refuse_windows(vit: Any, reason: str) -> None:
    """Raise PeftlabError for a Swin, with a reason, where something needs one width or one grid in all blocks."""
    if isinstance(vit, SwinViT):
        raise PeftlabError(f"a Swin {reason}; use a plain ViT")


def final_grid(vit: Any) -> tuple[int, int]:
    """Rows and columns of the last patch tokens of a ViT; of a Swin those of its last stage."""
    grid = vit.original[0].layers[-1].output_resolution if isinstance(vit, SwinViT) else vit.patch_embed.grid_size
    return tuple(grid)


def from_block(stage: Any, block: Any) -> Block:
    """A block of a stage as timm's Block; with the merging, if it is the first of a stage that begins with one."""
    merges = block is stage.blocks[0] and isinstance(stage.downsample, PatchMerging)
    with torch.device("meta"):  # only the forward pass is wanted: every part is replaced
        new: Any = (MergingBlock if merges else Block)(block.dim, block.attn.num_heads)
    move(block, new, OF_BLOCK)
    new.attn = Windows(block)
    if merges:
        new.merging, new.grid = stage.downsample, tuple(stage.input_resolution)
    return new


def from_swin(swin: SwinTransformer) -> SwinViT:
    """A SwinTransformer as a VisionTransformer that computes the same. Raises PeftlabError where it cannot be."""
    if swin.dynamic_img_size or swin.global_pool != "avg":
        raise PeftlabError(
            "peftlab knows Swins of one input size that read the mean over tokens; "
            f"this one has dynamic_img_size={swin.dynamic_img_size}, global_pool={swin.global_pool!r}"
        )
    return translated(swin, SwinViT)
