"""fit: train a captioner and keep a record of it; the loop is the one of classification."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F

from ..backbones.load import fingerprint
from ..backbones.protocols import Protocol, Recipe
from ..common.errors import PeftlabError
from ..common.files import read_tensors, write_tensors
from ..common.paths import runs_folder
from ..results.ledger import read_record, run_id
from ..training.loop import train
from ..training.precision import pick_device
from ..training.run import Run, finish
from .captioner import IGNORED, Captioner
from .load import SCENES_CAPTIONER
from .metrics import evaluate

# Ours. The paper: Adam, constant 1e-4, batches of 96, 8 epochs on COCO, and augmented images.
PROTOCOL = Protocol(
    "captions", "ours: short", recipe=Recipe(epochs=8, batch_size=32, weight_decay=0.0, warmup_epochs=0.25)
)
# The better of two or three each on the validation split of synthetic scenes, seed 0. Larger models want smaller ones.
LEARNING_RATES = {"connector": 2e-2, "lora": 5e-3, "bitfit": 2e-2, "ia3": 2e-2, "full": 1e-3}


class CaptionRun(Run):
    """A trained captioner with its record; evaluate(split) gives and records the perplexity."""

    headline = "perplexity"

    def measure(self, split):
        return evaluate(self.model, self.task, split)


def fit(
    model,
    task,
    *,
    epochs=None,
    batch_size=None,
    lr=None,
    train_images=None,
    seed=0,
    device=None,
    runs=None,
    reuse=False,
):
    """Train a Captioner on a CaptionTask -> CaptionRun.

    In every epoch each image is shown once, with one of its captions drawn at random. The images' tokens are computed
    once. lr None: the one of LEARNING_RATES. train_images: only the first so many. Resuming, reuse and the ledger are
    those of `peftlab.fit`. Raises PeftlabError for captions that do not fit the model, FloatingPointError when the
    loss is no longer a number.
    """
    device = pick_device(device)
    lr = lr or LEARNING_RATES[model.options.get("kind", model.method)]
    protocol = PROTOCOL.with_recipe(epochs=epochs, batch_size=batch_size, lr=lr)
    captions = task.captions("train")[:train_images]
    vit, lm = model.frozen
    identity = {
        "task": task.name,
        "synthetic": task.synthetic,
        "data": task.fingerprint,
        "method": model.method,
        "options": json.dumps(model.options | {"grid": model.grid, "standardise": model.standardise}),
        "backbone": vit.peftlab_name,
        "weights": fingerprint(vit),
        "language_model": lm.peftlab_name,
        "language_weights": fingerprint(lm),
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "train_split": "train",
        "train_images": len(captions),
        "seed": seed,
        "peftlab": version("peftlab"),
    }
    folder = Path(runs or runs_folder()) / run_id(identity)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(device)
    run = CaptionRun(folder, model, task, protocol, device)
    if reuse and "finished" in (read_record(folder) or {}):
        load(model, folder)
        return run
    tokens, labels, first = _encoded(model, captions)
    patches = model.encode_images(task, "train", train_images)
    if model.standardise:
        model.connector[0].estimate(patches.to(device))

    def step(rows):
        count = first[rows + 1] - first[rows]
        chosen = first[rows] + (torch.rand(len(rows)) * count).long()
        longest = int((labels[chosen] != IGNORED).sum(1).max())  # padding costs time and changes nothing
        logits = model(patches[rows], tokens[chosen, :longest])
        wanted = labels[chosen, :longest].flatten()
        return {"loss": F.cross_entropy(logits.float().flatten(0, 1), wanted, ignore_index=IGNORED)}

    label = f"{model.title} on {task.title}"
    curves = train(model, step, len(captions), protocol.recipe, seed, folder, device, label)
    model.eval()
    save(model, folder)
    counts = {"parameters": model.method_parameters, "connector_parameters": model.connector_parameters}
    finish(folder, identity | counts | asdict(protocol.recipe), curves, device)
    return run


def _encoded(model, captions):
    """All captions in one table, and where those of each image begin [n + 1]."""
    tokens, labels = model.encode([caption for each in captions for caption in each])
    return tokens, labels, torch.tensor([0, *(len(each) for each in captions)]).cumsum(0)


def own_tensors(model):
    """What belongs to a captioner beside the frozen models: trained parameters and the connector's statistics."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad} | {
        f"connector.0.{name}": t for name, t in model.connector[0].named_buffers()
    }


def save(model, folder):
    """Write captioner.safetensors; the frozen models' weights are never stored."""
    write_tensors(Path(folder) / "captioner.safetensors", own_tensors(model))


def load(model, folder):
    """Read what `save` wrote into a Captioner made alike. Raises PeftlabError unless names and shapes agree."""
    file, own = Path(folder) / "captioner.safetensors", own_tensors(model)
    tensors, _ = read_tensors(file)
    shapes = [{name: tuple(t.shape) for name, t in each.items()} for each in (own, tensors)]
    if shapes[0] != shapes[1]:
        odd = sorted(
            name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)
        )
        raise PeftlabError(
            f"{file}: not of a captioner like this one; {len(odd)} tensors differ, as {', '.join(odd[:3])}"
        )
    with torch.no_grad():
        for name, t in own.items():
            t.copy_(tensors[name])


def load_scenes_captioner(vit, lm):
    """The captioner of synthetic scenes that comes with peftlab (`tools/train_captioner.py`), on the embedded models.

    Raises PeftlabError for other ones: its adapters fit no others.
    """
    if (vit.peftlab_name, lm.peftlab_name) != ("peftlab_vit_mini", "peftlab_lm_tiny"):
        raise PeftlabError(
            f"the captioner of scenes is for the embedded models, not {vit.peftlab_name}, {lm.peftlab_name}"
        )
    model = Captioner(vit, lm, "context_peft", grid=4, standardise=True)
    load(model, SCENES_CAPTIONER)
    return model
