"""How good captions are: perplexity, true statements about synthetic scenes, BLEU and CIDEr."""

import math
import re
from collections import Counter

import torch
import torch.nn.functional as F

from ..common.errors import PeftlabError
from ..common.progress import progress
from ..tasks.synthetic import grammar
from .captioner import IGNORED


def token_losses(model, patches, captions):
    """(-log p of every token in nats [n, T], its labels [n, T]); one caption for each row of patches [n, P, D]."""
    tokens, labels = model.encode(captions)
    logits = model(patches, tokens).float()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none").view(
        labels.shape
    ), labels


@torch.no_grad()
def text_loss(lm, text, before=None):
    """Mean loss in nats of each token of a text and its end, as a language model alone reads it.

    before: embeddings [B, P, E] that stand between begin and text, in B versions; None: nothing.
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
def evaluate(model, task, split, batch=32):
    """-> {'perplexity', 'loss': nats a token, 'tokens', 'captions'} over all captions of a split, ends included."""
    model.eval()
    patches = model.encode_images(task, split)
    pairs = [(i, caption) for i, each in enumerate(task.captions(split)) for caption in each]
    total, tokens = 0.0, 0
    for first in progress(range(0, len(pairs), batch), desc=f"{task.title} {split}", unit="batch"):
        rows, captions = zip(*pairs[first : first + batch], strict=True)
        losses, labels = token_losses(model, patches[list(rows)], captions)
        total, tokens = total + losses.double().sum().item(), tokens + (labels != IGNORED).sum().item()
    loss = total / tokens
    return {"perplexity": math.exp(loss), "loss": loss, "tokens": tokens, "captions": len(pairs)}


@torch.no_grad()
def word_accuracy(model, patches, captions):
    """Share of tokens that are the likeliest at their place, given the right ones before: teacher-forced."""
    tokens, labels = model.encode(captions)
    return (model(patches, tokens).argmax(-1) == labels)[labels != IGNORED].float().mean().item()


def attribute_accuracy(captions, scenes):
    """Shares of true statements -> {attribute: mean, .., 'everything': share of captions without any error}.

    captions: one text a scene; scenes: their factors, as `task.factors(split)` gives them. See `grammar.score`.
    """
    total = Counter()
    for caption, objects in zip(captions, scenes, strict=True):
        total.update(grammar.score(caption, objects))
    return {name: value / len(captions) for name, value in total.items()}


def caption_scores(captions, references):
    """{'BLEU-4', 'CIDEr'} of captions against several references each, by pycocoevalcap.

    Words are lower-case, punctuation is dropped; COCO's own tokenizer (Java) differs in details. CIDEr weighs words by
    how rare they are among these references, so that it depends on the set. Raises PeftlabError where the library is
    not installed.
    """
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        raise PeftlabError("BLEU and CIDEr need pycocoevalcap: pip install 'peftlab[multimodal]'") from None
    said = {i: [_plain(caption)] for i, caption in enumerate(captions)}
    truth = {i: [_plain(reference) for reference in each] for i, each in enumerate(references)}
    bleu = Bleu(4).compute_score(truth, said, verbose=0)[0][3]
    return {"BLEU-4": float(bleu), "CIDEr": float(Cider().compute_score(truth, said)[0])}


def _plain(caption):
    return " ".join(re.findall(r"[a-z0-9']+", caption.lower()))
