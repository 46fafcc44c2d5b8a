"""Captions written freely: greedy and beam search, with the cache of keys and values."""

import torch

from ..common.errors import PeftlabError, check_at_least
from ..common.progress import progress
from .captioner import Captioner, Patches


@torch.no_grad()
def generate(model: Captioner, patches: Patches, beams: int = 1, max_new_tokens: int = 30) -> list[str]:
    """Captions of images, a text each. patches: as `model.encode_images` gives them.

    beams 1 is greedy. The best beam is the one with the highest summed log-probability, ended or cut at
    `max_new_tokens` or at the context length; no length penalty. Every token position's context is given once, when it
    passes; cached keys keep what they were made with. Raises PeftlabError for beams that are not 1 to the tokens that
    the language model knows, and for no new tokens.
    """
    check_at_least("beams", beams, 1)
    check_at_least("max_new_tokens", max_new_tokens, 1)
    eos, start = model.lm.tokenizer.eos, 1 + model.image_tokens
    max_new_tokens = min(max_new_tokens, model.lm.context_length - start)
    logits, cache = model.read(model.prompt(patches), last=1)
    log_p = logits[:, -1].float().log_softmax(-1)
    if beams > log_p.shape[1]:
        raise PeftlabError(f"beams is {beams}, but the language model knows {log_p.shape[1]} tokens; take fewer beams")
    scores, words = log_p.topk(beams)  # [B, K]
    rows = torch.arange(len(patches), device=words.device).repeat_interleave(beams)
    cache = model.lm.pick(cache, rows)
    tokens = words.reshape(-1, 1)  # [B K, T]
    while tokens.shape[1] < max_new_tokens and not (tokens == eos).any(1).all():
        at = start + tokens.shape[1] - 1
        logits, cache = model.read(model.lm.embed(tokens[:, -1:]), at, cache, last=1)
        log_p = logits[:, -1].float().log_softmax(-1)
        ended = (tokens == eos).any(1)
        log_p[ended] = -torch.inf  # behind the end stands the end, for nothing
        log_p[ended, eos] = 0
        total = (scores.reshape(-1, 1) + log_p).unflatten(0, (-1, beams)).flatten(1)  # [B, K words]
        scores, best = total.topk(beams)
        kept = (best // log_p.shape[1] + beams * torch.arange(len(patches), device=best.device)[:, None]).flatten()
        tokens = torch.cat([tokens[kept], (best % log_p.shape[1]).reshape(-1, 1)], dim=1)
        cache = model.lm.pick(cache, kept)
    written = tokens.unflatten(0, (-1, beams))[:, 0].tolist()  # topk sorts: the first beam is the best
    return [model.lm.tokenizer.decode(row[: row.index(eos)] if eos in row else row) for row in written]


def write_captions(
    model: Captioner, patches: Patches, beams: int = 1, max_new_tokens: int = 30, batch: int = 64
) -> list[str]:
    """`generate` for many images, a batch at a time, with a progress bar."""
    parts = progress(patches.split(batch), desc="writing captions", unit="batch")
    return [text for part in parts for text in generate(model, part, beams, max_new_tokens)]
