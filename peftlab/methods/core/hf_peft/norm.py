"""LayerNorm tuning."""

import re
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ....common.errors import PeftlabError
from ..model import PeftModel
from .places import Found


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function."""
    trained = {name: p for name, p in model.vit.named_parameters() if p.requires_grad and not name.startswith("head.")}
    layers = dict.fromkeys(name.rpartition(".")[0] for name in trained)
    # A regular expression, because a list would also match other modules whose names end in "norm".
    config = peft.LNTuningConfig(target_modules="|".join(map(re.escape, layers)))
    rename = {name: name.rpartition(".") for name in trained}
    return config, {f"{a}.ln_tuning_layers.default.{b}": trained[name] for name, (a, _, b) in rename.items()}


def from_hf(found: Found) -> PeftModel:
    """Our model of the same function."""
    layers = found.layers("ln_tuning_layers")
    first = min(int(name.split(".")[1]) for name in layers if name.startswith("blocks."))
    last_blocks = None if first == 0 else len(found.backbone.blocks) - first
    model = found.attach("norm", last_blocks=last_blocks)
    ours = {n.rpartition(".")[0] for n, p in model.vit.named_parameters() if p.requires_grad} - {"head"}
    if ours != layers.keys():
        raise PeftlabError(
            f"{found.folder}: it tunes {len(layers)} LayerNorms, but norm tunes {len(ours)} from that block on"
        )
    with torch.no_grad():
        for name, m in layers.items():
            model.vit.get_submodule(name).load_state_dict(m.ln_tuning_layers.default.state_dict())
    return model
