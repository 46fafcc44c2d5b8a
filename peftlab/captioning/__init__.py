"""Captioning with a frozen ViT and a frozen language model: Context-PEFT as its paper has it."""

from ..tasks.captions import load_captions
from .captioner import Captioner
from .generation import generate, write_captions
from .load import load_language_model
from .metrics import attribute_accuracy, caption_scores, evaluate, text_loss, word_accuracy
from .training import fit, load_scenes_captioner

__all__ = [
    "Captioner",
    "attribute_accuracy",
    "caption_scores",
    "evaluate",
    "fit",
    "generate",
    "load_captions",
    "load_language_model",
    "load_scenes_captioner",
    "text_loss",
    "word_accuracy",
    "write_captions",
]
