"""The way of all methods: what surrounds the adapter, the head and the checks."""

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ....backbones.identity import as_vit
from ....backbones.translation import Translated
from ....backbones.types import ViT
from ....common.errors import PeftlabError
from ....common.tensors import read_tensors
from ..model import PeftModel, share
from . import bitfit, ia3, lora, low_rank, norm, oft, vera
from .places import Found

EXPORTS = {
    "lora": lora.to_hf,
    "dora": lora.to_hf,
    "pissa": lora.to_hf,
    "vera": vera.to_hf,
    "oft": oft.to_hf,
    "ia3": ia3.to_hf,
    "norm": norm.to_hf,
    "bitfit": bitfit.to_hf,
    "fact": low_rank.to_hf,
    "gift": low_rank.to_hf,
    "gift_linear": low_rank.to_hf,
    "rep_adapter": low_rank.to_hf,
    "context_peft": low_rank.to_hf,
    "two_stage": low_rank.to_hf,
    "sct": low_rank.to_hf,
}
IMPORTS = {
    "LORA": lora.from_hf,
    "VERA": vera.from_hf,
    "OFT": oft.from_hf,
    "IA3": ia3.from_hf,
    "LN_TUNING": norm.from_hf,
    "BEFT": bitfit.from_hf,
}
VARIANTS = (  # fields of HF peft's configurations that change the function, where they are set
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "monteclora_config",
    "kasa_config",
    "arrow_config",
    "alora_invocation_tokens",
    "fan_in_fan_out",
    "layer_replication",
    "coft",
    "block_share",
)


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError:
        raise PeftlabError("HF peft is not installed. Install it with: pip install 'peftlab[hf]'") from None
    if tuple(map(int, peft.__version__.split(".")[:2])) < (0, 21):  # loads no stored matrices of VeRA
        raise PeftlabError(f"HF peft {peft.__version__} is too old. Install a later one: pip install -U 'peftlab[hf]'")
    return peft


@contextmanager
def _quiet() -> Iterator[None]:
    """HF peft warns of timm's LayerNorms and of missing keys; the first work, the second are fatal here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def export_hf(model: PeftModel, folder: str | Path) -> Path:
    """Write adapter and head so that peft.PeftModel.from_pretrained(timm_vit, folder) computes what the model does.

    The timm_vit is the plain backbone with a head of as many classes. Returns the folder.
    Raises PeftlabError for methods that HF peft does not have, and for families of ViTs that are translated here.
    """
    if model.method.name not in EXPORTS:
        known = ", ".join(EXPORTS)
        raise PeftlabError(f"{model.method.name} has no counterpart in HF peft; these have one: {known}")
    _refuse_translated(model.backbone)
    peft, folder = _peft(), Path(folder)
    config, tensors = EXPORTS[model.method.name](model, peft)
    config.modules_to_save = ["head"]
    plain = share(model.backbone)
    plain.reset_classifier(model.num_classes)
    with _quiet():
        tuned = peft.get_peft_model(plain, config)
    state = dict(tuned.base_model.model.named_parameters()) | dict(tuned.base_model.model.named_buffers())
    tensors |= {f"head.modules_to_save.default.{name}": p for name, p in model.vit.head.named_parameters()}
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor.reshape(state[name].shape))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as whole:  # each file appears complete or not at all
        tuned.save_pretrained(whole)
        for file in Path(whole).iterdir():
            os.replace(file, folder / file.name)
    return folder


def import_hf(backbone: nn.Module, folder: str | Path, num_classes: int | None = None) -> PeftModel:
    """A PeftModel of ours that computes what HF peft's adapter in a folder computes on this timm ViT.

    num_classes: needed only if the adapter does not bring the head (modules_to_save=["head"]); the head is then fresh.
    Raises PeftlabError for a missing or unsafe file, tensors that do not fit, variants that we do not have, and
    families of ViTs that are translated here.
    """
    vit = as_vit(backbone)
    _refuse_translated(vit)
    peft, folder = _peft(), Path(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise PeftlabError(f"{folder / name}: no such file. Save the adapter with safetensors, never as pickle")
    tensors, _ = read_tensors(folder / "adapter_model.safetensors")
    head = tensors.get("base_model.model.head.weight")
    if head is None and num_classes is None:
        raise PeftlabError(f"{folder}: the adapter brings no head. Give num_classes to start with a fresh one")
    config = peft.PeftConfig.from_pretrained(str(folder))
    kind = str(config.peft_type).rpartition(".")[2]
    if kind not in IMPORTS:
        raise PeftlabError(f"{folder}: {config.peft_type} has no counterpart here; {', '.join(IMPORTS)} have one")
    _refuse_variants(config, folder)
    plain = copy.deepcopy(vit)  # not shared: some of HF peft's adapters change the frozen weights in place
    plain.reset_classifier(num_classes if head is None else len(head))
    try:
        with _quiet():
            tuned = peft.PeftModel.from_pretrained(plain, str(folder))
    except (RuntimeError, ValueError) as error:
        name = getattr(vit, "peftlab_name", "this backbone")
        raise PeftlabError(f"{folder}: this adapter does not fit {name}: {error}") from None
    expected = peft.get_peft_model_state_dict(tuned).keys()
    if tensors.keys() != expected:
        raise PeftlabError(
            f"{folder}: missing {sorted(expected - tensors.keys())}, unexpected {sorted(tensors.keys() - expected)}"
        )
    model = IMPORTS[kind](Found(vit, tuned.base_model.model, config, folder))
    if head is not None:
        with torch.no_grad():
            model.vit.head.weight.copy_(head)
            model.vit.head.bias.copy_(tensors["base_model.model.head.bias"])
    return model


def _refuse_translated(backbone: ViT) -> None:
    """Raise PeftlabError where the layers have other names and shapes than in timm's own model."""
    if isinstance(backbone, Translated):
        kind = type(backbone.original[0]).__name__
        raise PeftlabError(
            f"HF peft would meet timm's {kind}, which has other layers than the VisionTransformer that it is written "
            "as here; take the plain model that merge() gives"
        )


def _refuse_variants(config: Any, folder: Path) -> None:
    """Raise PeftlabError for what would change the function without us noticing."""
    on = [name for name in VARIANTS if getattr(config, name, None)]
    if getattr(config, "bias", "none") != "none":
        on.append(f"bias={config.bias!r}")
    if on:
        raise PeftlabError(f"{folder}: plain adapters only, but this one has {', '.join(on)}")
    saved = set(config.modules_to_save or ()) - {"head"}
    if saved:
        raise PeftlabError(f"{folder}: besides the head it stores {', '.join(sorted(saved))}, which we cannot place")
