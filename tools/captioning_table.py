"""Make results/captioning.csv: Context-PEFT and what it is compared with, captions of synthetic scenes, five seeds.

    python tools/captioning_table.py

The embedded models; 800 steps in batches of 16 for everybody, on all 800 training scenes or on fewer; learning rates
are those of `peftlab.captioning`. Few scenes are seen so often that the length matters: "stopped" rows have the best
of six lengths by the val perplexity of one seed, which the `search` rows give. A row a run: its record, with the share
of true statements in greedy captions of the test scenes. Three hours on one CPU core; rows that the table has are not
made again.
"""

import pandas as pd

from peftlab import load_backbone
from peftlab.captioning import Captioner, attribute_accuracy, fit, load_captions, load_language_model, write_captions
from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress

OUT = REPOSITORY / "results" / "captioning.csv"
STEPS, BATCH, SEEDS = 800, 16, range(5)
LENGTHS = (50, 100, 200, 400, STEPS, 2 * STEPS)
WAYS = {"agnostic": "one", "by domain": "domain"}


def cells():
    """{label: (method, options, training scenes)}."""
    found = {"connector only": ("connector", {}, 800)}
    for images in (800, 200, 50):
        found[f"all weights, {images} scenes"] = ("full", {}, images)
        for way, contexts in WAYS.items():
            found[f"lora, {way}, {images} scenes"] = ("context_peft", {"contexts": contexts}, images)
    found["lora, by parity"] = ("context_peft", {"contexts": "parity"}, 800)
    found["lora, agnostic, rank 16"] = ("context_peft", {"contexts": "one", "rank": 16}, 800)
    for way, contexts in WAYS.items():
        for kind in ("bitfit", "ia3"):
            found[f"{kind}, {way}"] = ("context_peft", {"kind": kind, "contexts": contexts}, 800)
        for targets in ("attention", "ffn"):
            found[f"lora, {way}, {targets} alone"] = ("context_peft", {"contexts": contexts, "targets": targets}, 800)
    return found


def epochs_of(steps, images):
    return round(steps * BATCH / images)


def trained(models, scenes, method, options, images, seed, steps):
    model = Captioner(*models, method, grid=4, standardise=True, seed=seed, **options)
    epochs = epochs_of(steps, images)
    return fit(model, scenes, epochs=epochs, batch_size=BATCH, train_images=images, seed=seed)


def searched(run):
    """The row of a run that a search looks at: on val alone, also where it is a final run that has been tested."""
    run.evaluate("val")
    return {"run": run.folder.name} | {key: run.record[key] for key in run.record if not key.startswith("test_")}


def search(models, scenes, *cell):
    return searched(trained(models, scenes, *cell))


def final(models, scenes, *cell):
    run = trained(models, scenes, *cell)
    run.evaluate("test")
    model = run.trained_model()
    texts = write_captions(model, model.encode_images(scenes, "test"))
    true = attribute_accuracy(texts, scenes.factors("test"))
    return {"run": run.folder.name} | run.record | {f"true_{name}": share for name, share in true.items()}


def checkpoint(out, *columns):
    """A function that gives the row with a label and these columns, and makes and writes it if the table has none."""
    before = pd.read_csv(out).to_dict("records") if out.is_file() else []
    done = {(row["label"], *(row[column] for column in columns)): row for row in before}

    def made(label, values, make, *what):
        key = label, *values
        if key not in done:
            done[key] = {"label": label} | make(*what)
            write_text(out, pd.DataFrame(done.values()).to_csv(index=False))
        return done[key]

    return made


def main():
    models, scenes = (load_backbone(), load_language_model()), load_captions()
    kept = checkpoint(OUT, "epochs", "seed")

    def made(make, label, cell, seed, steps=STEPS):
        return kept(label, (epochs_of(steps, cell[-1]), seed), make, models, scenes, *cell, seed, steps)

    for seed in progress(SEEDS, desc="captioning", unit="seed"):
        for label, cell in cells().items():
            made(final, label, cell, seed)
    by_amount = {
        label: cell for label, cell in cells().items() if label.endswith("scenes") and "agnostic" not in label
    }
    for label, cell in progress(by_amount.items(), desc="lengths", unit="label"):
        on_val = {n: made(search, f"search, {label}", cell, 0, n)["val_perplexity"] for n in LENGTHS}
        for seed in SEEDS:
            made(final, f"{label}, stopped", cell, seed, min(on_val, key=on_val.__getitem__))


if __name__ == "__main__":
    main()
