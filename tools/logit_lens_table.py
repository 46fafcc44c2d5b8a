"""Make results/logit_lens.csv: the head read after every block of `peftlab_vit_small`, frozen and tuned, at 112 px.

    PEFTLAB_DATA=.. python tools/logit_lens_table.py

The runs of data/adapters on their test images, at most 500. A row a task, source, reading and block. Readings: "own
head", the logit lens; "head trained for the block", logistic regression on train800val200, which the own heads saw,
too; "random weights", the same on a backbone that was never trained. Trained heads have an accuracy only. Nothing is
selected by any of it. Ten minutes on one CPU core.
"""

import numpy as np
import pandas as pd
import torch
from two_stage_tables import real

from peftlab import load_backbone, load_run
from peftlab.analysis.logit_lens import block_features, lens_table
from peftlab.analysis.probes import linear_probe_accuracy
from peftlab.backbones.protocols import get_protocol
from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress
from peftlab.results.statistics import accuracy_interval
from peftlab.training.evaluate import pixel_batches
from peftlab.training.precision import computing, pick_device, pick_precision
from peftlab.training.trained import trained_runs

OUT = REPOSITORY / "results" / "logit_lens.csv"
TASKS = ("clevr_count", "oxford_iiit_pet", "eurosat")
SOURCES = {
    "linear (frozen)": "linear",
    "lora": "lora",
    "gist around lora": "gist_lora",
    "norm (stage 1)": "norm",
    "two_stage (stage 2)": "two_stage",
}
IMAGES = 500


def features(vit, task, split, limit=None):
    """`block_features` of a split -> [blocks, images, width]."""
    device, preprocessing = pick_device("cpu"), get_protocol("peftlab").preprocessing
    batches = pixel_batches(vit, task, split, preprocessing, device, limit)
    with computing(vit, device, pick_precision("auto", device)):
        return torch.cat([block_features(vit, x).float() for x in batches], dim=1)


def probe_table(vit, task, test):
    """A head of its own for each block, `lens_table` as far as accuracy goes. test: features [blocks, n, width]."""
    train = features(vit, task, "train800val200")
    y, test_y = (np.asarray(task.labels(split)) for split in ("train800val200", "test"))
    rows = []
    for block, (x, test_x) in enumerate(zip(train, test, strict=True)):
        accuracy, images = linear_probe_accuracy(x.numpy(), y, test_x.numpy(), test_y[: len(test_x)]), len(test_x)
        low, high = accuracy_interval(accuracy, images)
        rows.append({"block": block + 1, "images": images, "accuracy": accuracy, "low": low, "high": high})
    return pd.DataFrame(rows)


def tables(name):
    """The rows of a task, table by table."""
    task, there = real(name), trained_runs()
    for source, method in progress(SOURCES.items(), desc=name):
        if f"{name}-{method}" in there:
            vit = load_run(f"{name}-{method}", img_size=112).model.vit
            test = features(vit, task, "test", IMAGES)
            with torch.no_grad():
                own = lens_table(vit.head(test), torch.from_numpy(task.labels("test")[:IMAGES]))
            yield own.assign(task=name, source=source, reading="own head")
            trained = probe_table(vit, task, test)
            yield trained.assign(task=name, source=source, reading="head trained for the block")
    torch.manual_seed(0)
    vit = load_backbone("peftlab_vit_small", img_size=112, pretrained=False)
    random = probe_table(vit, task, features(vit, task, "test", IMAGES))
    yield random.assign(task=name, source="random weights", reading="random weights")


def main():
    table = pd.concat([rows for name in TASKS for rows in tables(name)], ignore_index=True)
    first = ["task", "source", "reading", "block"]
    write_text(OUT, table[first + [c for c in table if c not in first]].round(4).to_csv(index=False))


if __name__ == "__main__":
    main()
