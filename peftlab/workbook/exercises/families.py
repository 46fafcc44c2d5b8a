"""Exercises of notebook 03_families."""

from numbers import Real
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

from ...methods import METHODS, Method, PeftModel, attach
from .base import Exercise, Test, agrees, entries
from .explain import described, raised, returned

_rng = np.random.default_rng(0)
_AFFINE, _SQUARE = ((_rng.normal(size=(3, n)), *_rng.normal(size=(3, 3)).round(2)) for n in (4, 3))


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


def _counts(cls: type[Method]) -> list[tuple[Any, int]]:
    """(what `count` gives, what `apply` trains) for all blocks and for the last one."""
    tried = [(options, *_tuned(cls, **options)) for options in ({}, {"last_blocks": 1})]
    return [(cls(**options).count(vit), model.method_parameters) for options, vit, model in tried]


def _is_method(answer: Any) -> bool:
    return isinstance(answer, type) and issubclass(answer, Method)


def _explain(answer: Any) -> str:
    if not _is_method(answer):
        return f"yours is {described(answer)}, expected a class that extends Method"
    try:
        if answer.name not in METHODS:
            return "it is not registered"
        if not (_trains(answer, "attn.qkv.bias") and _trains(answer, "attn.qkv.bias", last_blocks=1)):
            return "it does not train the bias of attn.qkv and nothing else"
        found = [returned(given, trained) for given, trained in _counts(answer)]
    except Exception as error:
        return raised(error, answer.apply, "when tried on a small ViT")
    return next((f"count: {wrong}" for wrong in found if wrong), "")


EXERCISES = {
    "families.1": Exercise(
        entries(lora=True, ssf=True, adapter=False, adaptformer=False, vpt=False),
        "What is linear in the layer's input or output merges into its weight; a nonlinearity or a token does not.",
        (
            (
                lambda a: a["adapter"] is True or a["adaptformer"] is True,
                "between down and up stands a nonlinearity: no matrix is nonlinear",
            ),
            (lambda a: a["vpt"] is True, "prompts are tokens: they belong to the input, not to a weight"),
            (lambda a: a["lora"] is False, "B A has the shape of W, so it can be added to it"),
            (
                lambda a: a["ssf"] is False,
                "scaling an output scales the rows of W and the bias; a shift goes into the bias",
            ),
        ),
        help="Ask of each: is it a change of a layer, and is it linear in what that layer reads or gives?",
    ),
    "families.2": Exercise(
        agrees(lambda W, b, scale, shift: (scale[:, None] * W, scale * b + shift), _AFFINE),
        "After merging, the model has the plain ViT's layers again and costs nothing extra.",
        (
            (
                agrees(lambda W, b, scale, shift: (scale[:, None] * W, scale * (b + shift)), _AFFINE),
                "the shift comes after the scaling, so it is not scaled itself",
            ),
            (
                agrees(lambda W, b, scale, shift: (scale[:, None] * W, b + shift), _AFFINE),
                "the whole output is scaled, and the bias is part of it",
            ),
            (
                agrees(lambda W, b, scale, shift: (W, scale * b + shift), _AFFINE),
                "W has to be scaled, too",
            ),
            (
                agrees(lambda W, b, scale, shift: (scale * W, scale * b + shift), _SQUARE),
                "each output channel is a row of W [out, in]: give scale the shape [out, 1] to reach whole rows",
            ),
        ),
        help="Write gamma * (W x + b) + beta without brackets: what stands before x, and what is left?",
    ),
    "families.3": Exercise(
        Test(_explain),
        "It is in every table now, and `attach`, `fit`, `save` and `cost_card` know it.",
        (
            (
                lambda cls: _is_method(cls) and getattr(cls, "name", None) not in METHODS,
                'put @register("mine") above the class',
            ),
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
                lambda cls: all(isinstance(given, Real) or given is ... for given, _ in _counts(cls)),
                "count should give what apply trains: 3 times the width for each of self.blocks(backbone)",
            ),
        ),
        help="Begin with `apply`: unfreeze takes the name of a tensor after the module. Then count its entries.",
    ),
}
