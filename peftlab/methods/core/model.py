"""The tuned model: a frozen backbone with a method's change and a head."""

import copy
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...backbones.identity import as_vit, describe, digest
from ...backbones.stages import stages
from ...backbones.swin import SwinViT
from ...backbones.translation import Translated
from ...backbones.types import Images, Labels, Logits, Merged, ViT
from ...common.errors import SEEDS, NotMergeable, PeftlabError, located
from ...common.files import write_json
from ...common.tensors import write_tensors
from .base import Method, create_method

LARGEST_HEAD = 100_000  # classes; ImageNet-21K has 21,841


def share(vit: Any, frozen: Any = None) -> Any:
    """A copy of a ViT with its own modules but the very same tensors; only those of `frozen`, where it is given."""
    kept = vit if frozen is None else frozen
    return copy.deepcopy(vit, {id(t): t for t in chain(kept.parameters(), kept.buffers())})


class PeftModel(nn.Module):
    """A frozen backbone with a method's change and a fresh head; `model.vit` is a timm VisionTransformer.

    The backbone that was passed in is frozen and never changed: frozen tensors are shared with it (so moving the model
    to a device moves them too, and another precision is refused), trained ones are private.
    classes: their names, in the order of the head's outputs; trained_by: the spec of its last training and the digest
    that it had then; both once `fit` has trained it.
    """

    def __init__(self, backbone: ViT, method: Method, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        self.method = method
        self.classes: tuple[str, ...] | None = None
        self.trained_by: tuple[Any, str] | None = None
        self._backbone = (backbone,)  # in a tuple, so that its parameters are not registered a second time
        self.vit = share(backbone).requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.vit.reset_classifier(num_classes)
            nn.init.trunc_normal_(self.vit.head.weight, std=0.02)
            nn.init.zeros_(self.vit.head.bias)
            method.apply(self.vit)
        self.vit.peftlab_method = method.name
        like = next(backbone.parameters())
        for t in self.adapter_state().values():
            if t.is_floating_point():
                t.data = t.data.to(like.dtype)
        self.to(like.device).eval()

    def forward(self, x: Images) -> Logits:
        """Images [B, 3, H, W] -> logits [B, classes]."""
        return self.vit(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PeftModel":
        """What `to`, `half`, `double`, ... do. Raises PeftlabError for another precision."""
        for t in (next(self.vit.parameters()), self.vit.head.weight):
            if fn(t.detach()[:0]).dtype != t.dtype:
                raise PeftlabError(
                    "the frozen weights are shared with the backbone and every model on it, so the precision of one "
                    "cannot be changed; convert the backbone before attaching, or the plain ViT of merge()"
                )
        return super()._apply(fn, recurse)

    def loss(self, logits: Logits, labels: Labels, label_smoothing: float = 0.0) -> dict[str, Any]:
        """{"loss": what training minimises, further terms}, for the logits that `forward` has just given."""
        smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}  # not all methods take it
        return self.method.loss(self.vit, logits, labels, **smoothing)

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

    def digest(self) -> str:
        """12 hex digits over `adapter_state` and which parameters are trained: changes with every step of training."""
        return digest(self.adapter_state(), [name for name, p in self.vit.named_parameters() if p.requires_grad])

    def merge(self) -> Merged:
        """-> a plain timm VisionTransformer, or Eva, computing the same. Raises NotMergeable with the reason."""
        if self.method.not_mergeable:
            raise NotMergeable(f"{self.method.name} cannot be merged: {self.method.not_mergeable}")
        plain = copy.deepcopy(self.vit)
        with torch.no_grad(), located(self.method.name):
            self.method.merge(plain)
            del plain.peftlab_method
            plain = plain.requires_grad_(False).eval()
            return plain.timm() if isinstance(plain, Translated) else plain

    def detach(self) -> ViT:
        """-> the plain backbone, bit for bit as before `attach`."""
        return self.backbone

    def save(self, folder: str | Path) -> Path:
        """Write adapter.safetensors and adapter.json; the backbone's weights are never stored.

        Raises FloatingPointError where a tensor holds NaN or infinity.
        """
        folder, tensors = Path(folder), self.adapter_state()
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise FloatingPointError(f"{folder}: {name} holds NaN or infinity, so nothing was saved. Lower lr")
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "adapter.safetensors", tensors)
        method = {"method": self.method.name, "options": self.method.options()}
        head = {"num_classes": self.num_classes, "classes": self.classes}
        write_json(folder / "adapter.json", method | head | {"backbone": describe(self.backbone)})
        return folder


def fits(backbone: nn.Module, method: Method) -> bool:
    """Whether a method goes on a backbone: not all do on a ViT of windows."""
    return not (isinstance(backbone, SwinViT) and method.not_on_windows)


def attach(backbone: nn.Module, method: str | Method, num_classes: int, seed: int = 0, **options: Any) -> PeftModel:
    """Put a method around a frozen backbone -> PeftModel.

    method: a registered name with its options as keywords, or a Method. seed: of the head and the inserted modules.
    A timm Eva is written as a VisionTransformer first, `model.backbone`.
    Raises PeftlabError for what is neither, unknown names and impossible options.
    """
    if not 2 <= num_classes <= LARGEST_HEAD:
        raise PeftlabError(f"num_classes is {num_classes}, but a classifier has between 2 and {LARGEST_HEAD}")
    SEEDS.check("seed", seed)
    backbone = as_vit(backbone)
    if not isinstance(method, Method):
        method = create_method(method, **options)
    elif options:
        raise PeftlabError(f"{method.name} has its options already, so {', '.join(options)} cannot be given beside it")
    for each in (method, method.base_method):
        if each is not None and not fits(backbone, each):
            raise PeftlabError(
                f"{each.name} cannot be put on a ViT of windows: {each.not_on_windows}; lora, adapter, ssf or norm can"
            )
    return PeftModel(backbone, method, num_classes, seed)
