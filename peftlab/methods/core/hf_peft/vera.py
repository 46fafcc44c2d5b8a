"""VeRA. In the fused qkv q, k and v have rank numbers d of their own each, so the shared A is repeated for each, and
B has columns for each with rows for it alone; columns that a layer does not use get d = 0. Such random matrices are
stored, and only HF peft reads them: ours are always drawn from a key.
"""

from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from ....common.errors import PeftlabError
from ...vera import VeRALinear
from ..layers import QKV
from ..model import PeftModel
from .places import Found, changed, placed, target_of


def columns_of(target: str) -> str:
    """Which columns of B a target uses: q, k and v their own, whole layers the same.

    >>> columns_of("q"), columns_of("fc1"), columns_of("o")
    ('q', 'whole', 'whole')
    """
    return target if target in QKV else "whole"


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function."""
    options, layers = model.method.options(), changed(model, VeRALinear)
    if "qkv" in options["targets"] and set(QKV) & set(options["targets"]):
        raise PeftlabError(
            "HF peft scales each row of a weight once; export vera with qkv or with q, k and v, not both"
        )
    first = next(iter(layers))
    A, B = layers[first].shared[0].A, layers[first].shared[0].B
    sets = list(dict.fromkeys(map(columns_of, options["targets"])))
    height = max(layer.base.out_features for layer in layers.values())
    wide = B.new_zeros(height, len(sets), len(A))
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        d, b = A.new_zeros(len(sets), len(A)), A.new_zeros(layer.base.out_features)
        for target, rows in layer.rows.items():
            own = sets.index(columns_of(target))
            d[own], b[rows] = layer.d[target].detach(), layer.b[target].detach()
            wide[rows, own] = B[: rows.stop - rows.start]
        tensors |= {f"{name}.vera_lambda_d.default": d, f"{name}.vera_lambda_b.default": b}
    tensors |= {f"{first}.vera_A.default": A.repeat(len(sets), 1), f"{first}.vera_B.default": wide}
    config = peft.VeraConfig(
        r=len(A) * len(sets), target_modules=list(layers), projection_prng_key=options["key"], save_projection=True
    )
    return config, tensors


def from_hf(found: Found) -> PeftModel:
    """Our model of the same function."""
    layers = found.layers("vera_lambda_d")
    targets, last_blocks = placed(layers, found)
    key = found.config.projection_prng_key
    model = found.attach("vera", rank=found.config.r, targets=targets, key=key, last_blocks=last_blocks)
    with torch.no_grad():
        for name, m in layers.items():
            layer, target = cast(VeRALinear, model.vit.get_submodule(name)), target_of(name)
            layer.d[target].copy_(m.vera_lambda_d.default)
            layer.b[target].copy_(m.vera_lambda_b.default)
    shared = layer.shared[0]
    if not (torch.equal(shared.A, m.vera_A.default) and torch.equal(shared.B, m.vera_B.default)):
        raise PeftlabError(
            f"{found.folder}: its random matrices are not those of projection_prng_key={key}, and ours are not stored"
        )
    return model
