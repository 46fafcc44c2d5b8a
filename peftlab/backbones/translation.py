"""What families of ViTs share that are written as a VisionTransformer, so that methods and pictures know them."""

import copy
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..common.errors import PeftlabError

T = TypeVar("T", bound="Translated")


class Translated(VisionTransformer):
    """Another model of timm, written as a VisionTransformer. original: that model without its weights."""

    original: tuple[Any, ...]
    patch_drop: Any
    pos_drop: Any
    attn_pool: Any
    blocks: Any

    def __init__(self, model: Any) -> None:
        """What `timm` needs, and how images are read. Every part comes from the model, so timm's is not called."""
        nn.Module.__init__(self)
        self.original = (skeleton(model),)  # in a tuple: no part of this model
        self.pretrained_cfg = self.default_cfg = model.pretrained_cfg
        self.grad_checkpointing, self.patch_drop = False, nn.Identity()

    def timm(self) -> Any:
        """timm's own model with the weights of this one; tensors are shared."""
        raise NotImplementedError


def translated(model: nn.Module, kind: type[T]) -> T:
    """A timm model, written as a VisionTransformer of a kind.

    Raises PeftlabError unless both compute the same: a later timm may have a part that is not known here.
    """
    same_tensors = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # its modules stay what they are
    vit = kind(same_tensors).requires_grad_(False).train(model.training)
    if not vit.patch_embed.proj.weight.is_meta:
        _check_same(model, vit)
    return vit


@torch.no_grad()
def _check_same(model: nn.Module, vit: VisionTransformer) -> None:
    like, was_training = next(vit.parameters()), model.training
    x = torch.randn(1, 3, *vit.patch_embed.img_size, generator=torch.Generator().manual_seed(0)).to(like)
    expected, found = model.eval()(x), vit.eval()(x)
    model.train(was_training), vit.train(was_training)
    tolerance = 1e-4 if like.dtype in (torch.float32, torch.float64) else 0.05
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        raise PeftlabError(
            f"this {type(model).__name__}, written as a VisionTransformer, computes otherwise (by "
            f"{(found - expected).abs().max():.2g}), so it has a part that peftlab does not know; use another backbone"
        )


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of a model that takes no memory: its parameters have shapes and no values."""
    return copy.deepcopy(model, {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in model.parameters()})


def move(old: Any, new: Any, names: tuple[str, ...]) -> None:
    """Give one object the attributes of another."""
    for name in names:
        setattr(new, name, getattr(old, name))


def frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


def linear(weight: Float[Tensor, "rows width"], bias: Float[Tensor, " rows"] | None) -> nn.Linear:
    """A Linear with these tensors."""
    new: Any = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    new.weight = frozen(weight)
    new.bias = None if bias is None else frozen(bias)
    return new
