"""Explorers of what happens inside a ViT, which need no kernel."""

from .channels import two_stage
from .clusters import gift
from .drawn import DrawnScene
from .guided_walk import walk
from .tokens import attention
from .words import captioning

__all__ = ["DrawnScene", "attention", "captioning", "gift", "two_stage", "walk"]
