"""Make results/importance.safetensors, removal.csv and shift.csv: two stages looked at on real tasks, at 112 px.

    PEFTLAB_DATA=.. python tools/two_stage_tables.py

importance: Taylor scores of the frozen `peftlab_vit_small` with a linear head, for two disjoint halves of train800
(even and odd rows), a head and at most 128 images each. removal: accuracy of two shipped norm runs on test images,
which neither they nor the scores have seen, when channels of one block are set to zero or to their means. shift:
distance to photographs, frozen (0 epochs) and after the runs of grids/strength_shift.yaml, which the ledger must hold.
Nothing is selected by any of it. About 20 minutes on one CPU core.
"""

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from peftlab import load_adapter, load_backbone, load_run, load_task
from peftlab.analysis import shift
from peftlab.analysis.two_stage import accuracy_without
from peftlab.backbones.preprocess import prepare_for
from peftlab.backbones.stages import run_stages
from peftlab.common.errors import PeftlabError
from peftlab.common.files import write_text
from peftlab.common.paths import REPOSITORY, runs_folder
from peftlab.common.progress import progress
from peftlab.common.tensors import write_tensors
from peftlab.methods.core.importance import channel_scores, choose, places, watched
from peftlab.results.published import read_results
from peftlab.training.precision import computing, pick_device, pick_precision

OUT = REPOSITORY / "results"
BACKBONE, SIDE, IMAGES, DRAWS = "peftlab_vit_small", 112, 128, 10
TASKS = "cifar dtd oxford_iiit_pet eurosat patch_camelyon clevr_count dsprites_loc dsprites_ori".split()
TRAINED = ("clevr_count", "eurosat", "oxford_iiit_pet")  # with a shipped run of norm
REMOVED = ("clevr_count", "oxford_iiit_pet")  # judged by removal


def real(name):
    """A task of real images. Raises PeftlabError where load_task would draw it."""
    task = load_task(name)
    if task.synthetic:
        raise PeftlabError(
            f"{task.title} is drawn, and the table is of real images; set PEFTLAB_DATA to the folder with {name}"
        )
    return task


def images(vit, task, split, rows):
    """(x, y) of some rows of a split."""
    x = prepare_for(vit, task.pixels(split, (SIDE, SIDE), rows))
    return x, torch.from_numpy(task.labels(split)[rows])


def batches(x, y):
    return list(zip(x.split(32), y.split(32), strict=True))


# --- scores ---


def linear_head(x, y, classes):
    """Logistic regression on features [n, D] as a Linear; penalty 0.01 of the weights' squares."""
    head = nn.Linear(x.shape[1], classes)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = F.cross_entropy(head(x), y) + 0.01 * head.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return head


def half_scores(vit, task, half):
    """Taylor scores [blocks, D] of the even (0) or odd (1) rows of train800."""
    x, y = images(vit, task, "train800", list(range(half, task.size("train800"), 2)))
    with torch.no_grad():
        features = torch.cat([run_stages(vit, part, stop=-1) for part in x.split(64)])
    vit.head, vit.num_classes = linear_head(features, y, task.num_classes), task.num_classes
    return channel_scores(vit, batches(x[:IMAGES], y[:IMAGES])).float()


def importance():
    vit = load_backbone(BACKBONE, img_size=SIDE).eval()
    found = {}
    for name in progress(TASKS, desc="importance", unit="task"):
        task = real(name)
        found[name] = torch.stack([half_scores(vit, task, half) for half in (0, 1)])
    about = {"backbone": BACKBONE, "img_size": SIDE, "images": IMAGES, "axes": "halves, blocks, channels"}
    write_tensors(OUT / "importance.safetensors", found, about)


# --- removal ---


@torch.no_grad()
def means(vit, x):
    """Mean over images of every block's residual stream after attention, for each token -> [blocks, N, D]."""
    where = places(vit)
    with watched(where) as seen:
        vit.forward_features(x)
    return torch.stack([seen[place.module].mean(0) for place in where])


def choices(name, scores, norms, block, k):
    """(label, channels) of every choice of k channels in a block. scores: {task: [blocks, D]}."""
    other = TRAINED[TRAINED.index(name) - 1]
    yield "top", choose(scores[name], k)[block]
    yield "bottom", choose(scores[name], k, "bottom")[block]
    yield f"top of {other}", choose(scores[other], k)[block]
    yield "largest activations", choose(norms, k)[block]
    for draw in range(DRAWS):
        generator = torch.Generator().manual_seed(draw)
        yield "random", torch.randperm(scores[name].shape[1], generator=generator)[:k]


@torch.no_grad()
def removal_rows(name, vit, scores):
    """Rows of removal.csv: K channels of block 7 in many ways, the top channel of every block."""
    task = real(name)
    x, y = images(vit, task, "train800", list(range(min(IMAGES, task.size("train800")))))
    norms, mean = channel_scores(vit, batches(x, y), criterion="l2"), means(vit, x)
    x, y = images(vit, task, "test", list(range(min(500, task.size("test")))))

    def row(tokens, block, k, choice, channels, values=0.0):
        with computing(vit, pick_device("cpu"), pick_precision("auto", pick_device("cpu"))):
            accuracy = accuracy_without(vit, tokens, y, block, channels, values)
        facts = {"task": name, "block": block + 1, "k": k, "choice": choice, "accuracy": accuracy, "images": len(y)}
        return facts | {"channels": " ".join(map(str, channels.tolist())) if k == 1 else ""}

    middle, tokens = len(vit.blocks) // 2, run_stages(vit, x, stop=1)
    for block in progress(range(len(vit.blocks)), desc=name, unit="block"):
        if block == middle:
            yield row(tokens, block, 0, "none", torch.tensor([], dtype=torch.int64))
        for k in (1, 4, 16, 48) if block == middle else (1,):
            top = choose(scores[name], k)[block]
            for choice, channels in choices(name, scores, norms, block, k) if block == middle else [("top", top)]:
                yield row(tokens, block, k, choice, channels)
            yield row(tokens, block, k, "top, at its mean", top, mean[block][:, top])
        tokens = run_stages(vit, tokens, start=1 + block, stop=2 + block)


def removal():
    models = {name: load_run(f"{name}-norm").model.vit.eval() for name in TRAINED}
    scores, rows = {}, []
    for name, vit in models.items():
        task = real(name)
        x, y = images(vit, task, "train800", list(range(min(IMAGES, task.size("train800")))))
        scores[name] = channel_scores(vit, batches(x, y))
    for name in REMOVED:
        rows += removal_rows(name, models[name], scores)
        write_text(OUT / "removal.csv", pd.DataFrame(rows).to_csv(index=False))


# --- shift ---


def shift_tables():
    """Up to four disjoint groups of images of each task against one of pets; the other groups of pets are the control.

    distance: both in the same network. to_frozen: the pets in the frozen one. photographs: how far the pets themselves
    end from where the frozen network has them.
    """
    frozen, runs = load_backbone(BACKBONE, img_size=SIDE), read_results("strength_shift")
    photographs = real("oxford_iiit_pet").pixels("train800val200", (SIDE, SIDE), range(IMAGES))
    before, rows = shift.channel_statistics(frozen, photographs), []
    for name in progress(sorted({*runs["task"]}), desc="shift", unit="task"):
        task, trained = real(name), runs[runs["task"] == name].set_index("epochs")["run"]
        models = {0: frozen} | {n: load_adapter(frozen, runs_folder() / run).vit for n, run in trained.items()}
        now = {epochs: shift.channel_statistics(vit, photographs) for epochs, vit in models.items()}
        first_group = int(name == "oxford_iiit_pet")  # its group 0 is the reference
        for group in range(first_group, min(4, task.size("train800val200") // IMAGES)):
            pixels = task.pixels("train800val200", (SIDE, SIDE), range(group * IMAGES, (group + 1) * IMAGES))
            for epochs, vit in models.items():
                found, here = shift.channel_statistics(vit, pixels), now[epochs]
                pairs = {"distance": (found, here), "to_frozen": (found, before), "photographs": (here, before)}
                measured = pd.DataFrame({column: shift.distance(*pair) for column, pair in pairs.items()})
                facts = {"task": name, "epochs": epochs, "group": group, "block": range(1, 1 + len(measured))}
                rows.append(measured.assign(**facts)[[*facts, *pairs]])
    write_text(OUT / "shift.csv", pd.concat(rows).to_csv(index=False))


if __name__ == "__main__":
    shift_tables()
    importance()
    removal()
