"""timm's Eva class (DINOv3, Perception Encoder, EVA-02, RoPE ViTs) written as a VisionTransformer, and back.

Eva computes what a ViT computes, with rotary positions; most of the difference lies in how its layers are written:

    Eva                                     here
    rope, given to every block              a step behind q_norm and k_norm of each attention, `Rotary`
    q_proj, k_proj, v_proj                  qkv, their rows below one another
    q_bias and v_bias, none for the keys    a qkv whose bias is 0 in the rows of the keys, `KeysWithoutBias`
    fc1_g, fc1_x of a SwiGLU                fc1, their rows below one another
    gamma_1, gamma_2                        ls1, ls2

So methods, stages, attention maps and pictures meet the modules that they know. `timm` writes a model, as merging
leaves it, the other way round. Tensors are shared; only those that are put together are copied.
Rotary positions are never jittered in training, as DINOv3's pre-training does: the backbone is frozen (our choice).
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import GluMlp, LayerScale, SwiGLU, apply_rot_embed_cat
from timm.models.eva import Eva, EvaBlockPostNorm
from timm.models.vision_transformer import Attention, Block, ResPostBlock
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import NotMergeable, PeftlabError
from .translation import Translated, frozen, linear, move, translated
from .types import ViT

# What both classes have under one name.
OF_MODEL = ("patch_embed", "cls_token", "reg_token", "pos_embed", "pos_drop", "norm_pre", "norm", "attn_pool")
OF_HEAD = ("fc_norm", "head_drop", "head", "num_classes", "global_pool")
OF_BLOCK = ("norm1", "drop_path1", "norm2", "drop_path2")
OF_ATTENTION = ("attn_drop", "norm", "gate", "proj", "proj_drop")
OF_MLP = ("act", "drop1", "norm", "fc2", "drop2")
PLAIN = ("num_features", "head_hidden_size", "embed_dim", "num_prefix_tokens", "no_embed_class", "dynamic_img_size")


class Positions(nn.Module):
    """The rotary embedding of the grid of patches, [patches, 2 d]; [L, heads, patches, 2 d] where it is learned."""

    def __init__(self, rope: Any, grid: tuple[int, int]) -> None:
        super().__init__()
        self.rope, self.grid = rope, grid
        rope.aug_active = False

    def forward(self) -> Float[Tensor, "*layers patches sines_and_cosines"]:
        fixed = getattr(self.rope, "feat_shape", None) is not None
        return self.rope.get_embed(None if fixed else list(self.grid))

    def resize(self, grid: tuple[int, int]) -> None:
        self.grid = grid
        if hasattr(self.rope, "update_feat_shape"):
            self.rope.update_feat_shape(grid)


class Rotary(nn.Module):
    """Queries or keys [B, heads, N, d], normalised by `base`, turned by their place; tokens before patches are not.

    The patches are the last tokens, so whatever a method puts before them is a prefix token, too.
    """

    def __init__(self, base: nn.Module, positions: Positions, layer: int, in_halves: bool) -> None:
        super().__init__()
        self.base, self.layer, self.in_halves = base, layer, in_halves
        self.shared = (positions,)  # in a tuple: registered once, in the model

    def forward(self, x: Float[Tensor, "batch heads tokens channels"]) -> Float[Tensor, "batch heads tokens channels"]:
        table = self.shared[0]()
        table = table[self.layer] if table.ndim == 4 else table
        y, before = self.base(x), x.shape[2] - table.shape[-2]
        turned = apply_rot_embed_cat(y[:, :, before:], table, half=self.in_halves)
        return torch.cat([y[:, :, :before], turned], dim=2).type_as(x)


class KeysWithoutBias(nn.Linear):
    """A fused qkv whose keys have no bias: these entries of `bias` do nothing and get no gradient, but are counted."""

    kept: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], device="meta")
        self.weight, self.bias = frozen(weight), frozen(bias)
        keys = len(weight) // 3
        kept = torch.cat([bias.new_ones(keys), bias.new_zeros(keys), bias.new_ones(keys)])
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch three_widths"]:
        return F.linear(x, self.weight, self.bias * self.kept)


class RotaryViT(Translated):
    """An Eva as a VisionTransformer. positions: of its patches, or None."""

    def __init__(self, eva: Eva) -> None:
        super().__init__(eva)
        move(eva, self, (*OF_MODEL, *OF_HEAD, *PLAIN))
        self.has_class_token = eva.cls_token is not None
        self.num_reg_tokens = 0 if eva.reg_token is None else eva.reg_token.shape[1]
        self.pool_include_prefix = eva.attn_pool is not None
        rope = copy.deepcopy(eva.rope)
        self.positions = None if rope is None else Positions(rope, eva.patch_embed.grid_size)
        self.blocks = nn.Sequential(*(from_block(block, self.positions, i) for i, block in enumerate(eva.blocks)))

    def set_input_size(self, *args: Any, **kwargs: Any) -> None:
        super().set_input_size(*args, **kwargs)
        if self.positions is not None:
            self.positions.resize(self.patch_embed.grid_size)

    def timm(self) -> Eva:
        """The timm Eva that this is. Raises NotMergeable where its keys have got a bias, which it has no place for."""
        eva: Any = copy.deepcopy(self.original[0])
        move(self, eva, (*OF_MODEL, *OF_HEAD))
        if self.positions is not None:
            augmented, eva.rope = eva.rope.aug_active, copy.deepcopy(self.positions.rope)
            eva.rope.aug_active = augmented
        for block, new in zip(self.blocks, eva.blocks, strict=True):
            to_block(block, new)
        return eva.requires_grad_(False).train(self.training)


def from_eva(eva: Eva) -> RotaryViT:
    """An Eva as a VisionTransformer that computes the same. Raises PeftlabError for what it cannot be written as."""
    attn = eva.blocks[0].attn
    reasons = {
        "drops patches in training": eva.patch_drop is not None,
        "shares keys among heads (grouped queries)": getattr(attn, "num_kv_groups", 1) > 1,
        "drops positions": eva.pos_embed is None and eva.pos_drop.p > 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise PeftlabError(
                f"this Eva {reason}, which peftlab cannot follow; a plain vit_*_dinov3 or eva02_* works"
            )
    return translated(eva, RotaryViT)


def from_block(block: Any, positions: Positions | None, layer: int) -> nn.Module:
    """A block of an Eva as timm's Block, or ResPostBlock where norms come after."""
    old, width = block.attn, block.norm1.weight.numel()
    with torch.device("meta"):  # only the forward pass is wanted: every part is replaced
        kind = ResPostBlock if isinstance(block, EvaBlockPostNorm) else Block
        new: Any = kind(width, old.num_heads)
        attn: Any = Attention(width, old.num_heads, attn_head_dim=old.head_dim)
    move(block, new, OF_BLOCK)
    move(old, attn, OF_ATTENTION)
    attn.qkv = from_qkv(old)
    attn.fused_attn = old.fused_attn
    half = getattr(old, "rotate_half", False)
    attn.q_norm, attn.k_norm = (
        norm if positions is None else Rotary(norm, positions, layer, half) for norm in (old.q_norm, old.k_norm)
    )
    new.attn, new.mlp = attn, from_mlp(block.mlp)
    for name, gamma in (("ls1", "gamma_1"), ("ls2", "gamma_2")):
        if getattr(block, gamma, None) is not None:
            setattr(new, name, LayerScale(width, device="meta"))
            getattr(new, name).gamma = getattr(block, gamma)
    return new


def from_qkv(attn: Any) -> nn.Linear:
    """The fused qkv of an Eva's attention, [D] -> [3 D]."""
    if attn.qkv is not None and getattr(attn, "q_bias", None) is None:
        return attn.qkv
    if attn.qkv is not None:
        return KeysWithoutBias(attn.qkv.weight, torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]))
    parts = [attn.q_proj, attn.k_proj, attn.v_proj]
    weight = torch.cat([part.weight for part in parts])
    if attn.k_proj.bias is None and attn.q_proj.bias is not None:
        bias = torch.cat([attn.q_proj.bias, torch.zeros_like(attn.q_proj.bias), attn.v_proj.bias])
        return KeysWithoutBias(weight, bias)
    return linear(weight, None if attn.q_proj.bias is None else torch.cat([part.bias for part in parts]))


def from_mlp(mlp: Any) -> nn.Module:
    """A SwiGLU of two first layers as a GluMlp of one; any other MLP as it is."""
    if not isinstance(mlp, SwiGLU):
        return mlp
    weight, bias = (torch.cat([getattr(mlp.fc1_g, name), getattr(mlp.fc1_x, name)]) for name in ("weight", "bias"))
    new = GluMlp(weight.shape[1], len(weight), gate_last=False, device="meta")
    move(mlp, new, OF_MLP)
    new.fc1 = linear(weight, bias)
    return new


def to_block(block: Any, new: Any) -> None:
    """Write a block into that of an Eva."""
    move(block, new, OF_BLOCK)
    move(block.attn, new.attn, OF_ATTENTION)
    norms = (block.attn.q_norm, block.attn.k_norm)
    new.attn.q_norm, new.attn.k_norm = (norm.base if isinstance(norm, Rotary) else norm for norm in norms)
    to_qkv(block.attn.qkv, new.attn)
    to_mlp(block.mlp, new)
    for name, gamma in (("ls1", "gamma_1"), ("ls2", "gamma_2")):
        if getattr(new, gamma, None) is not None:
            setattr(new, gamma, getattr(block, name).gamma)


def to_qkv(qkv: Any, attn: Any) -> None:
    """Write a fused qkv into an Eva's attention."""
    if isinstance(qkv, KeysWithoutBias) and qkv.bias.chunk(3)[1].any():
        raise NotMergeable("the keys of this backbone have no bias, into which this change could be merged")
    biases: Any = [None] * 3 if qkv.bias is None else qkv.bias.chunk(3)
    if attn.qkv is None:
        for name, weight, bias in zip(("q_proj", "k_proj", "v_proj"), qkv.weight.chunk(3), biases, strict=True):
            bare = name == "k_proj" and isinstance(qkv, KeysWithoutBias)
            setattr(attn, name, linear(weight, None if bare else bias))
    elif isinstance(qkv, KeysWithoutBias):
        attn.qkv = linear(qkv.weight, None)
        attn.q_bias, attn.k_bias, attn.v_bias = frozen(biases[0]), biases[1].detach().clone(), frozen(biases[2])
    else:
        attn.qkv = qkv


def to_mlp(mlp: Any, block: Any) -> None:
    """Write an MLP into an Eva's block."""
    if not isinstance(block.mlp, SwiGLU):
        block.mlp = mlp
        return
    move(mlp, block.mlp, OF_MLP)
    weights, biases = mlp.fc1.weight.chunk(2), mlp.fc1.bias.chunk(2)
    block.mlp.fc1_g, block.mlp.fc1_x = (linear(w, b) for w, b in zip(weights, biases, strict=True))


def without_positions(block: Any) -> Any:
    """A block whose queries and keys are not turned, in place: positions depend on the grid, other weights do not."""
    for module in list(block.modules()):
        for name, child in module.named_children():
            if isinstance(child, Rotary):
                setattr(module, name, child.base)
    return block


def settings(vit: ViT) -> dict[str, Any]:
    """How the positions of an Eva are computed: the numbers and words of its rotary embedding; {} of others."""
    if getattr(vit, "positions", None) is None:
        return {}
    kept = {k: v for k, v in vars(vit.positions.rope).items() if isinstance(v, int | float | str)}
    return {k: v for k, v in kept.items() if k != "training" and not k.startswith("_")} | {
        "half": [rotary.in_halves for rotary in vit.modules() if isinstance(rotary, Rotary)][0]
    }
