"""Methods that HF peft does not have, written as the LoRA that their merged change is: W' - W, cut after its rank.

FacT, both forms of GIFT, RepAdapter, Context-PEFT with one context and the mergeable forms of the channel methods.
What their layers share is written out for each layer, so they come back as `lora`, and HF peft would train the layers
one by one. A change of biases makes it a LoRA with bias, which does not come back; a change of biases alone is a BEFT.
"""

import copy
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....common.errors import NotMergeable, PeftlabError
from ..model import PeftModel
from .bitfit import beft

NOISE = 1e-9  # singular values below this part of the largest are rounding; all is computed in double precision


def to_hf(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function.

    Raises NotMergeable with the reason, and PeftlabError for what changes other layers than linear ones, changes a
    weight in all its directions, or has changed nothing yet.
    """
    weights, biases = changes(model)
    if biases and not weights:
        return beft({name: bias.float() for name, bias in biases.items()}, peft)
    layers = dict.fromkeys([*weights, *biases])
    factors = {name: factored(change) for name, change in weights.items()}
    rank = max((len(A) for _, A in factors.values()), default=0)
    if not rank:
        raise PeftlabError(f"{model.method.name} has changed no weight yet; train it before it is exported")
    tensors: dict[str, Tensor] = {}
    for name in layers:
        linear: Any = model.backbone.get_submodule(name)
        A, B = torch.zeros(rank, linear.in_features), torch.zeros(linear.out_features, rank)
        if name in factors:
            left, right = factors[name]
            A[: len(right)], B[:, : len(right)] = right, left
        tensors |= {f"{name}.lora_A.default.weight": A, f"{name}.lora_B.default.weight": B}
        if biases:
            tensors[f"{name}.lora_B.default.bias"] = biases.get(name, torch.zeros(linear.out_features)).float()
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers), lora_bias=bool(biases))
    return config, tensors


@torch.no_grad()
def changes(model: PeftModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """({layer: W' - W}, {layer: b' - b}) of the linear layers that merging changes, in double precision."""
    if model.method.not_mergeable:
        raise NotMergeable(f"{model.method.name} has no counterpart in HF peft, where {model.method.not_mergeable}")
    merged = copy.deepcopy(model.vit).double()
    model.method.merge(merged)
    before = dict(model.backbone.named_parameters())
    found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, tensor in merged.named_parameters():
        layer, _, kind = name.rpartition(".")
        if layer == "head" or (name in before and torch.equal(tensor, before[name].double())):
            continue
        if name not in before or not isinstance(model.backbone.get_submodule(layer), nn.Linear):
            raise PeftlabError(
                f"{model.method.name} changes {name}, which no adapter of HF peft holds beside a weight"
            )
        found[kind == "bias"][layer] = tensor - before[name].double()
    return found


def factored(
    change: Float[Tensor, "height width"],
) -> tuple[Float[Tensor, "height rank"], Float[Tensor, "rank width"]]:
    """B and A whose product a change is, of as low a rank as it has. Raises PeftlabError where that saves nothing."""
    U, S, Vh = torch.linalg.svd(change, full_matrices=False)
    rank = int((S > NOISE * S[0]).sum())
    if rank > len(S) // 2:
        raise PeftlabError(f"this change of a weight has rank {rank} of {len(S)}, so it is no LoRA")
    root = S[:rank].sqrt()
    return (U[:, :rank] * root).float(), (root[:, None] * Vh[:rank]).float()
