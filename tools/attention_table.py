"""Make results/attention.csv: what share of its attention a query has on objects whose outline is known.

    python tools/attention_table.py

The last block, mean over heads. Images: the photographs that come with libraries, at 336 px, and test scenes of
solids drawn by this workbook, at 224 px. Models: the runs of data/adapters, with controls: the base method alone, the
token before training, a backbone of random weights. A row a model, query and set of images; intervals are over images.
Twenty minutes on one CPU core.
"""

import pandas as pd
import torch

from peftlab import attach, load_backbone, load_run, load_task, photographs
from peftlab.analysis.attention import log_correlation, patch_attention, share_inside
from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress
from peftlab.results.statistics import mean_interval
from peftlab.tasks.synthetic.registry import object_masks

OUT = REPOSITORY / "results" / "attention.csv"
SCENES, SEEDS = range(100), (0, 1, 2)


def photographs_with_masks(size=(336, 336)):
    taken = photographs()
    return torch.cat([p.pixels(size) for p in taken]), torch.cat([p.mask(size) for p in taken])


def scenes_with_masks(size=(224, 224)):
    masks = object_masks("clevr_count", "test", SCENES)
    joined = torch.stack([torch.from_numpy(each).any(0) for each in masks])
    return load_task("clevr_count", root="synthetic").pixels("test", size, SCENES), joined


def sources(task, size):
    """{label: (model, query)}, the trained gist first."""
    backbone = load_backbone("peftlab_vit_small", img_size=size)
    torch.manual_seed(0)
    empty = load_backbone("peftlab_vit_small", img_size=size, pretrained=False)
    gist = load_run(f"{task}-gist_lora", size).model
    found = {
        "gist": (gist, "gist"),
        "CLS, GIST around LoRA": (gist, "cls"),
        "CLS, LoRA alone": (load_run(f"{task}-lora", size).model, "cls"),
        "CLS, frozen": (backbone, "cls"),
    }
    for seed in SEEDS:
        fresh = attach(backbone, "gist", 2, seed=seed, base_method="lora")
        found[f"gist before training, seed {seed}"] = fresh, "gist"
    found["gist, random backbone"] = attach(empty, "gist", 2, seed=0, base_method="lora"), "gist"
    return found


def rows(task, name, pixels, masks):
    known = sources(task, pixels.shape[1])
    maps = {
        label: patch_attention(model, pixels, query) for label, (model, query) in progress(known.items(), desc=name)
    }
    frozen = share_inside(maps["CLS, frozen"], masks)
    for label, each in maps.items():
        inside = share_inside(each, masks)
        share, low, high = mean_interval(inside)
        gain, gain_low, gain_high = mean_interval(inside - frozen)  # the same images: what they share goes away
        alike = log_correlation(each, maps["gist"]).mean().item()
        facts = {"images": name, "count": len(pixels), "side": pixels.shape[1], "area": masks.float().mean().item()}
        measured = {"share": share, "low": low, "high": high, "correlation with gist": alike}
        over = {"over frozen": gain, "over frozen low": gain_low, "over frozen high": gain_high}
        yield {"trained on": task, "source": label} | facts | measured | over


def main():
    sets = {"photographs": photographs_with_masks(), "drawn scenes": scenes_with_masks()}
    tasks = ("oxford_iiit_pet", "clevr_count", "clevr_count_synthetic")
    table = [row for task in tasks for name, images in sets.items() for row in rows(task, name, *images)]
    write_text(OUT, pd.DataFrame(table).round(4).to_csv(index=False))


if __name__ == "__main__":
    main()
