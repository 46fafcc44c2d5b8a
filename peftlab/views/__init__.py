"""Pictures: axes in, Axes out; pictures of many axes return their Figure."""

from . import captioning, claims, comparison, evidence, gift, gist, protocols, two_stage
from .attention_overlay import attention
from .block_diagram import block, blocks
from .changes import change_map, gradient_map
from .explorer import explore
from .figures import show
from .runs import accuracies, costs, curves, parameters_accuracy
from .style import PALETTE, method_color, method_style
from .task_samples import class_balance, samples
from .tokens import feature_plane, patch_pca

__all__ = [
    "PALETTE",
    "accuracies",
    "attention",
    "block",
    "blocks",
    "captioning",
    "change_map",
    "claims",
    "class_balance",
    "comparison",
    "costs",
    "curves",
    "evidence",
    "explore",
    "feature_plane",
    "gift",
    "gist",
    "gradient_map",
    "method_color",
    "method_style",
    "parameters_accuracy",
    "patch_pca",
    "protocols",
    "samples",
    "show",
    "two_stage",
]
