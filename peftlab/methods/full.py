"""Full fine-tuning: every weight is trained, or every weight from a chosen block on.

Idea: the most flexible and most expensive choice; one whole copy of the model per task.
Parameters besides the head: all of the backbone's (85,798,656 for ViT-B/16); with last_blocks k those of k blocks and
the final norm, which is also known as partial fine-tuning.
Start: the pre-trained weights. Merging: nothing to do, the result is a plain ViT.
Source: the standard transfer-learning baseline.
"""

from dataclasses import dataclass

from ..backbones.types import ViT
from .core.base import Method, register, unfreeze


@register("full")
@dataclass(frozen=True)
class Full(Method):
    title = "Full fine-tuning"
    idea = "train everything"
    family = "selective"
    source = "standard baseline"
    lr = 2e-4

    def apply(self, vit: ViT) -> None:
        for part in self.trunk(vit):
            for module in part.modules():
                if module is not vit.head:
                    unfreeze(module, *[name for name, _ in module.named_parameters(recurse=False)])

    def count(self, backbone: ViT) -> int:
        head = sum(p.numel() for p in backbone.head.parameters()) if self.last_blocks is None else 0
        return sum(p.numel() for part in self.trunk(backbone) for p in part.parameters()) - head
