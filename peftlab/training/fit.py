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
from ..methods import attach, load_adapter
from ..methods.core.model import PeftModel
from ..tasks.task import Task
from .evaluate import EVAL_BATCH, evaluate, features, pixel_batches
from .loop import set_drop_path, train
from .precision import pick_device
from .run import Run
from .spec import make_spec


def fit(
    model: PeftModel,
    task: Task,
    *,
    runs: str | Path | None = None,
    device: str | torch.device | None = None,
    reuse: bool = False,
    **settings: Any,
) -> Run:
    """Train the method's parameters and the head with AdamW, warm-up and cosine decay -> Run.

    settings: what identifies the run beside model and task: protocol, train_split, train_images, seed, epochs,
    batch_size, lr and the other keywords of `make_spec`. runs: the ledger's folder. Whatever precedes the first
    trained tensor is computed once. An interrupted fit keeps the last complete epoch; the same call goes on from
    there. The last epoch counts, not the best. reuse: take a finished run with an equal spec from the ledger instead
    of training again. A method of two stages trains both: the first is a run of its own, taken from the ledger where
    it is finished, and `run.before`.
    Raises PeftlabError when the head does not fit the task, FloatingPointError when the loss is no longer a number.
    """
    spec, device = make_spec(model, task, **settings), pick_device(device)
    folder = spec.folder(runs)
    before = fit_before(model, task, runs=runs, device=device, **settings | {"lr": spec.protocol.recipe.lr})
    run = Run(folder, model, task, spec, device, before)
    if reuse and run.finished:
        loaded = load_adapter(model.backbone, folder)
        model.vit, model.method = loaded.vit.to(device), loaded.method
        return run
    curves = train_run(run)
    model.save(folder)
    run.finish(
        curves,
        group=task.group,
        classes=task.num_classes,
        img_size=input_size(model.vit)[0],
        before=before and before.folder.name,
        parameters=model.method_parameters,
        head_parameters=model.head_parameters,
        train_accuracy=curves[-1]["accuracy"],
    )
    return run


def fit_before(model: PeftModel, task: Task, **settings: Any) -> Run | None:
    """The finished run of the method that comes first, with the same head at its start; trained unless it is there."""
    first = model.method.first()
    if first is None:
        return None
    before = attach(model.backbone, first, model.num_classes)
    before.vit.head.load_state_dict(model.vit.head.state_dict())
    settings.pop("evaluate_each_epoch", None)
    return fit(before, task, reuse=True, **settings)


def train_run(run: Run) -> list[dict[str, float]]:
    """Begin the run's stage and train it -> curves. The model is left as it was found, should training fail."""
    model, method, still_frozen = run.model.to(run.device), run.model.method, []
    if run.before is not None:
        batches = labelled_batches(run)
        model.method, still_frozen = method.begin(model.vit, run.before.model.vit, batches, run.spec.seed)
    set_drop_path(model.vit, run.spec.protocol.recipe.drop_path)
    try:
        with frozen(still_frozen):
            curves = train_classifier(run)
    except BaseException:
        model.method = method  # so that the same call finds the same run and goes on
        raise
    model.eval()
    return curves


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
    labels, start = training_labels(run), model.first_trainable_stage()
    cached = start > 1 and spec.protocol.recipe.drop_path == 0  # worth it only if at least one whole block is frozen
    if cached:
        inputs = features(model.vit, task, split, spec.protocol, stop=start, limit=n, device=device).to(device)
    else:
        start, inputs = 0, task.pixels(split, input_size(model.vit), range(n), preprocessing.interpolation)

    def step(rows: Tensor) -> dict[str, Tensor]:
        x = inputs[rows] if cached else prepare(inputs[rows], model.vit, preprocessing, device)
        logits = run_stages(model.vit, x, start)
        accuracy = (logits.argmax(1) == labels[rows]).float().mean()
        return model.loss(logits, labels[rows]) | {"accuracy": accuracy}

    def after_epoch() -> dict[str, float]:
        splits = spec.evaluate_each_epoch
        return {f"{s}_accuracy": evaluate(model, task, s, spec.protocol, device)["accuracy"] for s in splits}

    return train(model, step, spec, run.folder, device, f"{spec.method} on {task.title}", after_epoch)
