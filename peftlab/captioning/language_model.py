"""The embedded language model: a small decoder in plain PyTorch, in the manner of the paper's.

Tokens -> embedding table -> LayerNorm, Linear -> blocks of causal attention (rotary positions) and SwiGLU, each behind
a LayerNorm, added to what came in -> Linear, LayerNorm -> scores against the same table.
With 50,272 words, width 768, hidden width 3,072, 12 blocks it has 153,196,032 parameters, as the paper's has.
Sources: Touvron et al. 2023, arXiv 2307.09288 (Llama 2); Su et al. 2021, arXiv 2104.09864 (rotary positions); Shazeer
2020, arXiv 2002.05202 (SwiGLU); biases and the two projections: Hadji-Kyriacou & Arandjelovic 2023, arXiv 2312.08900.
"""

import torch
import torch.nn.functional as F
from torch import nn


def rotate(x, start):
    """Rotary positions: x [B, H, T, d], whose first token stands at position `start`; pairs (i, i + d/2) turn."""
    half = x.shape[-1] // 2
    speed = 10000 ** (-torch.arange(half, device=x.device) / half)
    angle = (start + torch.arange(x.shape[2], device=x.device))[:, None] * speed
    one, two = x.split(half, dim=-1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)


class CausalAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, cache=None, seen=None):
        """x [B, T, D] -> (y [B, T, D], (k, v) of all tokens so far). seen: a list that takes the weights, if given.

        cache: k and v [B, H, T before, d] of the tokens before x; their keys already are at their positions.
        """
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        before = 0 if cache is None else cache[0].shape[2]
        q, k = rotate(q, before), rotate(k, before)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=x.device).tril(before)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=causal)
        if seen is not None:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            seen.append(scores.masked_fill(~causal, -torch.inf).softmax(-1))
        return self.o(y.transpose(1, 2).flatten(2)), (k, v)


class SwiGLU(nn.Module):
    """x -> down(silu(gate) * value), where gate and value are the halves of up(x)."""

    def __init__(self, width, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x):
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class DecoderBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), CausalAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), SwiGLU(width, hidden)

    def forward(self, x, cache=None, seen=None):
        y, cache = self.attn(self.norm1(x), cache, seen)
        x = x + y
        return x + self.mlp(self.norm2(x)), cache


class LanguageModel(nn.Module):
    """A causal language model with what captioning asks of one; `HFLanguageModel` answers to the same names.

    tokenizer: words and their numbers. context_length: most positions. embedding_width: of what `forward` reads.
    """

    def __init__(self, tokenizer, width=192, depth=4, heads=6, hidden=384, context_length=128):
        super().__init__()
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

    def embed(self, tokens):
        """Token numbers [B, T] -> embeddings [B, T, D]."""
        return self.embedding(tokens)

    def forward(self, embeddings, cache=None, last=None, seen=None):
        """Embeddings [B, T, D] -> (logits [B, T, words] of the last `last` positions, or all; cache).

        cache: what the call before gave, one (k, v) a block: embeddings then are the tokens that follow.
        seen: a list that takes each block's attention weights [B, H, T, T so far].
        """
        x, after = self.enter(embeddings), []
        for block, before in zip(self.blocks, cache or [None] * len(self.blocks), strict=True):
            x, kv = block(x, before, seen)
            after.append(kv)
        x = self.leave(x if last is None else x[:, -last:])
        return x @ self.embedding.weight.T, after

    def attention(self, embeddings):
        """Attention weights of every block for embeddings [B, T, D] -> a list of [B, H, T, T]; rows sum to 1."""
        seen = []
        self(embeddings, last=1, seen=seen)
        return seen

    @staticmethod
    def pick(cache, rows):
        """The cache of some sequences, in a new order; rows [n]."""
        return [(k[rows], v[rows]) for k, v in cache]
