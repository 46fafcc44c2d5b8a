"""What is left of a sweep, and how long it takes: nothing of the grid is trained, no ledger or table is written."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64

from ..backbones.protocols import Protocol, get_protocol
from ..backbones.types import Pixels, ViT
from ..common.errors import check_at_least
from ..common.paths import runs_folder
from ..common.progress import progress
from ..tasks.load import load_task
from ..tasks.task import Task
from .evaluate import EVAL_BATCH, features
from .fit import fit
from .grid import Grid
from .plan import Job, attached, backbone, judged_on, phases, settings
from .precision import pick_device
from .spec import RunSpec
from .sweep_table import SweepTable

STEPS = 2  # of an epoch on random images: one to warm up, then two, of which the faster counts
TIMED = {"seconds", "train_images", "epochs"}  # the columns that say how fast a run was
QUIET = 1e-6  # a learning rate at which random images spoil nothing; a step takes the same time at any


class Planned(NamedTuple):
    """A run of a sweep; its job has an accuracy where it is done."""

    phase: str
    job: Job
    spec: RunSpec

    @property
    def done(self) -> bool:
        return "accuracy" in self.job

    def seconds(self, pace: float, look: float, grid: Grid, task: Task) -> float:
        """Of training an image `pace` seconds, and `look` of each that is only looked at.

        Those are what is measured, and once the training images, for what comes before the first step.
        """
        images, epochs = self.spec.train_images, self.spec.protocol.recipe.total_epochs
        each_epoch = sum(task.size(split) for split in grid.evaluate_each_epoch)
        return pace * images * epochs + look * (images + each_epoch * epochs + task.size(judged_on(self.job)))


@dataclass(frozen=True)
class Noise(Task):
    """Random images in the place of a task's, as many in every split: what steps are timed on."""

    images: int

    def split(self, name: str) -> tuple[list[Path], Int64[np.ndarray, " images"]]:
        return [self.folder] * self.images, np.arange(self.images) % self.num_classes

    def pixels(self, split: str, size: tuple[int, int], indices: Any = None, interpolation: str = "bicubic") -> Pixels:
        rows = range(self.images) if indices is None else indices
        return torch.randint(256, (len(rows), *size, 3), dtype=torch.uint8)

    @cached_property
    def fingerprint(self) -> str:
        return "noise"

    def check_disjoint(self, train_split: str) -> None:
        """Random images are."""


def noise_like(task: Task, images: int) -> Noise:
    """Random images with the classes of a task."""
    return Noise(task.name, task.group, task.about, task.classes, task.folder, task.synthetic, images)


def estimate(
    grid: Grid, runs: str | Path | None = None, processes: int = 1, table: str | Path | None = None
) -> pd.DataFrame:
    """What `sweep` with the same arguments finds done and has left -> DataFrame, a row a label.

    For each phase how many runs are done, by the table or the ledger, and left. `minutes a run`: the mean over those
    that are left. Their training takes as long as the median of the label's done runs, image for image, or else is
    timed in a few steps on random images: see `by`. `core-hours`: of all that are left, seconds x threads / 3600,
    with as many threads as torch has here and now; on a GPU those are its hours. A first stage counts with each run
    that starts from it, a final run whose tuning is not done as its first candidate, and one under two labels with
    the first of them.
    Raises PeftlabError as `sweep` does, and where a task cannot be read.
    """
    check_at_least("the number of processes (--jobs)", processes, 1)
    kept = SweepTable(table, grid, processes)
    kept.check_belongs()
    planned = plan_ahead(grid, Path(runs or runs_folder()), kept)
    rows = pd.DataFrame(index=pd.Index(grid.methods, name="label"))
    for phase in phases(grid):
        for name, is_done in (("done", True), ("left", False)):
            labels = [p.job["label"] for p in planned if p.phase == phase and p.done is is_done]
            rows[f"{phase} {name}"] = [labels.count(label) for label in rows.index]
    rows["minutes a run"], rows["by"], rows["core-hours"] = 0.0, "", 0.0
    left = {p.spec.name: p for p in reversed(planned) if not p.done}.values()  # of equals the first
    tasks = {name: load_task(name, grid.root) for name in {p.job["task"] for p in left}}
    look = {name: seconds_a_look(grid, task) for name, task in tasks.items()}
    threads = torch.get_num_threads() if pick_device().type == "cpu" else 1
    for label in progress(dict.fromkeys(p.job["label"] for p in left), desc="timing", unit="label"):
        of_label = [(p, tasks[p.job["task"]]) for p in left if p.job["label"] == label]
        done = [kept.rows[p.job["run"]][0] for p in planned if p.done and p.job["label"] == label]
        paces = [seconds_an_image(row) for row in done if row.keys() >= TIMED]
        pace = median(paces) if paces else measured(grid, *of_label[0])
        seconds = [p.seconds(pace, look[p.job["task"]], grid, task) for p, task in of_label]
        rows.loc[label, "minutes a run"] = sum(seconds) / len(seconds) / 60
        rows.loc[label, "by"] = f"{len(paces)} done" if paces else "measured"
        rows.loc[label, "core-hours"] = sum(seconds) * threads / 3600
    return rows


def plan_ahead(grid: Grid, runs: Path, kept: SweepTable) -> list[Planned]:
    """All runs of a sweep. Where tuning is not done, all candidates count alike, so that the first is taken."""
    planned: list[Planned] = []
    for phase, plan in phases(grid).items():
        results = [p.job for p in planned]
        key = lambda job: (job["label"], None if grid.tune_on else job["task"])  # noqa: E731
        undecided = {key(job) for job in results if "accuracy" not in job}
        jobs = plan([job | ({"accuracy": 0.0} if key(job) in undecided else {}) for job in results])
        for job, spec in zip(jobs, kept.specs.of(jobs), strict=True):
            if isinstance(spec, Exception):
                raise spec
            if kept.result(job, spec.name) is None and (runs / spec.name / "run.json").exists():
                kept.add(spec.name, runs)
            planned.append(Planned(phase, kept.result(job, spec.name) or job, spec))
    return planned


def seconds_an_image(row: Mapping[str, str]) -> float:
    """Of training, for each time that an image was seen."""
    epochs = float(row["epochs"]) + float(row.get("cooldown_epochs", 0))
    return float(row["seconds"]) / (float(row["train_images"]) * epochs)


def measured(grid: Grid, planned: Planned, task: Task) -> float:
    """The same, timed in a few steps of both stages on random images."""
    job, spec = planned.job, planned.spec
    images = min(spec.train_images, STEPS * spec.protocol.recipe.batch_size)
    noise = noise_like(task, images)
    how = settings(grid, job) | {"evaluate_each_epoch": [], "epochs": 3, "cooldown_epochs": 0, "lr": QUIET}
    if spec.before:
        how |= {"first_epochs": 3, "first_lr": QUIET}
    with TemporaryDirectory() as folder:
        run = fit(attached(grid, job, noise), noise, runs=folder, **how)
        seconds = run.curves["seconds"].iloc[1:].min()
        if run.before and spec.before:
            share = spec.before.protocol.recipe.total_epochs / spec.protocol.recipe.total_epochs
            seconds += share * run.before.curves["seconds"].iloc[1:].min()
    return seconds / images


def seconds_a_look(grid: Grid, task: Task) -> float:
    """Of reading an image and a forward pass of a grid's backbone."""
    return timed_look(backbone(grid), task, get_protocol(grid.protocol).with_recipe(precision=grid.recipe.precision))


def timed_look(vit: ViT, task: Task, protocol: str | Protocol = "peftlab") -> float:
    """Seconds of reading an image and a forward pass, timed on training images."""
    images = min(EVAL_BATCH, task.size("train800"))
    began = 0.0
    for _ in range(2):  # the first time is to warm up
        began = time.perf_counter()
        features(vit, task, "train800", protocol, limit=images)
    return (time.perf_counter() - began) / images
