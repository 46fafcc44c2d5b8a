"""Exercises of notebook 03_families."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer

from ...methods import METHODS, Method, PeftModel, attach
from .base import Exercise, Test, agrees

_rng = np.random.default_rng(0)
_AFFINE = ((_rng.normal(size=(3, 4)), _rng.normal(size=3), _rng.normal(size=3), _rng.normal(size=3)),)
_MERGES = {"lora": True, "ssf": True, "adapter": False, "adaptformer": False, "vpt": False}


def _together(function: Callable[..., Any]) -> Callable[..., Float[np.ndarray, " values"]]:
    """Two arrays as one, so that they can be compared at once."""
    return lambda *case: np.concatenate([np.asarray(part).ravel() for part in function(*case)])


def _merges_as(reference: Callable[..., Any]) -> Test:
    return lambda answer: agrees(_together(reference), *_AFFINE)(_together(answer))


def _tuned(cls: type[Method], **options: Any) -> tuple[VisionTransformer, PeftModel]:
    """The reader's method on a small random ViT -> (plain backbone, tuned model)."""
    with torch.random.fork_rng(devices=[]):  # the reader's own random numbers go on as they were
        vit = VisionTransformer(32, 8, embed_dim=24, depth=3, num_heads=2, num_classes=0)
    vit.requires_grad_(False).eval()
    return vit, attach(vit, cls(**options), 2)


def _trains(cls: type[Method], *names: str, **options: Any) -> bool:
    """Does it train exactly these parameters of these blocks?"""
    wanted = {f"blocks.{i}.{name}" for i in range(3 - options.get("last_blocks", 3), 3) for name in names}
    vit, model = _tuned(cls, **options)
    trained = {name for name, p in model.vit.named_parameters() if p.requires_grad and not name.startswith("head.")}
    return trained == wanted and not any(p.requires_grad for p in vit.parameters())


def _right(cls: type[Method]) -> bool:
    counted = all(
        _tuned(cls, **o)[1].method_parameters == cls(**o).count(_tuned(cls)[0]) for o in ({}, {"last_blocks": 1})
    )
    registered = getattr(cls, "name", None) in METHODS
    return _trains(cls, "attn.qkv.bias") and _trains(cls, "attn.qkv.bias", last_blocks=1) and counted and registered


EXERCISES = {
    "families.1": Exercise(
        lambda a: dict(a) == _MERGES,
        "What is linear in the layer's input or output folds into its weight; a nonlinearity or a token does not.",
        (
            (
                lambda a: a["adapter"] or a["adaptformer"],
                "between down and up stands a nonlinearity: no matrix is nonlinear",
            ),
            (lambda a: a["vpt"], "prompts are tokens: they belong to the input, not to a weight"),
            (lambda a: not a["lora"], "B A has the shape of W, so it can be added to it"),
            (
                lambda a: not a["ssf"],
                "scaling an output scales the rows of W and the bias; a shift goes into the bias",
            ),
        ),
    ),
    "families.2": Exercise(
        _merges_as(lambda W, b, scale, shift: (scale[:, None] * W, scale * b + shift)),
        "After merging, the model has the plain ViT's layers again and costs nothing extra.",
        (
            (
                _merges_as(lambda W, b, scale, shift: (scale[:, None] * W, scale * (b + shift))),
                "the shift comes after the scaling, so it is not scaled itself",
            ),
            (
                _merges_as(lambda W, b, scale, shift: (scale[:, None] * W, b + shift)),
                "the whole output is scaled, and the bias is part of it",
            ),
            (
                _merges_as(lambda W, b, scale, shift: (W, scale * b + shift)),
                "W has to be scaled, too",
            ),
            (
                lambda f: f(np.eye(2), np.zeros(2), np.ones(2), np.zeros(2)) is not None,
                "each output channel is a row of W [out, in]: give scale the shape [out, 1] to reach whole rows",
            ),
        ),
    ),
    "families.3": Exercise(
        _right,
        "It is in every table now, and `attach`, `fit`, `save` and `cost_card` know it.",
        (
            (lambda cls: getattr(cls, "name", None) not in METHODS, 'put @register("mine") above the class'),
            (
                lambda cls: any(p.requires_grad for p in _tuned(cls)[0].parameters()),
                "the backbone itself became trainable: unfreeze makes a private copy, which leaves the original alone",
            ),
            (
                lambda cls: _tuned(cls)[1].method_parameters == 0,
                'nothing is trained yet: tell unfreeze which tensor, here "bias"',
            ),
            (
                lambda cls: not _trains(cls, "attn.qkv.bias"),
                "apply should train the bias of attn.qkv in every block, and nothing else",
            ),
            (
                lambda cls: not _trains(cls, "attn.qkv.bias", last_blocks=1),
                "last_blocks is ignored: loop over self.blocks(vit), which knows it, instead of vit.blocks",
            ),
            (
                lambda cls: not _right(cls),
                "count should give what apply trains: 3 times the width for each of self.blocks(backbone)",
            ),
        ),
    ),
}
