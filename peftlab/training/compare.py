"""A few methods on one task within a time budget: what fits is known beforehand, then it is trained.

How long runs take is measured once and kept beside the ledger, so that an interrupted comparison goes on as planned.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd

from ..backbones.identity import described_once
from ..backbones.protocols import get_protocol
from ..backbones.types import ViT
from ..common.errors import PeftlabError, Range
from ..common.files import read_json, write_json
from ..common.paths import runs_folder
from ..common.progress import progress
from ..methods import attach, create_method
from ..results.ledger import run_id
from ..tasks.task import Task
from .estimate import QUIET, STEPS, noise_like, timed_look
from .fit import fit
from .precision import pick_device
from .run import Run
from .spec import of_backbone
from .time_budget import RATES, Plan, fitting


@dataclass(frozen=True)
class Comparison:
    """What is to be compared: methods by name on one task, with so many seeds, in so many minutes.

    Raises PeftlabError for numbers that mean nothing and unknown methods.
    """

    backbone: ViT
    task: Task
    methods: tuple[str, ...]
    seeds: int = 2
    minutes: float = 30
    epochs: int = 10
    batch_size: int = 32

    def __post_init__(self) -> None:
        Range(at_least=1, below=100).check("seeds", self.seeds)
        Range(above=0).check("minutes", self.minutes)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise PeftlabError(f"methods are {', '.join(self.methods) or 'none'}; name at least one, each once")
        for name in self.methods:
            create_method(name)
        get_protocol("peftlab").with_recipe(**self.recipe)

    @property
    def recipe(self) -> dict[str, Any]:
        """What all runs share of it."""
        return {"epochs": self.epochs, "batch_size": self.batch_size}


class Job(NamedTuple):
    """One run: on train800 to choose a learning rate, on train800val200 to be compared. lr None: the method's own."""

    method: str
    train_split: str
    seed: int
    lr: float | None


def forecast(comparison: Comparison, runs: str | Path | None = None) -> Plan:
    """What fits into the comparison's minutes on this machine; measured at the first call, then read.

    A few steps of each method are timed on random images, and a forward pass on the task's.
    """
    task = comparison.task
    file = Path(runs or runs_folder()) / "forecasts" / f"{run_id(_identity(comparison))}.json"
    if not file.exists():
        look = timed_look(comparison.backbone, comparison.task)
        images, test = task.size("train800val200"), task.size("test")
        bar = progress(comparison.methods, desc="how long each method takes", unit="method")
        found = {
            name: seconds_a_step_image(comparison, name) * images * comparison.epochs + look * (images + test)
            for name in bar
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, found)
    seconds = read_json(file)
    share = task.size("train800") / task.size("train800val200")
    return fitting({m: seconds[m] for m in comparison.methods}, comparison.seeds, comparison.minutes, share)


def _identity(comparison: Comparison) -> dict[str, Any]:
    protocol = get_protocol("peftlab")
    content: dict[str, Any] = {"task": comparison.task.name, "method": "forecast", "data": comparison.task.fingerprint}
    content |= of_backbone(comparison.backbone, protocol.preprocessing) | comparison.recipe
    content |= {"methods": [[name, json.dumps(create_method(name).options())] for name in comparison.methods]}
    return content | {"recipe": protocol.recipe.content, "device": pick_device().type}


def seconds_a_step_image(comparison: Comparison, name: str) -> float:
    """Of training, for each time that an image is seen: the faster of two epochs on a few random images."""
    task = comparison.task
    images = min(task.size("train800val200"), STEPS * comparison.batch_size)
    noise = noise_like(task, images)
    model = attach(comparison.backbone, name, task.num_classes)
    with TemporaryDirectory() as folder:
        run = fit(model, noise, runs=folder, epochs=3, batch_size=comparison.batch_size, lr=QUIET)
        stages = [run, run.before] if run.before else [run]
        return sum(float(stage.curves["seconds"].iloc[1:].min()) for stage in stages) / images


def trained(comparison: Comparison, plan: Plan, runs: str | Path | None = None) -> pd.DataFrame:
    """Train and test what fits, each run once -> DataFrame, a row a final run: its record, `run` and `folder`.

    Finished runs are taken from the ledger, an unfinished one goes on. Where the plan has tuning, the learning rate
    of each method is the best of `RATES` on val200, with the first seed.
    """
    rows = []
    with described_once(comparison.backbone):
        for run in _runs(comparison, plan, runs):
            rows.append({"run": run.folder.name, "folder": str(run.folder)} | run.record)
    return pd.DataFrame(rows)


def _runs(comparison: Comparison, plan: Plan, runs: str | Path | None) -> Iterator[Run]:
    """The final runs, one after another, below a bar that says how long the rest will take by the plan."""
    tries = len(RATES) if plan.tuned else 0
    share = comparison.task.size("train800") / comparison.task.size("train800val200")
    left, total = 60 * plan.minutes, len(plan.methods) * (tries + comparison.seeds)
    with progress(desc="training", unit="run", total=total) as bar:

        def done(job: Job) -> Run:
            nonlocal left
            bar.set_description(f"{job.method}, seed {job.seed}; about {left / 60:.0f} min left")
            run = _run(comparison, job, runs)
            left -= plan.seconds[job.method] * (share if job.train_split == "train800" else 1)
            bar.update()
            return run

        for name in plan.methods:
            rate = None
            if plan.tuned:
                own = get_protocol("peftlab").learning_rate(create_method(name))
                tried = {own * times: done(Job(name, "train800", 0, own * times)) for times in RATES}
                rate = max(tried, key=lambda lr: tried[lr].metrics["val_accuracy"])
            for seed in range(comparison.seeds):
                yield done(Job(name, "train800val200", seed, rate))


def _run(comparison: Comparison, job: Job, runs: str | Path | None) -> Run:
    model = attach(comparison.backbone, job.method, comparison.task.num_classes, seed=job.seed)
    how = comparison.recipe | {"train_split": job.train_split, "seed": job.seed, "lr": job.lr}
    run = fit(model, comparison.task, runs=runs, **how)
    if job.train_split == "train800":
        if "val_accuracy" not in run.metrics:
            run.evaluate("val200")
    else:
        run.evaluate("test")
    return run
