"""What every method needs on the way: what HF peft has put into a ViT, and where inserted modules stand."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import nn

from ....backbones.types import ViT
from ....common.errors import PeftlabError
from ... import attach
from ..layers import LINEARS
from ..model import PeftModel

TARGETS = {path: name for name, path in LINEARS.items()}
M = TypeVar("M", bound=nn.Module)


class Found(NamedTuple):
    """An adapter of HF peft in its folder, and a ViT with it, as HF peft has built it around this backbone."""

    backbone: ViT
    vit: ViT
    config: Any
    folder: Path

    def layers(self, attribute: str) -> dict[str, Any]:
        """{name: module} of what HF peft has inserted, by an attribute that only these modules have."""
        return {name: m for name, m in self.vit.named_modules() if hasattr(m, attribute)}

    def attach(self, method: str, **options: Any) -> PeftModel:
        """Our method on the same backbone, for as many classes."""
        return attach(self.backbone, method, self.vit.num_classes, **options)


def changed(model: PeftModel, *types: type[M]) -> dict[str, M]:
    """{name: module} of a tuned ViT's inserted modules of some types."""
    return {name: m for name, m in model.vit.named_modules() if isinstance(m, types)}


def target_of(name: str) -> str:
    """Our name of a changed layer.

    >>> target_of("blocks.3.mlp.fc1")
    'fc1'
    """
    return TARGETS[name.split(".", 2)[2]]


def placed(names: Iterable[str], found: Found) -> tuple[tuple[str, ...], int | None]:
    """-> (targets, last_blocks). Raises PeftlabError unless the last blocks are all changed alike."""
    changed_blocks: dict[str, set[int]] = {}
    for name in names:
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if match is None or match[2] not in TARGETS:
            raise PeftlabError(f"{found.folder}: it changes {name}; we know {', '.join(TARGETS)} of the blocks")
        changed_blocks.setdefault(match[2], set()).add(int(match[1]))
    depth, first = len(found.backbone.blocks), min(map(min, changed_blocks.values()))
    if any(blocks != set(range(first, depth)) for blocks in changed_blocks.values()):
        raise PeftlabError(
            f"{found.folder}: it changes other layers in some of the blocks {first} to {depth - 1} than in others"
        )
    return tuple(TARGETS[path] for path in changed_blocks), None if first == 0 else depth - first
