"""Language models by name: the embedded one, or any causal model of Hugging Face transformers."""

from pathlib import Path
from typing import Any

from ..backbones.identity import fingerprint
from ..common.paths import REPOSITORY
from ..common.tensors import read_tensors, write_tensors
from ..common.used import note_use
from .interface import CausalLM
from .language_model import DecoderBlock, LanguageModel
from .tokens import WordTokenizer

SCENES_CAPTIONER = REPOSITORY / "data" / "captioners" / "scenes"
EMBEDDED = {"peftlab_lm_tiny": REPOSITORY / "data" / "language_models" / "peftlab_lm_tiny.safetensors"}


def load_language_model(name: str = "peftlab_lm_tiny") -> CausalLM:
    """A frozen causal language model in eval mode.

    name: 'peftlab_lm_tiny' (embedded), a Hugging Face id, a folder with a model and its tokenizer, or a .gguf file;
    the last three need `pip install 'peftlab[multimodal]'`. Raises PeftlabError when it cannot be had.

    >>> lm = load_language_model()
    >>> lm.context_length, lm.embedding_width, len(lm.blocks)
    (128, 192, 4)
    """
    if name not in EMBEDDED:
        from .hugging_face import HFLanguageModel

        return _frozen(HFLanguageModel(name))
    tensors, stored = read_tensors(EMBEDDED[name])
    model = LanguageModel(WordTokenizer(stored["words"]), **stored["architecture"])
    model.load_state_dict({key: t.float() for key, t in tensors.items()})
    model.peftlab_name = name
    return _frozen(model)


def _frozen(model: Any) -> CausalLM:
    note_use("language model", model.peftlab_name, lambda: fingerprint(model))
    return model.requires_grad_(False).eval()


def save_language_model(model: LanguageModel, file: str | Path) -> None:
    """Write an embedded model as fp16 safetensors with its words and shape."""
    first = model.blocks[0]
    assert isinstance(first, DecoderBlock)
    architecture = {
        "width": model.embedding_width,
        "depth": len(model.blocks),
        "heads": first.attn.heads,
        "hidden": first.mlp.down.in_features,
        "context_length": model.context_length,
    }
    stored = {"architecture": architecture, "words": model.tokenizer.words[2:]}
    write_tensors(file, {name: t.half() for name, t in model.state_dict().items()}, stored)
