"""Train the embedded language model `peftlab_lm_tiny` on text alone.

The text is made here: short stories, descriptions, questions and answers about solids that nobody has drawn. It has
the words of the captions of synthetic scenes, and not one of these captions: its sentences are other ones.

    python tools/pretrain_language_model.py

Seeded; about ten minutes on one CPU core. Writes data/language_models/peftlab_lm_tiny.{safetensors,json,md}.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F

from peftlab.backbones.protocols import Recipe
from peftlab.captioning.language_model import LanguageModel
from peftlab.captioning.load import EMBEDDED, save_language_model
from peftlab.captioning.tokens import WordTokenizer, split_words
from peftlab.common.files import write_json, write_text
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress
from peftlab.tasks.synthetic.grammar import ATTRIBUTES, LEADS, OPPOSITE
from peftlab.training.loop import learning_rate

SIZES, COLOURS, MATERIALS, SHAPES = ATTRIBUTES.values()
NUMBERS = ("two", "three", "four", "five")
HOLD_OUT = 500  # texts


def thing(rng, parts=(0, 1, 2)):
    """Some of size, colour and material, in this order, and the shape: 'red cube', 'small red metal cube'."""
    words = [
        str(rng.choice(w)) for i, w in enumerate((SIZES, COLOURS, MATERIALS)) if i in parts and rng.random() < 0.6
    ]
    return " ".join([*words, str(rng.choice(SHAPES))])


def texts(rng):
    """One short text of a few sentences; each kind of text is as likely as the others."""
    a, b, c = (thing(rng) for _ in range(3))
    pick = lambda words: str(rng.choice(words))  # noqa: E731
    where, colour, size, material, n = pick(list(OPPOSITE)), pick(COLOURS), pick(SIZES), pick(MATERIALS), pick(NUMBERS)
    shape, one = pick(SHAPES), a.split()[-1]
    kinds = (
        f"the {a} is {size} . it is made of {material} .",
        f"one day a {a} met a {b} . the {one} was {colour} and {size} . they stood {where} a wall .",
        f"what colour is the {shape} ? it is {colour} . what is it made of ? {material} .",
        f"is the {a} {where} the {b} ? {pick(('yes', 'no'))} . it is {where} the {c} .",
        f"we see {n} {shape}s . one of them is {colour} , and there is a {size} one .",
        f"there is a picture of a {a} on the wall . the picture shows nothing else .",
        f"put the {a} {where} the {b} . then take the {c} away .",
        f"{a} , {b} , {c} : these are {n} things .",
        f"a {colour} thing is not {pick(COLOURS)} . a {shape} is no {pick(COLOURS)} thing .",
        f"the {b} stands {where} the {c} , and the {a} does not .",
    )
    return kinds[rng.integers(len(kinds))]


def vocabulary(sample):
    """All words of a sample of texts and of the captions, sorted."""
    said = {word for text in sample for word in split_words(text)}
    said |= {word for text in (*LEADS, *OPPOSITE, "a") for word in split_words(text)}
    return sorted(said.union(*ATTRIBUTES.values()))


def batches(tokenizer, rng, rows, length):
    """Endless: texts one after another, each behind a begin token, cut into rows -> token numbers [rows, length]."""
    rest = []
    while True:
        while len(rest) < rows * length:
            rest += [tokenizer.bos, *tokenizer.encode(texts(rng)), tokenizer.eos]
        yield torch.tensor(rest[: rows * length]).view(rows, length)
        rest = rest[rows * length :]


def loss_on(model, tokens):
    """Mean cross-entropy in nats of each next token."""
    logits, _ = model(model.embed(tokens[:, :-1]))
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128, help="tokens a row: the model's context length")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    tokenizer = WordTokenizer(vocabulary([texts(rng) for _ in range(5000)]))
    model = LanguageModel(tokenizer, context_length=args.length)
    held_out = next(batches(tokenizer, np.random.default_rng(args.seed + 1), HOLD_OUT // 5, args.length))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.01)
    # An epoch of one step.
    schedule = Recipe(epochs=args.steps, lr=args.lr, warmup_epochs=args.steps // 20, min_lr=args.lr / 50)
    began, stream = time.time(), batches(tokenizer, rng, args.rows, args.length)
    bar = progress(range(args.steps), desc="text", unit="step")
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 1, schedule)
        loss = loss_on(model, next(stream))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    with torch.no_grad():
        final = loss_on(model, held_out).item()
    file = EMBEDDED["peftlab_lm_tiny"]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_language_model(model, file)
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "words": len(tokenizer.words) - 2,
        "steps": args.steps,
        "tokens": args.steps * args.rows * args.length,
        "held-out perplexity": round(float(np.exp(final)), 3),
        "minutes": round((time.time() - began) / 60, 1),
        "seed": args.seed,
    }
    write_json(file.with_suffix(".json"), facts)
    card = (REPOSITORY / "tools" / "language_model_card.md").read_text()
    write_text(
        file.with_suffix(".md"),
        card.format(**{key.replace(" ", "_").replace("-", "_"): v for key, v in facts.items()}),
    )
    print(facts)


if __name__ == "__main__":
    main()
