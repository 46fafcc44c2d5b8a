"""Full fine-tuning: every weight is trained.

Idea: the most flexible and most expensive choice; one whole copy of the model per task.
Parameters besides the head: all of the backbone's (85,798,656 for ViT-B/16).
Start: the pre-trained weights. Merging: nothing to do, the result is a plain ViT.
Source: the standard transfer-learning baseline.
"""

from dataclasses import dataclass

from .base import Method, register, unfreeze


@register("full")
@dataclass(frozen=True)
class Full(Method):
    title = "Full fine-tuning"
    idea = "train everything"
    source = "standard baseline"
    lr = 2e-4

    def apply(self, vit):
        for module in vit.modules():
            if module is not vit.head:
                unfreeze(module, *[name for name, _ in module.named_parameters(recurse=False)])

    def count(self, vit):
        return sum(p.numel() for name, p in vit.named_parameters() if not name.startswith("head."))
