"""The embedded language model: a small decoder in plain PyTorch, in the manner of the paper's.

Tokens -> embedding table -> LayerNorm, Linear -> blocks of causal attention (rotary positions) and SwiGLU, each behind
a LayerNorm, added to what came in -> Linear, LayerNorm -> scores against the same table.
With 50,272 words, width 768, hidden width 3,072, 12 blocks it has 153,196,032 parameters, as the paper's has.
Sources: Touvron et al. 2023, arXiv 2307.09288 (Llama 2); Su et al. 2021, arXiv 2104.09864 (rotary positions); Shazeer
2020, arXiv 2002.05202 (SwiGLU); biases and the two projections: Hadji-Kyriacou & Arandjelovic 2023, arXiv 2312.08900.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..backbones.types import Tokens
from .interface import CausalLM, Embeddings, TokenNumbers
from .tokens import WordTokenizer

KeysValues: TypeAlias = tuple[Float[Tensor, "_batch heads _sofar head"], Float[Tensor, "_batch heads _sofar head"]]


def rotate(x: Float[Tensor, "batch heads tokens head"], start: int) -> Float[Tensor, "batch heads tokens head"]:
    """Rotary positions: the first token of x stands at position `start`; pairs of channels (i, i + d/2) turn.

    A query and a key that stand 3 apart give the same product wherever they stand:

    >>> q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    >>> near, far = (rotate(q, at + 3) @ rotate(k, at).mT for at in (0, 50))
    >>> torch.allclose(near, far, atol=1e-4)
    True
    """
    half = x.shape[-1] // 2
    speed = 10000 ** (-torch.arange(half, device=x.device) / half)
    angle = (start + torch.arange(x.shape[2], device=x.device))[:, None] * speed
    one, two = x.split(half, dim=-1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)


class CausalAttention(nn.Module):
    """Attention of each token to itself and those before it; positions are rotary."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.fused_attn = heads, True
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self, x: Tokens, cache: KeysValues | None = None, weights: list[Tensor] | None = None
    ) -> tuple[Tokens, KeysValues]:
        """-> (attended x, keys and values of all tokens so far).

        cache: of the tokens before x; its keys already are at their positions. weights: a list that takes the
        attention weights [batch, heads, tokens, tokens so far], if given.
        """
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        before = 0 if cache is None else cache[0].shape[2]
        q, k = rotate(q, before), rotate(k, before)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=x.device).tril(before)
        if self.fused_attn and weights is None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=causal)
        else:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            attention = scores.masked_fill(~causal, -torch.inf).softmax(-1)
            y = attention @ v
            if weights is not None:
                weights.append(attention)
        return self.o(y.transpose(1, 2).flatten(2)), (k, v)


class SwiGLU(nn.Module):
    """x -> down(silu(gate) * value), where gate and value are the halves of up(x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*batch tokens width"]) -> Float[Tensor, "*batch tokens width"]:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class DecoderBlock(nn.Module):
    """Causal attention and SwiGLU, each behind a LayerNorm and added to the residual stream."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), CausalAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), SwiGLU(width, hidden)

    def forward(
        self, x: Tokens, cache: KeysValues | None = None, weights: list[Tensor] | None = None
    ) -> tuple[Tokens, KeysValues]:
        """As `CausalAttention.forward`."""
        y, after = self.attn(self.norm1(x), cache, weights)
        x = x + y
        return x + self.mlp(self.norm2(x)), after


class LanguageModel(CausalLM):
    """A small causal language model whose cache is a list with the keys and values of each block.

    The size of the paper's, without room for its weights:

    >>> with torch.device("meta"):
    ...     paper = LanguageModel(WordTokenizer([str(i) for i in range(50_270)]), 768, 12, 12, 3072)
    >>> sum(p.numel() for p in paper.parameters())
    153196032
    """

    tokenizer: WordTokenizer

    def __init__(
        self,
        tokenizer: WordTokenizer,
        width: int = 192,
        depth: int = 4,
        heads: int = 6,
        hidden: int = 384,
        context_length: int = 128,
    ) -> None:
        super().__init__()
        self.peftlab_name = type(self).__name__  # until it gets one
        self.tokenizer, self.context_length, self.embedding_width = tokenizer, context_length, width
        self.embedding = nn.Embedding(len(tokenizer.words), width)
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, hidden) for _ in range(depth))
        self.leave = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def embed(self, tokens: TokenNumbers) -> Embeddings:
        return self.embedding(tokens)

    def forward(
        self,
        embeddings: Embeddings,
        cache: list[KeysValues] | None = None,
        last: int | None = None,
        weights: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch last words"], list[KeysValues]]:
        """As `CausalLM.forward`. weights: a list that takes each block's attention weights."""
        x, after = self.enter(embeddings), []
        caches: Sequence[KeysValues | None] = cache or [None] * len(self.blocks)
        for block, before in zip(self.blocks, caches, strict=True):
            x, kv = block(x, before, weights)
            after.append(kv)
        x = self.leave(x if last is None else x[:, -last:])
        return x @ self.embedding.weight.T, after

    def attention(self, embeddings: Embeddings) -> list[Float[Tensor, "batch heads tokens tokens"]]:
        weights: list[Tensor] = []
        self(embeddings, last=1, weights=weights)
        return weights

    @staticmethod
    def pick(cache: list[KeysValues], rows: Int64[Tensor, " rows"]) -> list[KeysValues]:
        return [(k[rows], v[rows]) for k, v in cache]
