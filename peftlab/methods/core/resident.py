"""Several adapters on one backbone, switched by name and added up with weights.

The frozen tensors are there once, whatever the number of adapters: each brings its own tensors and a head. Words are
those of HF peft (add_adapter, set_adapter, add_weighted_adapter) where they mean the same.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...backbones.identity import as_vit
from ...backbones.translation import Translated
from ...backbones.types import Images, Logits, Merged, ViT
from ...common.errors import NotMergeable, PeftlabError, Range, check_choice, located
from .load import load_adapter
from .model import PeftModel, share


class Adapters:
    """Adapters on one frozen backbone; calling it is calling the active one.

    active_adapter: its name, None as long as there is none. names: of all, in the order in which they came.

    >>> import torch
    >>> from peftlab import attach, load_backbone
    >>> backbone = load_backbone()
    >>> adapters = Adapters(backbone)
    >>> adapters.add_adapter("pets", attach(backbone, "lora", num_classes=37))
    >>> adapters.add_adapter("digits", attach(backbone, "norm", num_classes=10))  # or the folder of a saved one
    >>> adapters.set_adapter("digits")
    >>> adapters(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    >>> adapters.add_weighted_adapter("both", {"pets": 0.7, "digits": 0.3}, head="pets")
    >>> adapters.set_adapter("both")
    >>> adapters(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 37])
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = as_vit(backbone)
        self.active_adapter: str | None = None
        self._models: dict[str, PeftModel | Merged] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._models)

    def __getitem__(self, name: str) -> PeftModel | Merged:
        """A PeftModel, or the plain ViT that `add_weighted_adapter` made.

        Where the backbone was moved to another device, the adapter's own tensors follow.
        """
        check_choice("adapter", name, self._models)
        return self._models[name].to(next(self.backbone.parameters()).device)

    def __call__(self, images: Images) -> Logits:
        """Images [B, 3, H, W] -> logits [B, classes] of the active adapter."""
        if self.active_adapter is None:
            raise PeftlabError("there is no adapter yet; bring one with add_adapter")
        return self._models[self.active_adapter](images)

    def add_adapter(self, name: str, adapter: PeftModel | str | Path) -> None:
        """Take in a model attached to this very backbone, or the folder of a saved one. The first becomes active.

        Raises PeftlabError for a name that is taken and a model on another backbone, and as `load_adapter` does.
        """
        model = adapter if isinstance(adapter, PeftModel) else load_adapter(self.backbone, adapter)
        if model.backbone is not self.backbone:
            raise PeftlabError(
                f"adapter {name!r} is not attached to the backbone of these adapters; attach it to adapters.backbone, "
                "or give the folder in which it was saved"
            )
        self._add(name, model)

    def set_adapter(self, name: str) -> None:
        """Make an adapter the active one."""
        _ = self[name]  # known, and moved
        self.active_adapter = name

    def add_weighted_adapter(self, name: str, weights: Mapping[str, float], head: str | None = None) -> None:
        """A new adapter out of others: a plain ViT with weights W + sum_i w_i dW_i, where adapter i has W + dW_i.

        head: the adapter whose head it gets; the first, if none is named. Heads are never added, because each starts
        from random numbers of its own. What no adapter changes stays shared with the backbone. For LoRA, HF peft
        computes the same with combination_type="cat"; its "linear" weights A and B one by one, and so also adds
        products of one adapter's B with another's A.
        Raises NotMergeable, with the reason, if an adapter cannot be merged; PeftlabError for a name that is unknown
        or taken, and for a weight that is no finite number.
        """
        parts = [(each, self[each], weight) for each, weight in weights.items()]
        if not parts:
            raise PeftlabError(f"weights name no adapter for {name!r}; give at least one, as in {{'first': 0.5}}")
        for each, _, weight in parts:
            Range().check(f"weight of {each!r}", weight)
        changes: dict[str, Tensor] = {}
        for each, model, weight in parts:
            with located(each):
                for tensor, change in changes_of(model, self.backbone).items():
                    changes[tensor] = changes.get(tensor, 0) + weight * change
        self._add(name, changed(self.backbone, changes, self[head or parts[0][0]]))

    def _add(self, name: str, model: PeftModel | Merged) -> None:
        if name in self._models:
            raise PeftlabError(f"there is an adapter {name!r} already; take another name")
        self._models[name] = model
        self.active_adapter = self.active_adapter or name


@torch.no_grad()
def changes_of(model: PeftModel | Merged, backbone: ViT) -> dict[str, Tensor]:
    """{name: W' - W} of each tensor that a merged model changes in its backbone, without the head.

    Raises NotMergeable, with the reason, if the model cannot be merged into the backbone's tensors.
    """
    merged = as_vit(model.merge() if isinstance(model, PeftModel) else model)
    frozen, changes = dict(backbone.named_parameters()), {}
    for name, tensor in merged.named_parameters():
        if name.startswith("head."):
            continue
        if name not in frozen:
            raise NotMergeable(f"merged, it has {name}, which the backbone does not have")
        if not torch.equal(tensor, frozen[name]):
            changes[name] = tensor - frozen[name]
    return changes


@torch.no_grad()
def changed(backbone: ViT, changes: Mapping[str, Tensor], model: PeftModel | Merged) -> Merged:
    """The plain ViT with changed tensors and a copy of a model's head; all other tensors are the backbone's own."""
    vit, headed = share(backbone), model.vit if isinstance(model, PeftModel) else as_vit(model)
    vit.head, vit.num_classes = copy.deepcopy(headed.head), headed.num_classes
    for name, change in changes.items():
        parent, _, leaf = name.rpartition(".")
        setattr(vit.get_submodule(parent), leaf, nn.Parameter(backbone.get_parameter(name) + change))
    vit.requires_grad_(False).eval()
    return vit.timm() if isinstance(vit, Translated) else vit
