"""Where adapters go in a language model: its linear layers by role, and the contexts of its tokens."""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..common.errors import PeftlabError
from ..methods.core.contexts import WHOLE, Site, targeted
from ..methods.core.layers import QKV
from .interface import CausalLM

# The ends of layer names in the embedded model, Llama and its relatives (SmolLM, Mistral, Qwen), OPT and GPT-2; whole
# between dots, because the fused "qkv_proj" of Phi-3 is no "v_proj".
ROLES = {
    "q": ("attn.q", "q_proj"),
    "k": ("attn.k", "k_proj"),
    "v": ("attn.v", "v_proj"),
    "qkv": ("attn.c_attn",),
    "o": ("attn.o", "o_proj", "out_proj", "attn.c_proj"),
    "gate": ("gate_proj",),
    "up": ("mlp.up", "up_proj", "fc1", "c_fc"),
    "down": ("mlp.down", "down_proj", "fc2", "mlp.c_proj"),
}


class GivenContexts(nn.Module):
    """The contexts of the tokens that are passing through: `numbers`, set before, in 0 .. count - 1."""

    numbers: Int64[Tensor, "*batch tokens"] | None

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.numbers = count, None

    def forward(self, x: Float[Tensor, "... tokens width"]) -> Float[Tensor, "... tokens contexts"]:
        """-> 0/1 mask, one 1 a token."""
        numbers = self.numbers
        assert numbers is not None, "the captioner gives contexts before it reads"
        if x.ndim == 2:  # OPT lays the tokens of all sequences one below another for its MLP
            numbers = numbers.expand(len(x) // numbers.shape[-1], -1).flatten()
        return F.one_hot(numbers, self.count).to(x.dtype)


def sites(lm: CausalLM, targets: str = "both") -> list[Site]:
    """(block, {path: (targets, role)}) for every block of a language model, as `methods.core.contexts` reads them.

    targets: "attention", "ffn" or "both".

    Raises PeftlabError for linear layers whose names tell no role, and for fused ones that are not q, k and v alike.

    >>> from peftlab.captioning import load_language_model
    >>> block, layers = sites(load_language_model())[0]
    >>> {path: role for path, (_, role) in layers.items()}
    {'attn.q': 'q', 'attn.k': 'k', 'attn.v': 'v', 'attn.o': 'o', 'mlp.up': 'up', 'mlp.down': 'down'}
    """
    return [(block, targeted(_layers(block, lm), targets)) for block in lm.blocks]


def _layers(block: nn.Module, lm: CausalLM) -> dict[str, tuple[tuple[str, ...], str]]:
    linear = {path: module for path, module in block.named_modules() if isinstance(module, nn.Linear)}
    role = {path: _role(path) for path in linear}
    strange = [path for path in linear if role[path] is None]
    if strange or "down" not in role.values():
        known = ", ".join(end for ends in ROLES.values() for end in ends)
        raise PeftlabError(
            f"{lm.peftlab_name}: cannot tell what the layers {', '.join(strange or linear)} of {type(block).__name__} "
            f"do. Known names end with: {known}. Take a model of the Llama, OPT or GPT-2 kind"
        )
    for path, layer in linear.items():
        if role[path] == "qkv" and layer.out_features != 3 * layer.in_features:
            raise PeftlabError(
                f"{lm.peftlab_name}: {path} of {type(block).__name__} makes {layer.out_features} numbers of "
                f"{layer.in_features}, so they are not q, k and v alike. Take a model of the Llama, OPT or GPT-2 kind"
            )
    return {path: (QKV if r == "qkv" else WHOLE, r) for path, r in role.items() if r}


def _role(path: str) -> str | None:
    return next((role for role, ends in ROLES.items() if any(f".{path}".endswith(f".{end}") for end in ends)), None)
