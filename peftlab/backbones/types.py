"""The types that signatures share, so that shapes read alike everywhere."""

from typing import TYPE_CHECKING, Any, TypeAlias

from jaxtyping import Float, Int64, UInt8
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

if TYPE_CHECKING:
    # To a type checker every attribute of a module is "Tensor | Module"; `vit.blocks[0].attn.qkv` would need 4 casts.
    ViT: TypeAlias = Any
    Merged: TypeAlias = Any
else:
    ViT: TypeAlias = VisionTransformer
    Merged: TypeAlias = VisionTransformer | Eva | SwinTransformer  # a plain model of timm, whose weights hold a change

Pixels: TypeAlias = UInt8[Tensor, "batch h w 3"]  # as read from disk
Images: TypeAlias = Float[Tensor, "batch 3 h w"]  # normalised, as a ViT reads them
Tokens: TypeAlias = Float[Tensor, "batch tokens width"]
Logits: TypeAlias = Float[Tensor, "batch classes"]
Labels: TypeAlias = Int64[Tensor, " batch"]
