"""Make results/segmentation.csv: do GIFT's clusters find the objects of rendered scenes, and does training matter?

    PEFTLAB_DATA=.. python tools/segmentation_table.py

`peftlab_vit_small` at 224 px, 16 x 16 patches; 96 test scenes of the synthetic clevr_count, all objects of a
scene as one mask. Both forms of GIFT: three trained seeds (0 is that of data/adapters; 1 and 2 are taken from the
ledger or trained here, on the real task) against eight untrained ones, of which three are
what those started from; and controls with as many maps. A row a source, block (counted from 1) and seed, with the
columns of `iou_table`. Ten minutes on one CPU core, and five to ten for each training.
"""

import pandas as pd
import torch
from two_stage_tables import real

from peftlab import attach, fit, load_adapter, load_backbone, load_run, load_task
from peftlab.analysis.clusters import assignment, centre, kmeans_maps, maps_of, pca_maps, random_maps
from peftlab.analysis.segmentation import iou_table
from peftlab.backbones.preprocess import prepare_for
from peftlab.backbones.stages import outputs
from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY
from peftlab.common.progress import progress
from peftlab.tasks.synthetic.registry import object_masks

OUT = REPOSITORY / "results" / "segmentation.csv"
NAME, TASK, SIZE = "peftlab_vit_small", "clevr_count", 224
BLOCKS, SCENES = (4, 6, 8, 10, 12), range(300, 396)
RATES = {"gift": 3e-3, "gift_linear": 1e-2}  # as the shipped runs
MAPS = {"gift": 96, "gift_linear": 16}
UNTRAINED = range(8)


def trained(vit, method):
    """{seed: a trained model at this size}; seed 0 was trained on a GPU, the others on what is here."""
    models, task = {0: load_run(f"{TASK}-{method}", img_size=SIZE).model}, real(TASK)
    small = load_backbone(NAME, img_size=112)
    for seed in (1, 2):
        model = attach(small, method, task.num_classes, seed=seed)
        run = fit(model, task, seed=seed, epochs=10, batch_size=32, lr=RATES[method], precision="bf16")
        models[seed] = load_adapter(vit, run.folder)
    return models


@torch.inference_mode()
def features(vit, pixels):
    """{block: what its attention's projection gives for the patches, [images, rows, columns, channels]}."""
    found = outputs(vit, [vit.blocks[block - 1].attn.proj for block in BLOCKS], prepare_for(vit, pixels))
    rows, columns = vit.patch_embed.grid_size
    return {b: f[:, -rows * columns :].unflatten(1, (rows, columns)) for b, f in zip(BLOCKS, found, strict=True)}


def of_models(vit, pixels, frozen):
    """Yield (facts, maps) of both forms, trained and untrained, centred and as published."""
    for method in progress(MAPS, desc="models"):
        for seed, model in trained(vit, method).items():
            for block, f in features(model.vit, pixels).items():
                C, facts = assignment(model, block - 1), {"source": method, "block": block, "seed": seed}
                yield facts | {"state": "trained"}, maps_of(centre(f), C)
                yield facts | {"state": "trained", "recipe": "published"}, maps_of(f, C)
                if method == "gift":
                    mean = f.mean(-1)[:, None]
                    yield facts | {"source": "mean over channels", "state": "trained"}, torch.cat([mean, -mean], 1)
        for seed in UNTRAINED:
            model = attach(vit, method, 8, seed=seed)
            for block, f in frozen.items():
                facts = {"source": method, "state": "untrained", "block": block, "seed": seed}
                yield facts, maps_of(centre(f), assignment(model, block - 1))


def of_controls(frozen):
    """Yield (facts, maps) of what needs no GIFT, all from the frozen features."""
    for block, f in progress(frozen.items(), desc="controls"):
        f, facts = centre(f), {"state": "untrained", "block": block}
        for n in MAPS.values():
            yield facts | {"source": f"PCA, {n} maps", "seed": 0}, pca_maps(f, n)
            for seed in UNTRAINED:
                yield facts | {"source": f"random directions, {n} maps", "seed": seed}, random_maps(f, n, seed)
        for n in (3, 8):
            for seed in range(3):
                yield facts | {"source": f"k-means {n}", "seed": seed}, kmeans_maps(f, n, seed)


def main():
    torch.set_num_threads(1)
    vit, scenes = load_backbone(NAME, img_size=SIZE), load_task(TASK, root="synthetic")
    pixels = scenes.pixels("test", (SIZE, SIZE), SCENES)
    objects = [torch.from_numpy(masks.any(0, keepdims=True)) for masks in object_masks(TASK, "test", SCENES)]
    frozen, rows = features(vit, pixels), []
    for source in (of_models(vit, pixels, frozen), of_controls(frozen)):
        for facts, maps in source:
            measured, limit = iou_table({"": maps}, objects).to_dict("records")
            rows.append({"recipe": "centred", "images": len(SCENES)} | facts | measured | {"limit": limit["best"]})
    table = pd.DataFrame(rows).astype({"maps": int}).round(4)
    columns = ["source", "state", "recipe", "block", "seed", "images"]
    write_text(OUT, table[columns + [name for name in table if name not in columns]].to_csv(index=False))


if __name__ == "__main__":
    main()
