"""fit and evaluate: a readable loop, with nothing between the reader and the step."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from ..backbones.load import fingerprint
from ..backbones.preprocess import input_size, prepare
from ..backbones.protocols import get_protocol
from ..backbones.stages import run_stages
from ..common.errors import PeftlabError
from ..common.paths import runs_folder
from ..methods import attach, load_adapter
from ..results.ledger import read_record, run_id
from .evaluate import EVAL_BATCH, evaluate, features, pixel_batches
from .loop import set_drop_path, train
from .precision import pick_device
from .run import Run, finish


def fit(
    model,
    task,
    *,
    protocol="peftlab",
    epochs=None,
    batch_size=None,
    lr=None,
    weight_decay=None,
    train_split="train800val200",
    train_images=None,
    seed=0,
    device=None,
    runs=None,
    reuse=False,
    evaluate_each_epoch=(),
):
    """Train the method's parameters and the head with AdamW, warm-up and cosine decay -> Run.

    Keywords left at None come from the protocol, and lr from the method. train_images: only the first so many, for
    quick lessons; the ledger says so. Whatever precedes the first trained tensor is computed once. An interrupted fit
    keeps the last complete epoch; the same call goes on from there. The last epoch counts, not the best. reuse: take a
    finished run of the same identity from the ledger's folder instead of training again. A method of two stages trains
    both: the first is a run of its own, taken from the ledger where it is finished, and `run.before`.
    Raises PeftlabError when the head does not fit the task, FloatingPointError when the loss is no longer a number.
    """
    if model.num_classes != task.num_classes:
        raise PeftlabError(
            f"the head has {model.num_classes} classes, but {task.title} has {task.num_classes}; "
            "attach with num_classes=task.num_classes"
        )
    protocol = get_protocol(protocol)
    peak = lr or protocol.learning_rate(model.method)
    protocol = protocol.with_recipe(epochs=epochs, batch_size=batch_size, lr=peak, weight_decay=weight_decay)
    recipe, device = protocol.recipe, pick_device(device)
    identity = {
        "task": task.name,
        "synthetic": task.synthetic,
        "data": task.fingerprint,
        "method": model.method.name,
        "options": json.dumps(model.method.options()),
        "backbone": model.backbone.peftlab_name,
        "weights": fingerprint(model.backbone),
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "train_split": train_split,
        "train_images": len(task.labels(train_split)[:train_images]),
        "seed": seed,
        "peftlab": version("peftlab"),
    }
    if evaluate_each_epoch:
        identity["evaluated_each_epoch"] = " ".join(evaluate_each_epoch)
    folder = Path(runs or runs_folder()) / run_id(identity)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"seed": seed, "train_split": train_split, "train_images": train_images, "device": device, "runs": runs}
    before = None if model.method.first() is None else _fit_before(model, task, protocol, **settings)
    if reuse and "finished" in (read_record(folder) or {}):
        loaded = load_adapter(model.backbone, folder)
        model.vit, model.method = loaded.vit.to(device), loaded.method
        return Run(folder, model, task, protocol, device, before)
    model.to(device)
    method, resting = model.method, []
    if before is not None:
        batches = labelled_batches(model.vit, task, protocol, identity, device)
        model.method, resting = model.method.begin(model.vit, before.model.vit, batches, seed)
    set_drop_path(model.vit, recipe.drop_path)
    try:
        for p in resting:
            p.requires_grad_(False)
        curves = _train(model, task, protocol, identity, folder, device, evaluate_each_epoch)
    except BaseException:
        model.method = method  # so that the same call finds the same run and goes on
        raise
    finally:
        for p in resting:
            p.requires_grad_(True)
    model.eval()

    model.save(folder)
    record = identity | {
        "group": task.group,
        "classes": task.num_classes,
        "img_size": input_size(model.vit)[0],
        "before": before and before.folder.name,
        "parameters": model.method_parameters,
        "head_parameters": model.head_parameters,
        **asdict(recipe),
        "train_accuracy": curves[-1]["accuracy"],
    }
    finish(folder, record, curves, device)
    return Run(folder, model, task, protocol, device, before)


def _fit_before(model, task, protocol, **settings):
    """The finished run of the method that comes first, with the same head at its start; trained unless it is there."""
    before = attach(model.backbone, model.method.first(), model.num_classes)
    before.vit.head.load_state_dict(model.vit.head.state_dict())
    return fit(before, task, protocol=protocol, reuse=True, **settings)


def labelled_batches(vit, task, protocol, identity, device):
    """Yield (images x [B, 3, H, W], labels [B]) of a run's training images, in order."""
    split, n = identity["train_split"], identity["train_images"]
    labels = torch.from_numpy(task.labels(split)[:n]).to(device).split(EVAL_BATCH)
    yield from zip(pixel_batches(vit, task, split, protocol.preprocessing, device, n), labels, strict=True)


def _train(model, task, protocol, identity, folder, device, evaluate_each_epoch=()):
    """Training of a classifier. Returns one dict an epoch."""
    recipe, split, n = protocol.recipe, identity["train_split"], identity["train_images"]
    labels = torch.from_numpy(task.labels(split)[:n]).to(device)
    start = model.first_trainable_stage()
    cached = start > 1 and recipe.drop_path == 0  # worth it only if at least one whole block is frozen
    if cached:
        inputs = features(model.vit, task, split, protocol, stop=start, limit=n, device=device).to(device)
    else:
        start, inputs = 0, task.pixels(split, input_size(model.vit), range(n), protocol.preprocessing.interpolation)

    def step(rows):
        x = inputs[rows] if cached else prepare(inputs[rows], model.vit, protocol.preprocessing, device)
        logits = run_stages(model.vit, x, start)
        accuracy = (logits.argmax(1) == labels[rows]).float().mean()
        return model.loss(logits, labels[rows]) | {"accuracy": accuracy}

    pooled = {}  # where only the head is trained, what it reads is computed once for the looks, too
    if cached and inputs.ndim == 2:
        pooled = {
            split: features(model.vit, task, split, protocol, device=device).to(device)
            for split in evaluate_each_epoch
        }

    def look():
        return {f"{split}_accuracy": accuracy_on(split) for split in evaluate_each_epoch}

    @torch.no_grad()
    def accuracy_on(split):
        if split not in pooled:
            return evaluate(model, task, split, protocol, device)["accuracy"]
        logits = run_stages(model.vit.eval(), pooled[split], start).cpu()
        return (logits.argmax(1) == torch.from_numpy(task.labels(split))).double().mean().item()

    label = f"{model.method.name} on {task.title}"
    return train(model, step, n, recipe, identity["seed"], folder, device, label, look)
