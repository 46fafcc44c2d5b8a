"""Pictures: axes in, Axes out; pictures of many axes return their Figure."""

from . import (
    answers,
    captioning,
    claims,
    comparison,
    evidence,
    gift,
    gist,
    importance,
    inside,
    logit_lens,
    own_images,
    protocols,
    scale,
    two_stage,
)
from .attention_overlay import attention, attention_grid
from .block_diagram import block, blocks
from .changes import change_maps, gradient_maps
from .explorer import explore
from .figures import show
from .runs import costs, curves, parameters_accuracy, trained_shares
from .style import PALETTE, method_color, method_style
from .task_samples import class_balance, samples
from .tokens import feature_plane, patch_pca

__all__ = [
    "PALETTE",
    "answers",
    "attention",
    "attention_grid",
    "block",
    "blocks",
    "captioning",
    "change_maps",
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
    "gradient_maps",
    "importance",
    "inside",
    "logit_lens",
    "method_color",
    "method_style",
    "own_images",
    "parameters_accuracy",
    "patch_pca",
    "protocols",
    "samples",
    "scale",
    "show",
    "trained_shares",
    "two_stage",
]
