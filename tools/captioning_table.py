"""Make results/captioning.csv: Context-PEFT and what it is compared with, captions of synthetic scenes, three seeds.

    python tools/captioning_table.py

The embedded models; 800 steps in batches of 16 for everybody, on all 800 training scenes or on fewer; learning rates
are those of `peftlab.captioning`. A row a run: its record, with the share of true statements in greedy captions of the
test scenes. About an hour and a half on one CPU core; given again, it goes on from the ledger.
"""

import pandas as pd

from peftlab import load_backbone
from peftlab.captioning import Captioner, attribute_accuracy, fit, load_captions, load_language_model, write_captions
from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress

OUT = REPOSITORY / "results" / "captioning.csv"
STEPS, BATCH, SEEDS = 800, 16, (0, 1, 2)
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


def row(models, scenes, label, method, options, images, seed):
    model = Captioner(*models, method, grid=4, standardise=True, seed=seed, **options)
    epochs = round(STEPS * BATCH / images)
    run = fit(model, scenes, epochs=epochs, batch_size=BATCH, train_images=images, seed=seed)
    run.evaluate("test")
    model = run.trained_model()
    texts = write_captions(model, model.encode_images(scenes, "test"))
    true = attribute_accuracy(texts, scenes.factors("test"))
    facts = {f"true_{name}": share for name, share in true.items()}
    return {"label": label, "run": run.folder.name} | run.record | facts


def main():
    models, scenes = (load_backbone(), load_language_model()), load_captions()
    wanted = [(label, *cell, seed) for seed in SEEDS for label, cell in cells().items()]
    rows = []
    for label, *cell in progress(wanted, desc="captioning", unit="run"):
        rows.append(row(models, scenes, label, *cell))
        write_text(OUT, pd.DataFrame(rows).to_csv(index=False))


if __name__ == "__main__":
    main()
