"""The tuned model: a frozen backbone with a method's change and a head, and how its adapter is stored."""

import copy
import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...backbones.load import fingerprint
from ...backbones.stages import stages
from ...backbones.types import Images, Labels, Logits, ViT
from ...common.errors import NotMergeable, PeftlabError
from ...common.files import read_tensors, write_json, write_tensors
from .base import Method, create_method


def share(vit: Any) -> Any:
    """A copy of a ViT with its own modules but the very same (frozen) tensors."""
    return copy.deepcopy(vit, {id(t): t for t in chain(vit.parameters(), vit.buffers())})


class PeftModel(nn.Module):
    """A frozen backbone with a method's change and a fresh head; `model.vit` is a timm VisionTransformer.

    The backbone that was passed in is never changed: frozen tensors are shared with it (so moving the model to a
    device moves them too), trained ones are private.
    """

    def __init__(self, backbone: ViT, method: Method, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        self.method = method
        self._backbone = (backbone,)  # in a tuple, so that its parameters are not registered a second time
        self.vit = share(backbone).requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.vit.reset_classifier(num_classes)
            nn.init.trunc_normal_(self.vit.head.weight, std=0.02)
            nn.init.zeros_(self.vit.head.bias)
            method.apply(self.vit)
        self.to(next(backbone.parameters()).device).eval()

    def forward(self, x: Images) -> Logits:
        """Images [B, 3, H, W] -> logits [B, classes]."""
        return self.vit(x)

    def loss(self, logits: Logits, labels: Labels) -> dict[str, Any]:
        """{"loss": what training minimises, further terms}, for the logits that `forward` has just given."""
        return self.method.loss(self.vit, logits, labels)

    @property
    def backbone(self) -> ViT:
        """The plain backbone, bit for bit as it was passed in."""
        return self._backbone[0]

    @property
    def num_classes(self) -> int:
        return self.vit.num_classes

    @property
    def head_parameters(self) -> int:
        return sum(p.numel() for p in self.vit.head.parameters())

    @property
    def method_parameters(self) -> int:
        """Trained parameters without the head: the number that papers print."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad) - self.head_parameters

    def first_trainable_stage(self) -> int:
        """Index into `stages(model.vit)`: everything before it is frozen and can be computed once."""
        trained = [any(p.requires_grad for p in stage.parameters) for stage in stages(self.vit)]
        return trained.index(True)

    def adapter_state(self) -> dict[str, Tensor]:
        """All tensors that are not shared with the backbone: trained parameters, buffers of the method, the head."""
        shared = {id(t) for t in chain(self.backbone.parameters(), self.backbone.buffers())}
        return {name: t for name, t in self.vit.state_dict(keep_vars=True).items() if id(t) not in shared}

    def merge(self) -> ViT:
        """-> a plain timm VisionTransformer computing the same. Raises NotMergeable with the reason."""
        if self.method.not_mergeable:
            raise NotMergeable(f"{self.method.name} cannot be merged: {self.method.not_mergeable}")
        plain = copy.deepcopy(self.vit)
        with torch.no_grad():
            self.method.merge(plain)
        return plain.requires_grad_(False).eval()

    def detach(self) -> ViT:
        """-> the plain backbone, bit for bit as before `attach`."""
        return self.backbone

    def save(self, folder: str | Path) -> Path:
        """Write adapter.safetensors and adapter.json; the backbone's weights are never stored."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "adapter.safetensors", self.adapter_state())
        method = {"method": self.method.name, "options": self.method.options(), "num_classes": self.num_classes}
        base = {"backbone": self.backbone.peftlab_name, "fingerprint": fingerprint(self.backbone)}
        write_json(folder / "adapter.json", method | base)
        return folder


def attach(backbone: ViT, method: str | Method, num_classes: int, seed: int = 0, **options: Any) -> PeftModel:
    """Put a method around a frozen backbone -> PeftModel.

    method: a registered name with its options as keywords, or a Method. seed: of the head and the inserted modules.
    Raises PeftlabError for unknown names and impossible options.
    """
    if num_classes < 2:
        raise PeftlabError(f"num_classes is {num_classes}, but a classifier needs at least 2")
    if not isinstance(method, Method):
        method = create_method(method, **options)
    return PeftModel(backbone, method, num_classes, seed)


def load_adapter(backbone: ViT, folder: str | Path) -> PeftModel:
    """Rebuild a saved PeftModel on its backbone, bit for bit.

    Raises PeftlabError when files are missing, the backbone is another one, or tensors do not agree exactly.
    """
    folder = Path(folder)
    for name in ("adapter.json", "adapter.safetensors"):
        if not (folder / name).is_file():
            raise PeftlabError(f"{folder / name}: no such file. A saved adapter is a folder with both files")
    record = json.loads((folder / "adapter.json").read_text())
    if record["fingerprint"] != fingerprint(backbone):
        raise PeftlabError(
            f"{folder}: trained on backbone {record['backbone']!r} ({record['fingerprint']}), but this one is "
            f"{backbone.peftlab_name!r} ({fingerprint(backbone)}). Load that backbone"
        )
    model = attach(backbone, record["method"], record["num_classes"], **record["options"])
    file = folder / "adapter.safetensors"
    load_tensors(model.adapter_state(), read_tensors(file)[0], file)
    return model


def load_tensors(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], file: Path) -> None:
    """Copy stored tensors into those of a model. Raises PeftlabError unless names and shapes agree exactly."""
    missing, unexpected = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(state[name].shape)}"
        for name in state.keys() & tensors.keys()
        if tensors[name].shape != state[name].shape
    ]
    if missing or unexpected or wrong:
        raise PeftlabError(f"{file}: missing {missing}, unexpected {unexpected}, wrong shape {wrong}")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[name])
