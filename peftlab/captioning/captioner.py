"""A frozen ViT, a linear connector, and a frozen language model that reads image and text tokens.

[BOS] [image tokens] [caption] -> the last image token predicts the first word, the last word the end. One training
stage; the connector is always trained, as in the paper, and beside it nothing, adapters, or the whole language model.
Ours, on request: what the connector reads is standardised by channel. Patch tokens of a ViT share a large common part.
It soon becomes a prompt that sets the style, which helps short trainings on photographs, but hides what differs.
Source: Hadji-Kyriacou & Arandjelovic 2023, arXiv 2312.08900, section 3.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ..common.errors import NotMergeable, PeftlabError, check_choice
from ..methods import create_method
from ..methods.core.base import check_size
from ..methods.core.contexts import count_one, insert, merge_one
from ..methods.core.model import share
from ..training.evaluate import features
from .adapt import GivenContexts, sites

METHODS = ("connector", "context_peft", "full")
CONTEXTS = {"one": 1, "domain": 2, "parity": 2}
IMAGE, TEXT = 0, 1  # context numbers of 'domain'; the token that begins a text is text
IGNORED = -100  # the label of padding


class Standardise(nn.Module):
    """x [.., D] -> (x - mean) / std by channel. Nothing changes before `estimate` was called."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def estimate(self, x):
        """Take the statistics of patches [n, P, D]."""
        self.mean.copy_(x.mean((0, 1))), self.std.copy_(x.std((0, 1)))

    def forward(self, x):
        return (x - self.mean) / self.std


class Captioner(nn.Module):
    """Writes captions for the patch tokens of a ViT.

    vit, lm: frozen; neither is changed, and frozen tensors are shared with them. method: 'connector' (nothing else is
    trained), 'context_peft' with its options kind, rank, contexts ('one', 'domain': image and text, 'parity': odd and
    even positions), or 'full'. grid: image tokens a side; fewer than the ViT's patches are averages. standardise: what
    the connector reads, by channel, with the statistics of the training images. seed: of all that is new.
    Raises PeftlabError for unknown names and images that leave no room for words.
    """

    def __init__(self, vit, lm, method="connector", *, grid=None, standardise=False, seed=0, **options):
        super().__init__()
        check_choice("method", method, METHODS)
        self.frozen = (vit, lm)  # in a tuple, so that their parameters are not registered a second time
        self.grid = grid or vit.patch_embed.grid_size[0]
        self.image_tokens, self.standardise = self.grid**2, standardise
        if self.image_tokens + 2 > lm.context_length:
            raise PeftlabError(
                f"{self.image_tokens} image tokens leave no room in a context of {lm.context_length} tokens"
            )
        self.method, self.options, self.contexts = method, {}, None
        self.lm = copy.deepcopy(lm).requires_grad_(True) if method == "full" else share(lm)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            linear = nn.Linear(vit.embed_dim, lm.embedding_width)
            self.connector = nn.Sequential(Standardise(vit.embed_dim), nn.Dropout(0.1), linear)
            if method == "context_peft":
                self._adapt(create_method(method, **options))
            elif options:
                raise PeftlabError(f"method {method!r} has no options, but got {', '.join(options)}")
        self.eval()

    def _adapt(self, method):
        check_choice("contexts", method.contexts, CONTEXTS)
        check_size("rank", method.rank, self.lm.embedding_width)
        if method.last_blocks is not None:
            raise PeftlabError("last_blocks is for ViTs; in captioning, context_peft adapts every block")
        self.adapter, self.options = method, {k: getattr(method, k) for k in ("kind", "rank", "contexts")}
        self.contexts = GivenContexts(CONTEXTS[method.contexts])
        insert(method.kind, method.rank, sites(self.lm), self.contexts)

    @property
    def title(self):
        """'connector', 'full', or as 'lora, rank 8, by domain'."""
        if self.contexts is None:
            return self.method
        kind = f"lora, rank {self.adapter.rank}" if self.adapter.kind == "lora" else self.adapter.kind
        return f"{kind}, {'agnostic' if self.adapter.contexts == 'one' else f'by {self.adapter.contexts}'}"

    @property
    def method_parameters(self):
        """Trained parameters without the connector."""
        return sum(p.numel() for p in self.lm.parameters() if p.requires_grad)

    @property
    def connector_parameters(self):
        return sum(p.numel() for p in self.connector.parameters())

    def count(self):
        """The closed form of `method_parameters`."""
        vit, lm = self.frozen
        if self.method == "context_peft":
            return self.contexts.count * count_one(self.adapter.kind, self.adapter.rank, sites(lm))
        return sum(p.numel() for p in lm.parameters()) if self.method == "full" else 0

    def encode_images(self, task, split, limit=None):
        """Image tokens of a split [n, grid * grid, D], on the CPU; what of each image the connector reads."""
        vit, _ = self.frozen
        x = vit.norm(features(vit, task, split, stop=-2, limit=limit, device=self.device).to(self.device))
        x = x[:, -vit.patch_embed.num_patches :].unflatten(1, vit.patch_embed.grid_size).permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(x, self.grid).flatten(2).transpose(1, 2).cpu()

    @property
    def device(self):
        return self.connector[2].weight.device

    def encode(self, captions):
        """Captions -> (tokens [n, T] with their end, padded; the same with IGNORED for padding).

        Raises PeftlabError for an empty caption and for one that the context has no room for.
        """
        room, tokenizer = self.lm.context_length - 1 - self.image_tokens, self.lm.tokenizer
        rows = [tokenizer.encode(caption) for caption in captions]
        for caption, row in zip(captions, rows, strict=True):
            if not row:
                raise PeftlabError(f"the caption {caption!r} is empty. Leave the image out, or write one")
            if len(row) > room:
                raise PeftlabError(
                    f"the caption {caption[:60]!r} has {len(row)} tokens, but a context of "
                    f"{self.lm.context_length} leaves {room} behind {self.image_tokens} image tokens. "
                    "Shorten it, or take a smaller grid"
                )
        tokens = torch.full((len(rows), max(map(len, rows)) + 1), tokenizer.eos)
        labels = torch.full_like(tokens, IGNORED)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
            labels[i, : len(row) + 1] = tokens[i, : len(row) + 1]
        return tokens.to(self.device), labels.to(self.device)

    def prompt(self, patches):
        """What stands before a caption: patches [B, P, D] -> embeddings [B, 1 + P, E]."""
        begin = torch.full((len(patches), 1), self.lm.tokenizer.bos, device=self.device)
        return torch.cat([self.lm.embed(begin), self.connector(patches.to(self.device))], dim=1)

    def give_contexts(self, start, stop):
        """Tell the adapters which context each position from start to stop - 1 belongs to."""
        if self.contexts is None:
            return
        at = torch.arange(start, stop, device=self.device)
        image = (at >= 1) & (at <= self.image_tokens)
        numbers = {"one": 0 * at, "domain": torch.where(image, IMAGE, TEXT), "parity": at % 2}
        self.contexts.numbers = numbers[self.adapter.contexts]

    def read(self, embeddings, start=0, cache=None, last=None):
        """Embeddings [B, T, E] of the positions from `start` on -> (logits [B, last, words], cache)."""
        self.give_contexts(start, start + embeddings.shape[1])
        return self.lm(embeddings, cache, last)

    def embed_all(self, patches, tokens):
        """Embeddings of begin, image and all tokens but the last, [B, P + T, E]: what predicts `tokens`."""
        return torch.cat([self.prompt(patches), self.lm.embed(tokens[:, :-1])], dim=1)

    def forward(self, patches, tokens):
        """Patches [B, P, D], tokens [B, T] -> logits [B, T, words]: each token's, given the image and those before."""
        return self.read(self.embed_all(patches, tokens), last=tokens.shape[1])[0]

    def attention(self, patches, tokens):
        """Attention weights of each block over begin, image and tokens: a list of [B, H, P + T, P + T]."""
        self.give_contexts(0, self.image_tokens + tokens.shape[1])
        return self.lm.attention(self.embed_all(patches, tokens))

    def merge(self):
        """-> the language model as a plain one computing the same. Raises NotMergeable with the reason."""
        if self.method == "context_peft" and self.contexts.count > 1:
            raise NotMergeable(f"context_peft cannot be merged: {self.adapter.not_mergeable}")
        plain = copy.deepcopy(self.lm)
        if self.method == "context_peft":
            layers = [each for _, each in sites(self.frozen[1])]
            with torch.no_grad():
                merge_one(list(zip(plain.blocks, layers, strict=True)))
        return plain.requires_grad_(False).eval()
