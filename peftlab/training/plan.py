"""What a sweep is to run: its phases, their jobs, and the spec that each job's run will have."""

import itertools
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import joblib
import numpy as np

from ..backbones.identity import described_once
from ..backbones.load import load_backbone
from ..backbones.types import ViT
from ..common.progress import progress
from ..methods import METHODS, Method, attach, create_method
from ..methods.core.model import PeftModel
from ..methods.core.own_code import own_methods
from ..tasks.load import load_task
from ..tasks.task import Task
from .grid import FIRST, Grid
from .spec import RunSpec, make_spec

Job: TypeAlias = dict[str, Any]  # one run to be: label, task, method, options, recipe, train_split, seed
IDENTITY = ("task", "method", "options", "recipe", "train_split", "seed")


def identity(job: Job) -> str:
    """What jobs have in common that are the same run, under two labels or as the first stage of several."""
    return json.dumps({key: value for key, value in job.items() if key in IDENTITY}, sort_keys=True)


def phases(grid: Grid) -> dict[str, Callable[[list[Job]], list[Job]]]:
    """{name: results of the phases before -> jobs}, in the order in which a sweep runs them."""
    if grid.evaluate_each_epoch:
        return {"each epoch": lambda _: every_job(grid, "train800")}
    return {"tuning": lambda _: tuning_jobs(grid), "final": lambda tuned: final_jobs(grid, tuned)}


def tuning_jobs(grid: Grid) -> list[Job]:
    """One job a candidate and task to choose on, where there is more than one candidate."""
    return [
        {"label": label, "task": task, "train_split": "train800", "seed": grid.seeds[0]} | each
        for label, candidates in grid.candidates().items()
        for task in grid.tune_on or grid.tasks
        if len(candidates) > 1
        for each in candidates
    ]


def every_job(grid: Grid, train_split: str) -> list[Job]:
    """One job a candidate, task and seed."""
    return [
        {"label": label, "task": task, "train_split": train_split, "seed": seed} | each
        for label, candidates in grid.candidates().items()
        for task, seed in itertools.product(grid.tasks, grid.seeds)
        for each in candidates
    ]


def final_jobs(grid: Grid, tuned: list[Job]) -> list[Job]:
    """One job a seed, method and task, each with its best candidate. tuned: results of `tuning_jobs`."""
    scores = {(r["label"], r["task"], identity(_candidate(r))): r.get("accuracy", np.nan) for r in tuned}
    jobs = []
    for seed, (label, candidates), task in itertools.product(grid.seeds, grid.candidates().items(), grid.tasks):
        if len(candidates) > 1:
            means = [
                np.mean([scores[label, t, identity(each)] for t in grid.tune_on or [task]]) for each in candidates
            ]
            if np.isnan(means).all():
                continue  # every candidate failed; their tracebacks say why
            candidates = [candidates[np.nanargmax(means)]]  # the first of equals
        jobs.append({"label": label, "task": task, "train_split": "train800val200", "seed": seed} | candidates[0])
    return jobs


def first_stage_jobs(jobs: list[Job]) -> list[Job]:
    """What jobs of two stages start from, each a job of its own that is never evaluated."""
    first = [(job, create_method(job["method"], **job["options"]).first()) for job in jobs]
    return [
        job | {"method": method.name, "options": method.options(), "recipe": _first_recipe(job), "first_stage": True}
        for job, method in first
        if method is not None
    ]


def _first_recipe(job: Job) -> dict[str, Any]:
    """The recipe of a job's first stage: `first_lr` and `first_epochs` as lr and epochs; no lr is its own method's."""
    own = {key: value for key, value in job["recipe"].items() if key not in ("lr", *FIRST)}
    first = {key.removeprefix("first_"): job["recipe"].get(key) for key in FIRST}
    return own | {key: value for key, value in first.items() if value is not None}


def _candidate(result: Job) -> dict[str, Any]:
    return {key: result[key] for key in ("method", "options", "recipe")}


def judged_on(job: Job) -> str:
    """The split on which a job's run is measured when it is trained."""
    return "val200" if job["train_split"] == "train800" else "test"


def attached(grid: Grid, job: Job, task: Task) -> PeftModel:
    """The model that a job trains."""
    method = create_method(job["method"], **job["options"])
    return attach(backbone(grid), method, task.num_classes, seed=job["seed"])


def backbone(grid: Grid) -> ViT:
    """The grid's backbone, loaded once."""
    return _load_once(grid.backbone, grid.img_size)


@lru_cache(maxsize=1)
def _load_once(name: str, img_size: int | None) -> ViT:
    return load_backbone(name, img_size=img_size)


def settings(grid: Grid, job: Job) -> dict[str, Any]:
    """What `fit` and `make_spec` are told of a job, beside its model and task."""
    return {
        "protocol": grid.protocol,
        "evaluate_each_epoch": [] if job.get("first_stage") else grid.evaluate_each_epoch,
        "train_images": grid.train_images,
        "train_split": job["train_split"],
        "seed": job["seed"],
    } | job["recipe"]


class Specs:
    """The specs of a grid's jobs, each made once, in the processes or on the cluster that would run them."""

    def __init__(self, grid: Grid, processes: int) -> None:
        self.grid, self.processes = grid, processes
        self.known: dict[str, RunSpec | Exception] = {}

    def of(self, jobs: list[Job]) -> list[RunSpec | Exception]:
        """One for each job; in the place of a spec that cannot be made stands what that raised."""
        by_task: dict[str, list[Job]] = {}
        for key, job in {identity(job): job for job in jobs}.items():
            if key not in self.known:
                by_task.setdefault(job["task"], []).append(job)
        parallel = joblib.Parallel(n_jobs=min(self.processes, max(1, len(by_task))), return_as="generator_unordered")
        own = own_methods()
        made = parallel(joblib.delayed(task_specs)(self.grid, of_one, own) for of_one in by_task.values())
        for found in progress(made, desc="runs of the grid", unit="task", total=len(by_task), delay=1):
            self.known |= found
        return [self.known[identity(job)] for job in jobs]


def task_specs(grid: Grid, jobs: list[Job], methods: Mapping[str, type[Method]]) -> dict[str, RunSpec | Exception]:
    """{identity of a job: its spec, or what making it raised}. jobs: all on one task. methods: as in `run_job`."""
    METHODS.update(methods)
    found: dict[str, RunSpec | Exception] = {}
    try:
        task = load_task(jobs[0]["task"], grid.root)
        with described_once(backbone(grid)):
            for _, alike in itertools.groupby(sorted(jobs, key=_start), _start):
                first, *others = alike
                model = attached(grid, first, task)
                found |= {identity(job): make_spec(model, task, **settings(grid, job)) for job in (first, *others)}
    except Exception as error:  # what runs such a job records it
        found |= {identity(job): error for job in jobs if identity(job) not in found}
    return found


def _start(job: Job) -> str:
    """What jobs on one task have in common that start from the same model."""
    return json.dumps([job["method"], job["options"], job["seed"]])
