"""LoRA, (IA)3 and LayerNorm tuning to and from HF peft's adapter format. Needs the extra: pip install 'peftlab[hf]'.

HF peft sees timm's fused qkv as one layer, so what we keep apart for q, k and v is written as one: LoRA's A below one
another and B as a block matrix, of the summed rank; factors of 1 where (IA)3 leaves q alone. The function is the same
in both directions, the number of stored parameters may grow.
"""

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ...backbones.types import ViT
from ...common.errors import PeftlabError
from ...common.files import read_tensors
from .. import attach
from ..ia3 import TARGETS as IA3_TARGETS
from ..ia3 import Scale
from ..lora import LoRALinear
from .layers import LINEARS, QKV, After, Before
from .model import PeftModel, share

TARGETS = {path: name for name, path in LINEARS.items()}
M = TypeVar("M", bound=nn.Module)


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError:
        raise PeftlabError("HF peft is not installed. Install it with: pip install 'peftlab[hf]'") from None
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
    Raises PeftlabError for methods that HF peft does not have.
    """
    if model.method.name not in EXPORTS:
        known = ", ".join(EXPORTS)
        raise PeftlabError(f"{model.method.name} has no counterpart in HF peft; these have one: {known}")
    peft, folder = _peft(), Path(folder)
    config, tensors = EXPORTS[model.method.name](model, peft)
    config.modules_to_save = ["head"]
    plain = share(model.backbone)
    plain.reset_classifier(model.num_classes)
    with _quiet():
        tuned = peft.get_peft_model(plain, config)
    parameters = dict(tuned.base_model.model.named_parameters())
    tensors |= {f"head.modules_to_save.default.{name}": p for name, p in model.vit.head.named_parameters()}
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor.view_as(parameters[name]))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as whole:  # each file appears complete or not at all
        tuned.save_pretrained(whole)
        for file in Path(whole).iterdir():
            os.replace(file, folder / file.name)
    return folder


def _changed(model: PeftModel, *types: type[M]) -> dict[str, M]:
    """{name: module} of a tuned ViT's inserted modules of some types."""
    return {name: m for name, m in model.vit.named_modules() if isinstance(m, types)}


def _scale(layer: nn.Module) -> Scale:
    """(IA)3's factors around a layer."""
    return cast(Scale, layer.after if isinstance(layer, After) else layer.before)


def _export_lora(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    """HF peft's configuration and tensors of the same function; so do the two below."""
    layers = _changed(model, LoRALinear)
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
    )
    tensors = {f"{name}.lora_A.default.weight": layer.down() for name, layer in layers.items()}
    return config, tensors | {f"{name}.lora_B.default.weight": layer.up() for name, layer in layers.items()}


def _export_ia3(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    layers = _changed(model, After, Before)
    config = peft.IA3Config(
        target_modules=list(layers), feedforward_modules=[name for name in layers if name.endswith("fc2")]
    )
    return config, {f"{name}.ia3_l.default": _scale(layer).vector() for name, layer in layers.items()}


def _export_norm(model: PeftModel, peft: ModuleType) -> tuple[Any, dict[str, Tensor]]:
    trained = {name: p for name, p in model.vit.named_parameters() if p.requires_grad and not name.startswith("head.")}
    layers = dict.fromkeys(name.rpartition(".")[0] for name in trained)
    # A regular expression, because a list would also match other modules whose names end in "norm".
    config = peft.LNTuningConfig(target_modules="|".join(map(re.escape, layers)))
    rename = {name: name.rpartition(".") for name in trained}
    return config, {f"{a}.ln_tuning_layers.default.{b}": trained[name] for name, (a, _, b) in rename.items()}


EXPORTS = {"lora": _export_lora, "ia3": _export_ia3, "norm": _export_norm}


def import_hf(backbone: ViT, folder: str | Path, num_classes: int | None = None) -> PeftModel:
    """A PeftModel of ours that computes what HF peft's adapter in a folder computes on this timm ViT.

    num_classes: needed only if the adapter does not bring the head (modules_to_save=["head"]); the head is then fresh.
    Raises PeftlabError for a missing or unsafe file, tensors that do not fit, and variants that we do not have.
    """
    peft, folder = _peft(), Path(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise PeftlabError(f"{folder / name}: no such file. Save the adapter with safetensors, never as pickle")
    tensors, _ = read_tensors(folder / "adapter_model.safetensors")
    head = tensors.get("base_model.model.head.weight")
    if head is None and num_classes is None:
        raise PeftlabError(f"{folder}: the adapter brings no head. Give num_classes to start with a fresh one")
    config = peft.PeftConfig.from_pretrained(str(folder))
    kind = {"LORA": "lora", "IA3": "ia3", "LN_TUNING": "norm"}.get(str(config.peft_type).rpartition(".")[2])
    if kind is None:
        raise PeftlabError(f"{folder}: {config.peft_type} has no counterpart here; LORA, IA3 and LN_TUNING have one")
    _refuse_variants(config, folder)
    plain = share(backbone)
    plain.reset_classifier(num_classes if head is None else len(head))
    try:
        with _quiet():
            tuned = peft.PeftModel.from_pretrained(plain, str(folder))
    except (RuntimeError, ValueError) as error:
        raise PeftlabError(f"{folder}: this adapter does not fit {backbone.peftlab_name}: {error}") from None
    expected = peft.get_peft_model_state_dict(tuned).keys()
    if tensors.keys() != expected:
        raise PeftlabError(
            f"{folder}: missing {sorted(expected - tensors.keys())}, unexpected {sorted(tensors.keys() - expected)}"
        )
    model = IMPORTS[kind](backbone, tuned.base_model.model, folder, plain.num_classes)
    if head is not None:
        with torch.no_grad():
            model.vit.head.weight.copy_(head)
            model.vit.head.bias.copy_(tensors["base_model.model.head.bias"])
    return model


def _refuse_variants(config: Any, folder: Path) -> None:
    """Raise PeftlabError for what would change the function without us noticing."""
    variants = ("use_dora", "lora_bias", "use_qalora", "use_bdlora", "fan_in_fan_out", "layer_replication")
    on = [name for name in variants if getattr(config, name, None)]
    if getattr(config, "bias", "none") != "none":
        on.append(f"bias={config.bias!r}")
    if on:
        raise PeftlabError(f"{folder}: plain adapters only, but this one has {', '.join(on)}")
    saved = set(config.modules_to_save or ()) - {"head"}
    if saved:
        raise PeftlabError(f"{folder}: besides the head it stores {', '.join(sorted(saved))}, which we cannot place")


def _placed(names: Iterable[str], backbone: ViT, folder: Path) -> tuple[list[str], int | None]:
    """-> (paths in a block, last_blocks). Raises PeftlabError unless the last blocks are all changed alike."""
    found: dict[str, set[int]] = {}
    for name in names:
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if match is None or match[2] not in TARGETS:
            raise PeftlabError(f"{folder}: it changes {name}; we know {', '.join(TARGETS)} of the blocks")
        found.setdefault(match[2], set()).add(int(match[1]))
    depth, first = len(backbone.blocks), min(map(min, found.values()))
    if any(blocks != set(range(first, depth)) for blocks in found.values()):
        raise PeftlabError(
            f"{folder}: it changes other layers in some of the blocks {first} to {depth - 1} than in others"
        )
    return list(found), None if first == 0 else depth - first


def _import_lora(backbone: ViT, vit: ViT, folder: Path, num_classes: int) -> PeftModel:
    """Our model of what HF peft has put into a ViT; so do the two below."""
    layers = {name: m for name, m in vit.named_modules() if hasattr(m, "lora_A")}
    paths, last_blocks = _placed(layers, backbone, folder)
    parts = {
        name: (m.lora_A.default.weight, m.lora_B.default.weight, m.scaling["default"]) for name, m in layers.items()
    }
    # One rank and one scale for all: smaller ranks are filled up with zeros, differing scales go into B.
    rank, scales = max(len(A) for A, _, _ in parts.values()), {scale for *_, scale in parts.values()}
    common = scales.pop() if len(scales) == 1 else 1.0
    options: dict[str, Any] = {"rank": rank, "alpha": common * rank, "targets": tuple(TARGETS[path] for path in paths)}
    model = attach(backbone, "lora", num_classes, last_blocks=last_blocks, **options)
    with torch.no_grad():
        for name, (A, B, scale) in parts.items():
            layer, target = model.vit.get_submodule(name), TARGETS[name.split(".", 2)[2]]
            layer.A[target].zero_()[: len(A)] = A
            layer.B[target][:, : len(A)] = B * (scale / common)
    return model


def _import_ia3(backbone: ViT, vit: ViT, folder: Path, num_classes: int) -> PeftModel:
    layers = {name: m for name, m in vit.named_modules() if hasattr(m, "ia3_l")}
    paths, last_blocks = _placed(layers, backbone, folder)
    for name, m in layers.items():
        if name.endswith("fc1") or m.is_feedforward != name.endswith("fc2"):
            side = "input" if m.is_feedforward else "output"
            raise PeftlabError(
                f"{folder}: it rescales the {side} of {name}; ours are outputs of qkv and proj, input of fc2"
            )
    places = {"attn.qkv": QKV, "attn.proj": ("o",), "mlp.fc2": ("ff",)}
    targets = tuple(t for t in IA3_TARGETS if any(t in places[path] for path in paths))
    model = attach(backbone, "ia3", num_classes, last_blocks=last_blocks, targets=targets)
    with torch.no_grad():
        for name, m in layers.items():
            scale = _scale(model.vit.get_submodule(name))
            for part, values in zip(scale.parts, m.ia3_l.default.flatten().chunk(len(scale.parts)), strict=True):
                scale.l[part].copy_(values)
    return model


def _import_norm(backbone: ViT, vit: ViT, folder: Path, num_classes: int) -> PeftModel:
    layers = {name: m for name, m in vit.named_modules() if hasattr(m, "ln_tuning_layers")}
    first = min(int(name.split(".")[1]) for name in layers if name.startswith("blocks."))
    last_blocks = None if first == 0 else len(backbone.blocks) - first
    model = attach(backbone, "norm", num_classes, last_blocks=last_blocks)
    ours = {n.rpartition(".")[0] for n, p in model.vit.named_parameters() if p.requires_grad} - {"head"}
    if ours != layers.keys():
        raise PeftlabError(
            f"{folder}: it tunes {len(layers)} LayerNorms, but norm tunes {len(ours)} from that block on"
        )
    with torch.no_grad():
        for name, m in layers.items():
            model.vit.get_submodule(name).load_state_dict(m.ln_tuning_layers.default.state_dict())
    return model


IMPORTS = {"lora": _import_lora, "ia3": _import_ia3, "norm": _import_norm}
