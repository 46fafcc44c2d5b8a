"""fit and evaluate: a readable loop, with nothing between the reader and the step."""

import json
import math
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from timm.layers import DropPath

from .backbones import fingerprint, input_size, run_stages
from .checkpoints import load_state, save_state
from .errors import PeftlabError
from .ledger import read_curves, read_record, run_id, write_curves, write_record
from .methods import attach, load_adapter
from .paths import runs_folder
from .prediction import EVAL_BATCH, autocast, evaluate, features, pick_device, pixel_batches, prepare
from .progress import progress
from .protocols import get_protocol


class Run:
    """A trained model with its record: metrics, curves, evaluate(split); before: the run of its first stage."""

    headline = "accuracy"  # what `evaluate` returns of all that `measure` gives

    def __init__(self, folder, model, task, protocol, device, before=None):
        self.folder, self.model, self.task, self.protocol, self.device = folder, model, task, protocol, device
        self.before = before

    @property
    def record(self):
        """The content of run.json: one row of the ledger."""
        return read_record(self.folder)

    @property
    def metrics(self):
        """What was measured so far."""
        return {k: v for k, v in self.record.items() if k.endswith((f"_{self.headline}", "_accuracy", "_loss"))}

    @property
    def curves(self):
        """One row an epoch: training loss with the method's terms, accuracy, learning rate at its end, seconds."""
        return read_curves(self.folder)

    def evaluate(self, split):
        """The headline, top-1 accuracy, on a split, recorded in the ledger.

        The test split is opened once: asked again, the recorded value is returned. Raises PeftlabError when asked to
        validate on images that the run was trained on.
        """
        record = self.record
        if split == "test" and record.get(f"test_{self.headline}") is not None:
            return record[f"test_{self.headline}"]
        if split == "val200" and record["train_split"] == "train800val200":
            raise PeftlabError("val200 was trained on in this run; select on a run with train_split='train800'")
        if split == "test" and "test_opened" not in record:
            # Written before the first look: a crash in between still shows that the split was opened, and when.
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record |= {"test_opened": now, f"test_{self.headline}": None}
            write_record(self.folder, record)
        result = self.measure(split)
        short = {"val200": "val", "test": "test"}.get(split, split)
        record |= {f"{short}_{key}": value for key, value in result.items()}
        write_record(self.folder, record)
        return result[self.headline]

    def measure(self, split):
        """What is recorded of a split."""
        return evaluate(self.model, self.task, split, self.protocol, self.device)


def learning_rate(step, total, warmup, peak, floor):
    """Linear warm-up to `peak`, then cosine to `floor`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_drop_path(vit, rate):
    """Stochastic depth, growing linearly from 0 at the first block to `rate` at the last."""
    for i, block in enumerate(vit.blocks):
        here = rate * i / max(1, len(vit.blocks) - 1)
        block.drop_path1, block.drop_path2 = (DropPath(here) if here else torch.nn.Identity() for _ in range(2))


def parameter_groups(model, weight_decay):
    """Weight decay on matrices only; biases, norms and other vectors are left alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


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
    look_at=(),
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
        "rendered": task.rendered,
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
    if look_at:
        identity["looked_at"] = " ".join(look_at)
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
        curves = _train(model, task, protocol, identity, folder, device, look_at)
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


def _train(model, task, protocol, identity, folder, device, look_at=()):
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
        pooled = {split: features(model.vit, task, split, protocol, device=device).to(device) for split in look_at}

    def look():
        return {f"{split}_accuracy": accuracy_on(split) for split in look_at}

    @torch.no_grad()
    def accuracy_on(split):
        if split not in pooled:
            return evaluate(model, task, split, protocol, device)["accuracy"]
        logits = run_stages(model.vit.eval(), pooled[split], start).cpu()
        return (logits.argmax(1) == torch.from_numpy(task.labels(split))).double().mean().item()

    label = f"{model.method.name} on {task.title}"
    return train(model, step, n, recipe, identity["seed"], folder, device, label, look)


def train(model, step, n, recipe, seed, folder, device, label, look=dict):
    """The loop. step(row numbers) -> {"loss": scalar, further means for the curves}. Returns one dict an epoch.

    look() -> {name: number}: further entries of the curves, asked for after each epoch.

    The folder keeps the last complete epoch, and the same call goes on from there.
    """
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.lr)
    state, curves = folder / "state.safetensors", []
    if state.is_file():
        curves = load_state(state, model, optimizer)["curves"]
    per_epoch = math.ceil(n / recipe.batch_size)
    total, warmup = recipe.epochs * per_epoch, recipe.warmup_epochs * per_epoch
    epochs = range(len(curves), recipe.epochs)
    bar = progress(epochs, desc=label, unit="epoch", initial=len(curves), total=recipe.epochs)
    for epoch in bar:
        # Everything random in an epoch follows from (seed, epoch), so that a resumed run equals an unbroken one.
        torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(n))
        model.train()
        began, sums = time.perf_counter(), Counter()
        for i, rows in enumerate(order.split(recipe.batch_size)):
            rate = learning_rate(epoch * per_epoch + i, total, warmup, recipe.lr, min(recipe.min_lr, recipe.lr))
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(device):
                terms = step(rows)
            loss = terms["loss"]
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"{label}: the loss became {loss.item()} in epoch {epoch + 1}, step {i + 1}, at learning rate "
                    f"{rate:.2g}. Lower lr (now {recipe.lr:g}) or check the images; nothing of this epoch was kept"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            sums.update({name: term.item() * len(rows) for name, term in terms.items()})
        row = {"epoch": epoch + 1} | {name: value / n for name, value in sums.items()} | {"lr": rate}
        row["seconds"] = time.perf_counter() - began
        curves.append(row | look())
        save_state(state, model, optimizer, {"curves": curves})
        shown = {name: f"{row[name]:.3f}" for name in ("loss", "accuracy") if name in row}
        bar.set_postfix(shown, refresh=False)
    return curves


def finish(folder, record, curves, device):
    """Write curves.csv and run.json of a trained run, with time, device and versions; what resuming needed goes."""
    write_curves(folder, curves)
    done = {
        "train_loss": curves[-1]["loss"],
        "seconds": round(sum(row["seconds"] for row in curves), 2),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "timm": version("timm"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_record(folder, record | done)
    (folder / "state.safetensors").unlink(missing_ok=True)
