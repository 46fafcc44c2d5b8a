"""(IA)3. In the fused qkv: factors of 1 where q is left alone."""

from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from ....common.errors import PeftlabError
from ...ia3 import TARGETS, Scale
from ..layers import QKV, After, Before
from ..model import PeftModel
from .places import Found, changed, placed

PLACES = {"qkv": QKV, "o": ("o",), "fc2": ("ff",)}


def scale_of(layer: nn.Module) -> Scale:
    """The factors around a layer."""
    return cast(Scale, layer.after if isinstance(layer, After) else layer.before)


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function."""
    layers = changed(model, After, Before)
    config = peft.IA3Config(
        target_modules=list(layers), feedforward_modules=[name for name in layers if name.endswith("fc2")]
    )
    return config, {f"{name}.ia3_l.default": scale_of(layer).vector() for name, layer in layers.items()}


def from_hf(found: Found) -> PeftModel:
    """Our model of the same function."""
    layers = found.layers("ia3_l")
    changed_layers, last_blocks = placed(layers, found)
    for name, m in layers.items():
        if name.endswith("fc1") or m.is_feedforward != name.endswith("fc2"):
            side = "input" if m.is_feedforward else "output"
            raise PeftlabError(
                f"{found.folder}: it rescales the {side} of {name}; ours are outputs of qkv and proj, input of fc2"
            )
    targets = tuple(t for t in TARGETS if any(t in PLACES[layer] for layer in changed_layers))
    model = found.attach("ia3", last_blocks=last_blocks, targets=targets)
    with torch.no_grad():
        for name, m in layers.items():
            scale = scale_of(model.vit.get_submodule(name))
            for part, values in zip(scale.parts, m.ia3_l.default.flatten().chunk(len(scale.parts)), strict=True):
                scale.l[part].copy_(values)
    return model
