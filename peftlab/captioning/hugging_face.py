"""Causal language models of Hugging Face transformers as `CausalLM`s."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..common.errors import PeftlabError
from ..common.paths import expanded
from .interface import Cache, CausalLM, Embeddings, TokenNumbers


class HFTokenizer:
    """A Hugging Face tokenizer that adds neither begin nor end by itself."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer, self.eos = tokenizer, tokenizer.eos_token_id
        if self.eos is None:
            raise PeftlabError(f"{name}: its tokenizer has no end-of-text token, so no caption could end")
        self.bos = self.eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()


class HFLanguageModel(CausalLM):
    """Any causal model that `AutoModelForCausalLM` loads from safetensors or GGUF.

    name: an id of the hub, a folder, or a .gguf file. No code that comes with a model is run, no pickle is read.
    Raises PeftlabError when transformers is missing, the model cannot be loaded, lacks weights, or has no context
    length or no list of decoder blocks.
    """

    model: Any  # of a class of transformers; the blocks are a part of it

    def __init__(self, name: str) -> None:
        super().__init__()
        path = expanded(name)
        gguf = path.suffix == ".gguf"
        self.peftlab_name = path.stem if gguf else path.name  # "Llama-3.2-1B" has no ending
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise PeftlabError(f"{name!r} needs transformers: pip install 'peftlab[multimodal]'") from None
        place, file = (path.parent, {"gguf_file": path.name}) if gguf else (path if path.is_dir() else name, {})
        how: dict[str, Any] = file or {"use_safetensors": True}
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, **file)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place, dtype=torch.float32, output_loading_info=True, **how
            )
        except Exception as error:  # of many kinds: safetensors has its own, tokenizers plain Exceptions
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise PeftlabError(
                f"cannot load the language model {name!r}: {reason.rstrip('.')}. Give a hub id that can be "
                "reached, a folder with safetensors and tokenizer, a .gguf file, or 'peftlab_lm_tiny'"
            ) from error
        self.model, loading = loaded
        kind, missing = type(self.model).__name__, sorted(loading["missing_keys"])
        if missing:  # transformers draws them at random; tied ones are not among them
            raise PeftlabError(
                f"{name!r} lacks {len(missing)} weights of {kind}, {missing[0]} among them. Get a whole copy of it"
            )
        # transformers has renamed past_key_values, and takes it under the old name until 5.40
        self.cache_name = "cache" if "cache" in inspect.signature(self.model.forward).parameters else "past_key_values"
        self.tokenizer = HFTokenizer(tokenizer, name)
        length: int | None = getattr(self.model.config, "max_position_embeddings", None)
        if length is None:
            raise PeftlabError(
                f"{name!r}: {kind} has no max_position_embeddings, which says how long a text may be. "
                "Take a model of the Llama, OPT or GPT-2 kind"
            )
        self.context_length = length
        self.embedding_width = self.model.get_input_embeddings().embedding_dim
        for module in list(self.model.modules()):
            for child, layer in list(module.named_children()):
                if type(layer).__name__ == "Conv1D":  # GPT-2's linear layers, stored transposed
                    setattr(module, child, _linear(layer))
        lists = [m for m in self.model.modules() if isinstance(m, nn.ModuleList)]
        blocks = next((each for each in lists if len(each) == self.model.config.num_hidden_layers), None)
        if not blocks:
            raise PeftlabError(f"{name!r}: found no list of decoder blocks in {kind}")
        self.__dict__["blocks"] = blocks  # past nn.Module, so that the blocks are not registered a second time

    def embed(self, tokens: TokenNumbers) -> Embeddings:
        return self.model.get_input_embeddings()(tokens)

    def forward(
        self, embeddings: Embeddings, cache: Cache = None, last: int | None = None
    ) -> tuple[Float[Tensor, "batch last words"], Cache]:
        known: dict[str, Any] = {"inputs_embeds": embeddings, self.cache_name: cache}
        out = self.model(**known, use_cache=True, logits_to_keep=last or 0)
        return out.logits, out[self.cache_name]

    def attention(self, embeddings: Embeddings) -> list[Float[Tensor, "batch heads tokens tokens"]]:
        usual = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")  # the fused kernels never form the weights
        try:
            out = self.model(inputs_embeds=embeddings, use_cache=False, output_attentions=True, logits_to_keep=1)
        finally:
            self.model.set_attn_implementation(usual)
        return list(out.attentions)

    @staticmethod
    def pick(cache: Cache, rows: Int64[Tensor, " rows"]) -> Cache:
        cache.reorder_cache(rows)
        return cache


def _linear(conv: Any) -> nn.Linear:
    """GPT-2's Conv1D as the nn.Linear that computes the same."""
    linear = nn.Linear(*conv.weight.shape)
    linear.weight, linear.bias = nn.Parameter(conv.weight.detach().T.contiguous()), conv.bias
    return linear
