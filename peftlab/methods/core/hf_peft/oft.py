"""OFT, by the exact Cayley transform."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ....common.errors import PeftlabError
from ..layers import Before
from ..model import PeftModel
from .places import Found, changed, placed


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function."""
    layers: dict[str, Any] = changed(model, Before)
    config = peft.OFTConfig(
        oft_block_size=model.method.options()["block_size"], target_modules=list(layers), use_cayley_neumann=False
    )
    return config, {f"{name}.oft_R.default.weight": layer.before.upper for name, layer in layers.items()}


def from_hf(found: Found) -> PeftModel:
    """Our model of the same function."""
    if found.config.use_cayley_neumann:
        raise PeftlabError(
            f"{found.folder}: use_cayley_neumann=True only approximates a rotation, and ours are exact. Train it with "
            "use_cayley_neumann=False"
        )
    layers = found.layers("oft_R")
    targets, last_blocks = placed(layers, found)
    sizes = {m.oft_block_size["default"] for m in layers.values()}
    if len(sizes) > 1:
        raise PeftlabError(
            f"{found.folder}: its block sizes are {sorted(sizes)}; ours is one. Give oft_block_size, not r"
        )
    model = found.attach("oft", block_size=sizes.pop(), targets=targets, last_blocks=last_blocks)
    with torch.no_grad():
        for name, m in layers.items():
            model.vit.get_submodule(name).get_parameter("before.upper").copy_(m.oft_R.default.weight)
    return model
