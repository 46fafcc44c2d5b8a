"""FacT and both forms of GIFT, written as the LoRA that they are after training: each change is a low-rank product.

What their layers share is written out for each layer, so they come back as `lora`, and HF peft would train the layers
one by one.
"""

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...fact import FacTLinear
from ...gift_linear import GeneratedLinear
from ..model import PeftModel
from .places import changed


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function."""
    products = {name: of_fact(layer) for name, layer in changed(model, FacTLinear).items()}
    products |= {name: of_gift(layer) for name, layer in changed(model, GeneratedLinear).items()}
    rank = len(next(iter(products.values()))[1])  # one for all layers
    tensors = {f"{name}.lora_A.default.weight": A for name, (_, A) in products.items()}
    tensors |= {f"{name}.lora_B.default.weight": B for name, (B, _) in products.items()}
    return peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(products)), tensors


def of_gift(layer: GeneratedLinear) -> tuple[Float[Tensor, "height rank"], Float[Tensor, "rank width"]]:
    """The layer's own tokens, and psi, which all layers share."""
    generator = layer.shared[0]
    return generator(generator.weights())[layer.index], generator.recover.weight.T


def of_fact(layer: FacTLinear) -> tuple[Float[Tensor, "height rank"], Float[Tensor, "rank width"]]:
    """Pieces below one another share U, pieces side by side share V; no weight of a ViT has both."""
    U, V, S = layer.shared[0].U, layer.scale * layer.shared[0].V, layer.cores()
    if layer.into == 1:
        return torch.cat([V @ core for core in S[:, 0]]), U
    return V, torch.cat([core @ U for core in S[0]], dim=1)
