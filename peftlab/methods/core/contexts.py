"""Adapters by context: the layers in which every token meets the parameters of its own context, and how they get in.

A context mask is what `contexts(x)` gives for activations x [B, N, width]: 0/1, [N, C] or [B, N, C], one 1 a token.
A site is one layer of a block: {path: (targets, role)}, the role being 'qkv', 'q', 'k', 'v', 'o', 'gate', 'up' or
'down', the targets those of a LoRALinear. They serve ViTs and language models alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...common.errors import NotMergeable
from ..lora import LoRALinear, rows
from .layers import After, Before

KINDS = ("lora", "bitfit", "ia3")
ATTENTION, FFN = ("qkv", "q", "k", "v", "o"), ("gate", "up", "down")
TARGETS = {"attention": ATTENTION, "ffn": FFN, "both": ATTENTION + FFN}  # {choice: the roles that it changes}
WHOLE = ("all",)  # the target of a layer that is not the fused q, k and v

Site: TypeAlias = tuple[Any, Mapping[str, tuple[Sequence[str], str]]]


class ContextLoRA(LoRALinear):
    """LoRA of rank C rank in which every token passes its own `rank` of them. contexts: x -> mask [.., N, C]."""

    def __init__(self, base: nn.Linear, targets: Sequence[str], rank: int, contexts: Any) -> None:
        super().__init__(base, targets, rank * contexts.count, scale=1.0)
        self.rank, self.contexts = rank, contexts

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch height"]:
        own = self.contexts(x).repeat_interleave(self.rank, -1)
        inner = (x @ self.down().T) * torch.cat([own] * len(self.rows), -1)
        return self.base(x) + inner @ self.up().T


class ContextVector(nn.Module):
    """x [.., N, width] -> x + v_c or x * v_c on some of its rows. v [C, rows]; starts without effect."""

    def __init__(self, width: int, rows: Sequence[slice], contexts: Any, multiply: bool) -> None:
        super().__init__()
        self.width, self.rows, self.contexts, self.multiply = width, rows, contexts, multiply
        size = sum(r.stop - r.start for r in rows)
        self.v = nn.Parameter(torch.full((contexts.count, size), float(multiply)))

    def vectors(self) -> Float[Tensor, "contexts width"]:
        """[C, width]: those without effect filled in."""
        parts = self.v.split([r.stop - r.start for r in self.rows], dim=1)
        whole = self.v.new_full((len(self.v), self.width), float(self.multiply))
        for r, part in zip(self.rows, parts, strict=True):
            whole = torch.cat([whole[:, : r.start], part, whole[:, r.stop :]], dim=1)
        return whole

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        own = self.contexts(x) @ self.vectors()
        return x * own if self.multiply else x + own


def targeted(layers: Mapping[str, tuple[Sequence[str], str]], targets: str) -> dict[str, tuple[Sequence[str], str]]:
    """Those layers of a site that a choice of targets changes.

    >>> targeted({"attn.proj": (WHOLE, "o"), "mlp.fc1": (WHOLE, "up")}, "ffn")
    {'mlp.fc1': (('all',), 'up')}
    """
    return {path: (names, role) for path, (names, role) in layers.items() if role in TARGETS[targets]}


def spans(kind: str, targets: Sequence[str], role: str, layer: Any) -> list[slice]:
    """The rows of a layer that a kind of adapter changes, as slices; of 'down' under ia3, the columns.

    >>> spans("ia3", ["q", "k", "v"], "qkv", nn.Linear(4, 12))
    [slice(4, 8, None), slice(8, 12, None)]
    """
    if kind != "ia3":
        return [rows(t, layer) for t in targets]
    if role == "down":
        return [slice(0, layer.in_features)]
    return [rows(t, layer) for t in targets if t in ("k", "v") or role in ("k", "v")]


def insert(kind: str, rank: int, sites: Sequence[Site], contexts: nn.Module) -> None:
    """Put adapters into layers, in place. sites: (block, {path: (targets, role)}) each."""
    for block, layers in sites:
        for path, (targets, role) in layers.items():
            layer = block.get_submodule(path)
            changed = spans(kind, targets, role, layer)
            if kind == "lora":
                block.set_submodule(path, ContextLoRA(layer, targets, rank, contexts))
            elif kind == "ia3" and role == "down":
                block.set_submodule(path, Before(layer, ContextVector(layer.in_features, changed, contexts, True)))
            elif changed:
                vector = ContextVector(layer.out_features, changed, contexts, kind == "ia3")
                block.set_submodule(path, After(layer, vector))


def count_one(kind: str, rank: int, sites: Sequence[Site]) -> int:
    """Parameters of one context, from the shapes of plain layers."""
    total = 0
    for block, layers in sites:
        for path, (targets, role) in layers.items():
            layer = block.get_submodule(path)
            changed = [s.stop - s.start for s in spans(kind, targets, role, layer)]
            total += sum(rank * (layer.in_features + n) if kind == "lora" else n for n in changed)
    return total


def merge_one(sites: Sequence[Site]) -> None:
    """Write adapters of a single context into plain weights, in place."""
    for block, layers in sites:
        for path in layers:
            layer = block.get_submodule(path)
            if isinstance(layer, ContextLoRA):
                layer.base.weight += layer.delta()
            elif isinstance(layer, Before):
                layer.base.weight *= layer.before.vectors()[0]
            elif isinstance(layer, After):
                _merge_vector(layer.base, layer.after)
            else:
                continue  # a layer that this kind leaves alone
            block.set_submodule(path, layer.base)


def _merge_vector(base: Any, vector: Any) -> None:
    (v,) = vector.vectors()
    if vector.multiply:
        base.weight *= v[:, None]
        if base.bias is not None:
            base.bias *= v
    elif base.bias is None:
        raise NotMergeable("this backbone's layer has no bias, into which the trained one could be merged")
    else:
        base.bias += v
