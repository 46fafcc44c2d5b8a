"""Language models by name: the embedded one, or any causal model of Hugging Face transformers."""

from pathlib import Path

from ..common.files import read_tensors, write_tensors
from ..common.paths import REPOSITORY
from .language_model import LanguageModel
from .tokens import WordTokenizer

SCENES_CAPTIONER = REPOSITORY / "data" / "captioners" / "scenes"
EMBEDDED = {"peftlab_lm_tiny": REPOSITORY / "data" / "language_models" / "peftlab_lm_tiny.safetensors"}


def load_language_model(name="peftlab_lm_tiny"):
    """A frozen causal language model in eval mode.

    name: 'peftlab_lm_tiny' (embedded), a Hugging Face id, a folder with a model and its tokenizer, or a .gguf file;
    the last three need `pip install 'peftlab[multimodal]'`. Raises PeftlabError when it cannot be had.
    """
    if name in EMBEDDED:
        tensors, stored = read_tensors(EMBEDDED[name])
        model = LanguageModel(WordTokenizer(stored["words"]), **stored["architecture"])
        model.load_state_dict({key: t.float() for key, t in tensors.items()})
    else:
        from .hugging_face import HFLanguageModel

        model = HFLanguageModel(name)
    model.peftlab_name = name if name in EMBEDDED else Path(name).stem
    return model.requires_grad_(False).eval()


def save_language_model(model, file):
    """Write an embedded model as fp16 safetensors with its words and shape."""
    first = model.blocks[0]
    architecture = {
        "width": model.embedding_width,
        "depth": len(model.blocks),
        "heads": first.attn.heads,
        "hidden": first.mlp.down.in_features,
        "context_length": model.context_length,
    }
    stored = {"architecture": architecture, "words": model.tokenizer.words[2:]}
    write_tensors(file, {name: t.half() for name, t in model.state_dict().items()}, stored)
