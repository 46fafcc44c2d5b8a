"""A saved adapter back on its backbone: what is read is checked before it is believed."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from ...backbones.identity import as_vit, describe
from ...backbones.preprocess import input_size
from ...backbones.types import ViT
from ...common.errors import PeftlabError, located
from ...common.files import read_json
from ...common.tensors import read_tensors
from .model import PeftModel, attach


def load_adapter(backbone: nn.Module, folder: str | Path) -> PeftModel:
    """Rebuild a saved PeftModel on its backbone, which `attach` would take, bit for bit.

    At another input size than it was trained with, the adapter is loaded with a warning, and position embeddings among
    its tensors are resampled. Raises PeftlabError when files are missing or damaged, the backbone has other weights or
    computes something else, or tensors do not agree exactly.
    """
    backbone, folder = as_vit(backbone), Path(folder)
    for name in ("adapter.json", "adapter.safetensors"):
        if not (folder / name).is_file():
            raise PeftlabError(f"{folder / name}: no such file. A saved adapter is a folder with both files")
    file = folder / "adapter.json"
    record = _read_record(file)
    here, there = describe(backbone), record["backbone"]
    for key, what in (("weights", "weights"), ("probe", "architecture"), ("mean", "mean"), ("std", "std")):
        if there.get(key) != here[key]:
            raise PeftlabError(
                f"{file}: trained on backbone {there.get('name')!r} with {what} {there.get(key)}, but this one is "
                f"{here['name']!r} with {here[key]}. Load that backbone"
            )
    with located(file):
        model = attach(backbone, record["method"], record["num_classes"], **record["options"])
    if record["classes"] is not None:
        model.classes = tuple(record["classes"])
    file = folder / "adapter.safetensors"
    state, tensors = model.adapter_state(), read_tensors(file)[0]
    if there["img_size"] != here["img_size"]:
        sizes = ["{} x {}".format(*each["img_size"]) for each in (there, here)]
        warnings.warn(f"{folder}: trained at {sizes[0]} px, used at {sizes[1]}", stacklevel=2)
        if {"pos_embed"} <= state.keys() & tensors.keys():
            tensors["pos_embed"] = _resampled(tensors["pos_embed"], backbone, there["img_size"])
    load_tensors(state, tensors, file)
    return model


def _read_record(file: Path) -> dict[str, Any]:
    """adapter.json, with all that it needs in it. Raises PeftlabError that names what is wrong."""
    record = read_json(file)
    kinds: dict[str, Any] = {
        "method": str,
        "options": dict,
        "num_classes": int,
        "classes": (list, type(None)),
        "backbone": dict,
    }
    for key, kind in kinds.items():
        if not isinstance(record.get(key, ...), kind):
            raise PeftlabError(f"{file}: {key} is {record.get(key, 'missing')!r:.80}; save the adapter again")
    classes, size = record["classes"], record["backbone"].get("img_size")
    if classes is not None and (len(classes) != record["num_classes"] or {type(n) for n in classes} - {str}):
        raise PeftlabError(f"{file}: {len(classes)} names for {record['num_classes']} classes; save the adapter again")
    if not (isinstance(size, list) and [type(side) for side in size] == [int, int] and min(size) > 0):
        raise PeftlabError(f"{file}: img_size is {size!r:.80}, but must be [height, width]; save the adapter again")
    return record


def _resampled(pos_embed: Tensor, vit: ViT, size: Sequence[int]) -> Tensor:
    """Position embeddings of an input size (height, width) as this ViT needs them."""
    patch = vit.patch_embed.patch_size
    old, new = ([side // p for side, p in zip(each, patch, strict=True)] for each in (size, input_size(vit)))
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    return resample_abs_pos_embed(pos_embed, new, old, num_prefix_tokens=prefix)


def load_tensors(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], file: Path) -> None:
    """Copy stored tensors into those of a model.

    Raises PeftlabError unless names, shapes and kinds (floating point or not) agree exactly and all values are finite.
    """
    missing, unexpected = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
    both = sorted(state.keys() & tensors.keys())
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(state[name].shape)}"
        for name in both
        if tensors[name].shape != state[name].shape
    ]
    if missing or unexpected or wrong:
        raise PeftlabError(f"{file}: missing {missing}, unexpected {unexpected}, wrong shape {wrong}")
    for name in both:
        found, meant = tensors[name], state[name]
        if found.dtype != meant.dtype and not (found.is_floating_point() and meant.is_floating_point()):
            raise PeftlabError(f"{file}: {name} is of type {found.dtype} instead of {meant.dtype}; save it again")
        if not torch.isfinite(found.to(meant.dtype)).all():
            raise PeftlabError(f"{file}: {name} holds NaN or infinity; train again with a lower lr")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[name])
