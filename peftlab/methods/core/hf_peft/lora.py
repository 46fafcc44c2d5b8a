"""LoRA, DoRA and PiSSA. In the fused qkv, of the summed rank: the A of q, k and v below one another, B a block matrix.

PiSSA is written as the LoRA that it is after training, of twice the rank: A - A0 below A0, B beside B - B0. So HF peft
need not decompose weights again. HF peft's own PiSSA adapters are read as ours.
"""

import re
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from ....common.errors import PeftlabError
from ...dora import DoRALinear
from ...lora import LoRALinear
from ..model import PeftModel
from .places import Found, changed, placed, target_of

STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica", "pissa")  # from which the function can be known


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function."""
    layers = changed(model, LoRALinear)
    ranks = {name: len(layer.down()) for name, layer in layers.items()}
    alphas = {name: layers[name].scale * rank for name, rank in ranks.items()}
    exact = {name: f"^{re.escape(name)}" for name in layers}  # patterns are regular expressions
    first = next(iter(layers))
    config = peft.LoraConfig(
        r=ranks[first],
        lora_alpha=alphas[first],
        target_modules=list(layers),
        rank_pattern={exact[name]: rank for name, rank in ranks.items() if rank != ranks[first]},
        alpha_pattern={exact[name]: alpha for name, alpha in alphas.items() if alpha != alphas[first]},
        use_dora=model.method.name == "dora",
    )
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        tensors |= {f"{name}.lora_A.default.weight": layer.down(), f"{name}.lora_B.default.weight": layer.up()}
        if isinstance(layer, DoRALinear):
            lengths = layer.stretch() * (layer.base.weight + layer.delta()).norm(dim=1)  # m; of other rows, their own
            tensors[f"{name}.lora_magnitude_vector.default.weight"] = lengths
    return config, tensors


def from_hf(found: Found) -> PeftModel:
    """Our model of the same function."""
    start = found.config.init_lora_weights
    if start not in STARTS:
        raise PeftlabError(
            f"{found.folder}: init_lora_weights={start!r} changes the frozen weights in a way that the folder does "
            "not tell; convert it to a plain LoRA with HF peft (path_initial_model_for_weight_conversion)"
        )
    method = "pissa" if start == "pissa" else "dora" if found.config.use_dora else "lora"
    layers = found.layers("lora_A")
    targets, last_blocks = placed(layers, found)
    parts = {
        name: (m.lora_A.default.weight, m.lora_B.default.weight, m.scaling["default"]) for name, m in layers.items()
    }
    # One rank and one scale for all: smaller ranks are filled up with zeros, differing scales go into B.
    ranks, scales = {len(A) for A, _, _ in parts.values()}, {scale for *_, scale in parts.values()}
    if method == "pissa" and (len(ranks) > 1 or len(scales) > 1 or found.config.use_dora):
        raise PeftlabError(f"{found.folder}: a PiSSA start with one rank and one alpha only, and without use_dora")
    rank, common = max(ranks), scales.pop() if len(scales) == 1 else 1.0
    options: dict[str, Any] = {"rank": rank, "alpha": common * rank, "targets": targets, "last_blocks": last_blocks}
    model = found.attach(method, **options)
    with torch.no_grad():
        for name, (A, B, scale) in parts.items():
            layer, target = cast(LoRALinear, model.vit.get_submodule(name)), target_of(name)
            layer.A[target].zero_()[: len(A)] = A
            layer.B[target].zero_()[:, : len(A)] = B * (scale / common)
            if isinstance(layer, DoRALinear):
                layer.m[target].copy_(layers[name].lora_magnitude_vector.default.weight)
    return model
