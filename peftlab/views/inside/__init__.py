"""Explorers of what happens inside a ViT, which need no kernel."""

from .tokens import attention

__all__ = ["attention"]
