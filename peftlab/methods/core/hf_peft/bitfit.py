"""BitFit of linear layers, which HF peft calls BEFT: a trained vector is added to what a frozen layer gives."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ....common.errors import PeftlabError
from ..layers import LINEARS
from ..model import PeftModel
from .places import Found, placed


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function. Raises PeftlabError for biases of other layers."""
    if others := set(model.method.options()["targets"]) - set(LINEARS):
        raise PeftlabError(
            f"HF peft's BEFT has biases of linear layers alone, not of {', '.join(sorted(others))}; attach bitfit "
            f"with targets={tuple(LINEARS)}"
        )
    biases = {name: p for name, p in model.vit.named_parameters() if p.requires_grad and not name.startswith("head.")}
    moved = {name.removesuffix(".bias"): p - model.backbone.get_parameter(name) for name, p in biases.items()}
    return beft(moved, peft)


def beft(moved: dict[str, Tensor], peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of {layer: what is added to its output}."""
    return peft.BeftConfig(target_modules=list(moved)), {f"{name}.beft_bias.default": b for name, b in moved.items()}


def from_hf(found: Found) -> PeftModel:
    """Our model of the same function. Raises PeftlabError for a layer that has no bias of its own."""
    layers = found.layers("beft_bias")
    targets, last_blocks = placed(layers, found)
    for name in layers:
        if found.backbone.get_submodule(name).bias is None:
            raise PeftlabError(f"{found.folder}: it gives {name} a bias, but the backbone has none there to train")
    model = found.attach("bitfit", last_blocks=last_blocks, targets=targets)
    with torch.no_grad():
        for name, m in layers.items():
            model.vit.get_submodule(name).bias += m.beft_bias.default.flatten()
    return model
