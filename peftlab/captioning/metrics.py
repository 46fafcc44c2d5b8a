"""How good captions are: perplexity, true statements about synthetic scenes, BLEU and CIDEr."""

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common.errors import PeftlabError
from ..common.progress import progress
from ..tasks.captions import CaptionTask
from ..tasks.synthetic import grammar
from ..training.precision import computing, pick_precision
from .captioner import IGNORED, Captioner, Patches
from .interface import CausalLM, TokenNumbers


def token_losses(
    model: Captioner, patches: Patches, captions: Sequence[str]
) -> tuple[Float[Tensor, "batch tokens"], TokenNumbers]:
    """(-log p of every token in nats, its labels); one caption an image. Padding has label IGNORED and loss 0."""
    tokens, labels = model.encode(captions)
    logits = model(patches, tokens).float()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(labels.shape), labels


@torch.no_grad()
def text_loss(lm: CausalLM, text: str, before: Float[Tensor, "versions tokens embed"] | None = None) -> float:
    """Mean loss in nats of each token of a text and its end, as a language model alone reads it.

    before: embeddings that stand between begin and text, in several versions; None: nothing.
    """
    tokenizer = lm.tokenizer
    device = next(lm.parameters()).device
    words = torch.tensor([[tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]], device=device)
    embedded = lm.embed(words[:, :-1])
    if before is not None:
        begin, rest = embedded.expand(len(before), -1, -1).split([1, embedded.shape[1] - 1], 1)
        embedded = torch.cat([begin, before, rest], 1)
    logits, _ = lm(embedded, last=words.shape[1] - 1)
    wanted = words[:, 1:].expand(len(logits), -1)
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten()).item()


@torch.no_grad()
def evaluate(
    model: Captioner,
    task: CaptionTask,
    split: str,
    batch: int = 32,
    precision: str = "auto",
    patches: Patches | None = None,
) -> dict[str, float]:
    """-> {'perplexity', 'loss': nats a token, 'tokens', 'captions'} over all captions of a split, ends included.

    precision: "auto", "fp32" or "bf16"; see `Recipe`. patches: others than those of the split's images, as a control.
    """
    model.eval()
    patches = model.encode_images(task, split, precision=precision) if patches is None else patches
    precision = pick_precision(precision, model.device)
    pairs = [(i, caption) for i, each in enumerate(task.captions(split)) for caption in each]
    total, tokens = 0.0, 0
    for first in progress(range(0, len(pairs), batch), desc=f"{task.title} {split}", unit="batch"):
        rows, captions = zip(*pairs[first : first + batch], strict=True)
        with computing(model, model.device, precision):
            losses, labels = token_losses(model, patches[list(rows)], captions)
        total, tokens = total + losses.double().sum().item(), tokens + int((labels != IGNORED).sum())
    loss = total / tokens
    return {"perplexity": math.exp(loss), "loss": loss, "tokens": tokens, "captions": len(pairs)}


@torch.no_grad()
def word_accuracy(model: Captioner, patches: Patches, captions: Sequence[str]) -> float:
    """Share of tokens that are the likeliest at their token position, given the right ones before: teacher-forced."""
    tokens, labels = model.encode(captions)
    return (model(patches, tokens).argmax(-1) == labels)[labels != IGNORED].float().mean().item()


def attribute_accuracy(captions: Sequence[str], scenes: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Shares of true statements -> {attribute: mean, .., 'everything': share of captions without any error}.

    captions: one text a scene; scenes: their factors, as `task.factors(split)` gives them. See `grammar.score`.

    >>> cube = {"size": "small", "colour": "red", "material": "metal", "shape": "cube", "centre": (0, 0)}
    >>> ball = {"size": "large", "colour": "blue", "material": "rubber", "shape": "sphere", "centre": (3, 0)}
    >>> said = "a small red metal cube left of a large blue metal sphere"
    >>> shares = attribute_accuracy([said], [[cube, ball]])
    >>> shares["colour"], shares["material"], shares["relation"], shares["everything"]
    (1.0, 0.5, 1.0, 0.0)
    """
    total: Counter[str] = Counter()
    for caption, objects in zip(captions, scenes, strict=True):
        total.update(grammar.score(caption, objects))
    return {name: value / len(captions) for name, value in total.items()}


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """{'BLEU-4', 'CIDEr'} of captions against several references each, by pycocoevalcap.

    Words are what spaces and punctuation part, in lower case; COCO's own tokenizer (Java) differs in details. CIDEr
    weighs words by how rare they are among these references, so that it depends on the set. Raises PeftlabError where
    the library is not installed, and for an image whose references have no word.
    """
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        raise PeftlabError("BLEU and CIDEr need pycocoevalcap: pip install 'peftlab[multimodal]'") from None
    said = {i: [_plain(caption)] for i, caption in enumerate(captions)}
    truth = {i: [_plain(reference) for reference in each] for i, each in enumerate(references)}
    for i, each in truth.items():
        if not any(each):
            raise PeftlabError(f"no reference of image {i} has a word in it: {references[i]!r}. Leave the image out")
    bleu = Bleu(4).compute_score(truth, said, verbose=0)[0][3]
    return {"BLEU-4": float(bleu), "CIDEr": float(Cider().compute_score(truth, said)[0])}


def _plain(caption: str) -> str:
    # Letters, marks, numbers and '; for a regular expression, the vowel signs of Hindi would be no part of a word.
    composed = unicodedata.normalize("NFC", caption.lower())
    return " ".join("".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in composed).split())
