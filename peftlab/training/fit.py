"""fit: a spec, its folder, reuse or training, a record."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.preprocess import input_size, prepare
from ..backbones.stages import run_stages
from ..backbones.types import Images, Labels
from ..methods import load_adapter
from ..methods.core.model import PeftModel, share
from ..tasks.task import Task
from .augmentation import augmented
from .checkpointing import checkpointing
from .evaluate import EVAL_BATCH, evaluate, features, pixel_batches
from .loop import set_drop_path, train
from .precision import pick_device
from .run import Run, is_finished, last_spec
from .spec import RunSpec, first_stage, make_spec


def fit(
    model: PeftModel,
    task: Task,
    *,
    runs: str | Path | None = None,
    device: str | torch.device | None = None,
    reuse: bool = True,
    **settings: Any,
) -> Run:
    """Train the method's parameters and the head with AdamW, warm-up and cosine decay -> Run.

    settings: what identifies the run beside model and task: protocol, train_split, train_images, seed, epochs,
    batch_size, lr and the other keywords of `make_spec`. runs: the ledger's folder. Whatever precedes the first
    trained tensor is computed once, unless images are augmented or blocks dropped. An interrupted fit leaves the model
    as it was and keeps the last complete epoch; the same call goes on from there. The last epoch counts, not the best.
    A finished run with an equal spec is taken from the ledger, as is that of a model which this very call has trained
    before; reuse=False trains again. A method of two stages trains both: the first is a run of its own, taken from the
    ledger where it is finished, and `run.before`. Processes that ask for the same run wait for the one that trains it.
    Raises PeftlabError when the head does not fit the task, FloatingPointError when a loss or weight is no longer a
    number.
    """
    device = pick_device(device)
    spec = make_spec(model, task, device=device, **settings)
    return fit_spec(model, task, last_spec(model, spec, runs) if reuse else spec, runs, device, reuse)


def fit_spec(
    model: PeftModel, task: Task, spec: RunSpec, runs: str | Path | None, device: torch.device, reuse: bool
) -> Run:
    """The run of a spec: taken from the ledger where it is finished there and may be, otherwise trained."""
    run = Run(spec.folder(runs), model, task, spec, device)
    with run.writing():
        take = reuse and run.finished
        first = first_stage(model)
        if first is not None and spec.before is not None and (not take or is_finished(spec.before, runs)):
            run.before = fit_spec(first, task, spec.before, runs, device, reuse=True)
        if take:
            load_into(model, run.folder, device)
            run.end_state()
        else:
            train_run(run)
        model.trained_by = spec, model.digest()
    return run


def load_into(model: PeftModel, folder: Path, device: torch.device) -> None:
    """Make of a model what a finished run has made of it."""
    loaded = load_adapter(model.backbone, folder)
    model.vit, model.method, model.classes = loaded.vit.to(device), loaded.method, loaded.classes


def record(run: Run, curves: list[dict[str, float]]) -> None:
    """Write the adapter and, last of all, the record of a run that was just trained."""
    model, task = run.model, run.task
    model.classes = task.classes
    model.save(run.folder)
    run.finish(
        curves,
        adapter=model.digest(),
        group=task.group,
        classes=task.num_classes,
        parameters=model.method_parameters,
        head_parameters=model.head_parameters,
        train_accuracy=curves[-1]["accuracy"],
    )


def train_run(run: Run) -> None:
    """Begin the run's stage, train and record it. The model is left as it was found, should any of it fail."""
    model, method, still_frozen = run.model.to(run.device), run.model.method, []
    classes = model.classes
    untouched = share(model.vit, frozen=model.backbone)
    try:
        with torch.autocast(run.device.type, enabled=False):  # whatever the caller is in
            before = model.backbone if run.before is None else run.before.model.vit
            model.method, still_frozen = method.begin(model.vit, before, labelled_batches(run), run.spec.seed)
            set_drop_path(model.vit, run.spec.protocol.recipe.drop_path)
            with frozen(still_frozen):
                curves = train_classifier(run)
        model.eval()
        record(run, curves)
    except BaseException:
        # So that the same call finds the same run and goes on.
        model.vit, model.method, model.classes = untouched, method, classes
        raise


@contextmanager
def frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Within, these trainable parameters are not trained."""
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def labelled_batches(run: Run) -> Iterator[tuple[Images, Labels]]:
    """The run's training images with their labels, in order."""
    spec, vit = run.spec, run.model.vit
    pixels = pixel_batches(vit, run.task, spec.train_split, spec.protocol.preprocessing, run.device, spec.train_images)
    yield from zip(pixels, training_labels(run).split(EVAL_BATCH), strict=True)


def training_labels(run: Run) -> Labels:
    return torch.from_numpy(run.task.labels(run.spec.train_split)[: run.spec.train_images]).to(run.device)


def train_classifier(run: Run) -> list[dict[str, float]]:
    """Train on the images, or on what the frozen stages made of them -> curves."""
    model, task, spec, device = run.model, run.task, run.spec, run.device
    split, n, preprocessing = spec.train_split, spec.train_images, spec.protocol.preprocessing
    recipe, labels, start = spec.protocol.recipe, training_labels(run), model.first_trainable_stage()
    # Worth it only if a whole block is frozen at least, and right only if all epochs see the same images and blocks.
    cached = start > 1 and recipe.drop_path == 0 and recipe.augmentation == "none"
    if cached:
        inputs = features(model.vit, task, split, spec.protocol, stop=start, limit=n, device=device).to(device)
    else:
        start, inputs = 0, task.pixels(split, input_size(model.vit), range(n), preprocessing.interpolation)

    def batch(rows: Tensor, epoch: int) -> Tensor:
        x = inputs[rows]
        if recipe.augmentation != "none":
            x = augmented(x, rows, recipe.augmentation, spec.seed, epoch)
        return x if cached else prepare(x, model.vit, preprocessing, device)

    def step(rows: Tensor, epoch: int) -> dict[str, Tensor]:
        logits = run_stages(model.vit, batch(rows, epoch), start)
        accuracy = (logits.argmax(1) == labels[rows]).float().mean()
        return model.loss(logits, labels[rows], recipe.label_smoothing) | {"accuracy": accuracy}

    def after_epoch() -> dict[str, float]:
        splits = spec.evaluate_each_epoch
        return {f"{s}_accuracy": evaluate(model, task, s, spec.protocol, device)["accuracy"] for s in splits}

    with checkpointing(model.vit, recipe.gradient_checkpointing):
        return train(model, step, spec, run.folder, device, f"{spec.method} on {task.title}", after_epoch)
