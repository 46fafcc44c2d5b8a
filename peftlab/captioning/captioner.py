"""A frozen ViT, a linear connector, and a frozen language model that reads image and text tokens.

[BOS] [image tokens] [caption] -> the last image token predicts the first word, the last word the end. One training
stage; the connector is always trained, as in the paper, and with it nothing, adapters, or the whole language model.
Ours, on request: what the connector reads is standardised by channel. Patch tokens of a ViT share a large common part.
It soon becomes a prompt that sets the style, which helps short trainings on photographs, but hides what differs.
Source: Hadji-Kyriacou & Arandjelovic 2023, arXiv 2312.08900, section 3.
"""

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..backbones.protocols import get_protocol
from ..backbones.swin import final_grid
from ..backbones.types import ViT
from ..common.errors import NotMergeable, PeftlabError, check_choice
from ..methods import create_method
from ..methods.context_peft import ContextPEFT
from ..methods.core.base import check_size
from ..methods.core.contexts import count_one, insert, merge_one
from ..methods.core.model import share
from ..tasks.captions import CaptionTask
from ..training.evaluate import feature_batches
from ..training.spec import check_weights
from .adapt import GivenContexts, sites
from .interface import Cache, CausalLM, Embeddings, TokenNumbers

METHODS = ("connector", "context_peft", "full")
CONTEXTS = {"one": 1, "domain": 2, "parity": 2}
IMAGE, TEXT = 0, 1  # context numbers of 'domain'; the token that begins a text is text
IGNORED = -100  # the label of padding
LEAST_DEVIATION = 1e-5  # of a channel: one that is constant stays near 0

Patches: TypeAlias = Float[Tensor, "batch patches width"]  # image tokens, as the connector reads them


class Standardise(nn.Module):
    """x -> (x - mean) / std by channel. Nothing changes before `estimate` was called.

    >>> standardise, patches = Standardise(3), torch.tensor([1.0, 2.0, 3.0]) * torch.randn(100, 16, 3) + 5
    >>> standardise.estimate(patches)
    >>> x = standardise(patches).flatten(0, 1)
    >>> bool(x.mean(0).abs().max() < 1e-4), bool((x.std(0) - 1).abs().max() < 1e-2)
    (True, True)
    """

    mean: Float[Tensor, " width"]
    std: Float[Tensor, " width"]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def estimate(self, x: Patches) -> None:
        """Take the statistics of patches. Raises PeftlabError for a single one, which has no deviation."""
        if x[..., 0].numel() == 1:
            raise PeftlabError(
                "a single image token has no standard deviation. Take more images, a finer grid, or standardise=False"
            )
        self.mean.copy_(x.mean((0, 1)))
        self.std.copy_(x.std((0, 1)).clamp_min(LEAST_DEVIATION))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return (x - self.mean) / self.std


class Captioner(nn.Module):
    """Writes captions for the patch tokens of a ViT.

    vit, lm: frozen; neither is changed, and frozen tensors are shared with them. method: 'connector' (nothing else is
    trained), 'context_peft' with its options kind, rank, contexts ('one', 'domain': image and text, 'parity': odd and
    even token positions) and targets, or 'full'. grid: image tokens a side; fewer than the ViT's patches are averages;
    None: the ViT's patches on its shorter side. standardise: what the connector reads, by channel, with the statistics
    of the training images. seed: of all that is new. Raises PeftlabError for unknown names, a ViT whose weights are
    not in fp32, a grid below 1 or beyond the patches, and for image tokens that fill the context length.
    """

    def __init__(
        self,
        vit: ViT,
        lm: CausalLM,
        method: str = "connector",
        *,
        grid: int | None = None,
        standardise: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        check_choice("method", method, METHODS)
        check_weights(vit, "fp32")
        self.trained_by: tuple[Any, str] | None = None  # the spec of its last training and its digest then
        self.frozen = (vit, lm)  # in a tuple, so that their parameters are not registered a second time
        side = min(final_grid(vit))
        self.grid = side if grid is None else grid
        if not 1 <= self.grid <= side:
            raise PeftlabError(f"grid is {grid}, but must lie between 1 and {side}, the ViT's patches a side")
        self.image_tokens, self.standardise = self.grid**2, standardise
        if self.image_tokens + 2 > lm.context_length:
            raise PeftlabError(
                f"{self.image_tokens} image tokens leave none for a caption in a context length of {lm.context_length}"
            )
        self.method = method
        self.adapter: ContextPEFT | None = None
        self.contexts: GivenContexts | None = None
        self.lm: CausalLM = copy.deepcopy(lm) if method == "full" else share(lm)
        self.lm.requires_grad_(method == "full")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            linear = nn.Linear(vit.embed_dim, lm.embedding_width)
            self.connector = nn.Sequential(Standardise(vit.embed_dim), nn.Dropout(0.1), linear)
            if method == "context_peft":
                self._adapt(cast(ContextPEFT, create_method(method, **options)))
            elif options:
                raise PeftlabError(f"method {method!r} has no options, but got {', '.join(options)}")
        self.eval()

    def _adapt(self, adapter: ContextPEFT) -> None:
        check_choice("contexts", adapter.contexts, CONTEXTS)
        check_size("rank", adapter.rank, self.lm.embedding_width)
        if adapter.last_blocks is not None:
            raise PeftlabError("last_blocks is for ViTs; in captioning, context_peft adapts every block")
        self.adapter, self.contexts = adapter, GivenContexts(CONTEXTS[adapter.contexts])
        insert(adapter.kind, adapter.rank, sites(self.lm, adapter.targets), self.contexts)

    @property
    def options(self) -> dict[str, Any]:
        """Those of the adapter that mean something here; {} without one."""
        every = {} if self.adapter is None else self.adapter.options()
        return {name: value for name, value in every.items() if name != "last_blocks"}

    @property
    def title(self) -> str:
        """'connector', 'full', or as 'lora, rank 8, by domain'."""
        if self.adapter is None:
            return self.method
        kind = f"lora, rank {self.adapter.rank}" if self.adapter.kind == "lora" else self.adapter.kind
        kind += "" if self.adapter.targets == "both" else f", {self.adapter.targets}"
        return f"{kind}, {'agnostic' if self.adapter.contexts == 'one' else f'by {self.adapter.contexts}'}"

    @property
    def method_parameters(self) -> int:
        """Trained parameters without the connector."""
        return sum(p.numel() for p in self.lm.parameters() if p.requires_grad)

    @property
    def connector_parameters(self) -> int:
        """Trained parameters of the connector."""
        return sum(p.numel() for p in self.connector.parameters())

    def count(self) -> int:
        """The closed form of `method_parameters`."""
        _, lm = self.frozen
        if self.adapter is not None:
            found = sites(lm, self.adapter.targets)
            return CONTEXTS[self.adapter.contexts] * count_one(self.adapter.kind, self.adapter.rank, found)
        return sum(p.numel() for p in lm.parameters()) if self.method == "full" else 0

    @torch.no_grad()
    def encode_images(
        self, task: CaptionTask, split: str, limit: int | None = None, precision: str = "auto"
    ) -> Float[Tensor, "images patches width"]:
        """Image tokens of a split, grid * grid each, on the CPU; what of each image the connector reads.

        precision: "auto", "fp32" or "bf16"; see `Recipe`.
        """
        vit, pooled = self.frozen[0], []
        protocol = get_protocol("peftlab").with_recipe(precision=precision)
        for tokens in feature_batches(vit, task, split, protocol, stop=-2, limit=limit, device=self.device):
            x = vit.norm(tokens)[:, vit.num_prefix_tokens :].unflatten(1, final_grid(vit)).permute(0, 3, 1, 2)
            pooled.append(F.adaptive_avg_pool2d(x, self.grid).flatten(2).transpose(1, 2).cpu())
        return torch.cat(pooled)

    @property
    def device(self) -> torch.device:
        """Where the connector is, and with it all else."""
        return next(self.connector.parameters()).device

    def encode(self, captions: Sequence[str]) -> tuple[TokenNumbers, TokenNumbers]:
        """Captions -> (tokens with their end, padded; the same with IGNORED for padding).

        Raises PeftlabError for no captions, an empty one, and one that goes beyond the context length.
        """
        if not captions:
            raise PeftlabError("there are no captions to encode. Give at least one")
        most, tokenizer = self.lm.context_length - 1 - self.image_tokens, self.lm.tokenizer
        rows = [tokenizer.encode(caption) for caption in captions]
        for caption, row in zip(captions, rows, strict=True):
            if not row:
                raise PeftlabError(f"the caption {caption!r} is empty. Leave the image out, or write one")
            if len(row) > most:
                raise PeftlabError(
                    f"the caption {caption[:60]!r} has {len(row)} tokens, but a context length of "
                    f"{self.lm.context_length} leaves {most} behind {self.image_tokens} image tokens. "
                    "Shorten it, or take a smaller grid"
                )
        tokens = torch.full((len(rows), max(map(len, rows)) + 1), tokenizer.eos)
        labels = torch.full_like(tokens, IGNORED)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
            labels[i, : len(row) + 1] = tokens[i, : len(row) + 1]
        return tokens.to(self.device), labels.to(self.device)

    def prompt(self, patches: Patches) -> Float[Tensor, "batch 1+patches embed"]:
        """What stands before a caption: embeddings of begin and image."""
        begin = torch.full((len(patches), 1), self.lm.tokenizer.bos, device=self.device)
        return torch.cat([self.lm.embed(begin), self.connector(patches.to(self.device))], dim=1)

    def give_contexts(self, start: int, stop: int) -> None:
        """Tell the adapters which context each token position from start to stop - 1 belongs to."""
        if self.adapter is None or self.contexts is None:
            return
        at = torch.arange(start, stop, device=self.device)
        image = (at >= 1) & (at <= self.image_tokens)
        numbers = {"one": 0 * at, "domain": torch.where(image, IMAGE, TEXT), "parity": at % 2}
        self.contexts.numbers = numbers[self.adapter.contexts]

    def read(
        self, embeddings: Embeddings, start: int = 0, cache: Cache = None, last: int | None = None
    ) -> tuple[Float[Tensor, "batch last words"], Cache]:
        """Embeddings of the token positions from `start` on -> (logits of the last `last`, or of all; cache)."""
        self.give_contexts(start, start + embeddings.shape[1])
        return self.lm(embeddings, cache, last)

    def embed_all(
        self, patches: Patches, tokens: Int64[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch patches+tokens embed"]:
        """Embeddings of begin, image and all tokens but the last: what predicts `tokens`."""
        return torch.cat([self.prompt(patches), self.lm.embed(tokens[:, :-1])], dim=1)

    def forward(self, patches: Patches, tokens: Int64[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens words"]:
        """-> logits of each token, given the image and the tokens before."""
        return self.read(self.embed_all(patches, tokens), last=tokens.shape[1])[0]

    def attention(
        self, patches: Patches, tokens: Int64[Tensor, "batch tokens"]
    ) -> list[Float[Tensor, "batch heads patches+tokens patches+tokens"]]:
        """Attention weights of each block over begin, image and all tokens but the last."""
        self.give_contexts(0, self.image_tokens + tokens.shape[1])
        return self.lm.attention(self.embed_all(patches, tokens))

    def merge(self) -> CausalLM:
        """-> the language model as a plain one computing the same. Raises NotMergeable with the reason."""
        if self.adapter is not None and self.adapter.not_mergeable:
            raise NotMergeable(f"context_peft cannot be merged: {self.adapter.not_mergeable}")
        plain = copy.deepcopy(self.lm)
        if self.adapter is not None:
            layers = [each for _, each in sites(self.frozen[1], self.adapter.targets)]
            with torch.no_grad():
                merge_one(list(zip(plain.blocks, layers, strict=True)))
        return plain.requires_grad_(False).eval()
