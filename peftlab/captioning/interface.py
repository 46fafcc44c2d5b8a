"""What captioning asks of a language model and of its tokenizer; `LanguageModel` and `HFLanguageModel` offer it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor, nn

Cache: TypeAlias = Any  # keys and values of the tokens so far, in whatever form a model keeps them
TokenNumbers: TypeAlias = Int64[Tensor, "batch tokens"]
Embeddings: TypeAlias = Float[Tensor, "batch tokens embed"]


@runtime_checkable
class Tokenizer(Protocol):
    """Texts to token numbers and back; `bos` begins a text, `eos` ends it, and neither is added by `encode`."""

    bos: int
    eos: int

    def encode(self, text: str) -> list[int]:
        """Text -> token numbers."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Token numbers -> text; begin and end are left out."""


class CausalLM(nn.Module, ABC):
    """A causal language model that reads embeddings, so that images can be among the words.

    peftlab_name: for tables and the ledger. context_length: most token positions. embedding_width: of what `forward`
    reads. blocks: the decoder blocks, first to last.
    """

    peftlab_name: str
    tokenizer: Tokenizer
    context_length: int
    embedding_width: int
    blocks: nn.ModuleList

    @abstractmethod
    def embed(self, tokens: TokenNumbers) -> Embeddings:
        """Token numbers -> embeddings."""

    @abstractmethod
    def forward(
        self, embeddings: Embeddings, cache: Cache = None, last: int | None = None
    ) -> tuple[Float[Tensor, "batch last words"], Cache]:
        """Embeddings -> (logits of the last `last` token positions, or of all; cache).

        cache: what the call before gave; embeddings then are the tokens that follow.
        """

    @abstractmethod
    def attention(self, embeddings: Embeddings) -> list[Float[Tensor, "batch heads tokens tokens"]]:
        """Attention weights of every block; rows sum to 1."""

    @staticmethod
    @abstractmethod
    def pick(cache: Cache, rows: Int64[Tensor, " rows"]) -> Cache:
        """The cache of some sequences, in a new order."""
