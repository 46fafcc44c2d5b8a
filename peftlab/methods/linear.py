"""Linear probe: only the head is trained.

Idea: ask what the frozen features already know.
Equation: logits = W f(x) + b with f frozen, W in R^{K x D}.
Parameters besides the head: 0. Start: features are the backbone's. Merging: nothing to do.
Source: the standard transfer-learning baseline.
"""

from dataclasses import dataclass
from typing import ClassVar

from ..backbones.types import ViT
from .core.base import Method, register


@register("linear")
@dataclass(frozen=True)
class Linear(Method):
    last_blocks: ClassVar[None] = None  # type: ignore[misc]  # no option: no block is changed

    title = "Linear probe"
    idea = "train the head only"
    family = "selective"
    source = "standard baseline"
    lr = 1e-2

    def apply(self, vit: ViT) -> None:
        """Nothing to insert: the head is trainable already."""

    def count(self, backbone: ViT) -> int:
        return 0
