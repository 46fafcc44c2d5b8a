"""Pictures: axes in, Axes out; pictures of many axes return their Figure."""

from . import captioning, comparison, gift, gist, protocols, two_stage
from .attention import attention, attention_maps, rollout
from .block import block, block_changes, blocks
from .change import change_map, gradient_flow, gradient_map, weight_change
from .explorer import explore
from .results import accuracies, costs, curves, parameters_accuracy
from .samples import class_balance, samples
from .style import PALETTE, method_color
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
