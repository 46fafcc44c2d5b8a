"""Explorers of what happens inside a ViT, which need no kernel."""

from .guided_walk import walk
from .tokens import attention

__all__ = ["attention", "walk"]
