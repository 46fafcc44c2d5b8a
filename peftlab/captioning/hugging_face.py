"""Causal language models of Hugging Face transformers behind the names of `LanguageModel`."""

from pathlib import Path

import torch
from torch import nn

from ..common.errors import PeftlabError


class HFTokenizer:
    """A Hugging Face tokenizer that adds neither begin nor end by itself."""

    def __init__(self, tokenizer, name):
        self.tokenizer, self.eos = tokenizer, tokenizer.eos_token_id
        if self.eos is None:
            raise PeftlabError(f"{name}: its tokenizer has no end-of-text token, so no caption could end")
        self.bos = self.eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, tokens):
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()


class HFLanguageModel(nn.Module):
    """Any causal model that `AutoModelForCausalLM` loads from safetensors or GGUF; see `LanguageModel`.

    name: an id of the hub, a folder, or a .gguf file. No code that comes with a model is run, no pickle is read.
    Raises PeftlabError when transformers is missing, the model cannot be loaded, or has no list of decoder blocks.
    """

    def __init__(self, name):
        super().__init__()
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise PeftlabError(f"{name!r} needs transformers: pip install 'peftlab[multimodal]'") from None
        path = Path(name).expanduser()
        place, options = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (name, {})
        how = options if options else {"use_safetensors": True}
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
            self.model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **how)
        except (OSError, ValueError, ImportError) as error:
            raise PeftlabError(
                f"cannot load the language model {name!r}: {str(error).splitlines()[0]} Give a hub id that can be "
                "reached, a folder with safetensors and tokenizer, a .gguf file, or 'peftlab_lm_tiny'"
            ) from error
        self.tokenizer = HFTokenizer(tokenizer, name)
        self.context_length = self.model.config.max_position_embeddings
        self.embedding_width = self.model.get_input_embeddings().embedding_dim
        for module in list(self.model.modules()):
            for child, layer in list(module.named_children()):
                if type(layer).__name__ == "Conv1D":  # GPT-2's linear layers, stored transposed
                    setattr(module, child, _linear(layer))
        if not self.blocks:
            raise PeftlabError(f"{name!r}: found no list of decoder blocks in {type(self.model).__name__}")

    @property
    def blocks(self):
        """The decoder blocks, first to last."""
        lists = [m for m in self.model.modules() if isinstance(m, nn.ModuleList)]
        depth = self.model.config.num_hidden_layers
        return next((blocks for blocks in lists if len(blocks) == depth), [])

    def embed(self, tokens):
        return self.model.get_input_embeddings()(tokens)

    def forward(self, embeddings, cache=None, last=None):
        out = self.model(
            inputs_embeds=embeddings, past_key_values=cache, use_cache=True, logits_to_keep=0 if last is None else last
        )
        return out.logits, out.past_key_values

    def attention(self, embeddings):
        usual = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")  # the fused kernels never form the weights
        try:
            out = self.model(inputs_embeds=embeddings, use_cache=False, output_attentions=True, logits_to_keep=1)
        finally:
            self.model.set_attn_implementation(usual)
        return list(out.attentions)

    @staticmethod
    def pick(cache, rows):
        cache.reorder_cache(rows)
        return cache


def _linear(conv):
    """GPT-2's Conv1D as the nn.Linear that computes the same."""
    linear = nn.Linear(*conv.weight.shape)
    linear.weight, linear.bias = nn.Parameter(conv.weight.detach().T.contiguous()), conv.bias
    return linear
