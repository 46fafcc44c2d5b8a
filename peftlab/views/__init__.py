"""Pictures: axes in, Axes out; pictures of many axes return their Figure."""

from ..analysis.attention import attention_maps, rollout
from ..analysis.changes import block_changes, gradient_flow, weight_change
from . import captioning, comparison, gift, gist, protocols, two_stage
from .attention_overlay import attention
from .block_diagram import block, blocks
from .changes import change_map, gradient_map
from .explorer import explore
from .runs import accuracies, costs, curves, parameters_accuracy
from .style import PALETTE, method_color
from .task_samples import class_balance, samples
from .tokens import feature_plane, patch_pca, patch_tokens

__all__ = [
    "PALETTE",
    "accuracies",
    "attention",
    "attention_maps",
    "block",
    "block_changes",
    "blocks",
    "captioning",
    "comparison",
    "change_map",
    "class_balance",
    "costs",
    "curves",
    "explore",
    "feature_plane",
    "gift",
    "gist",
    "gradient_flow",
    "gradient_map",
    "method_color",
    "parameters_accuracy",
    "patch_pca",
    "patch_tokens",
    "protocols",
    "rollout",
    "samples",
    "two_stage",
    "weight_change",
]
