"""Sweeps: methods x tasks x seeds x hyper-parameters, tuned on val200, retrained on all, test opened once.

A grid is a YAML file:

    tasks: [dtd, eurosat]
    seeds: [0, 1, 2]
    recipe: {epochs: 5, batch_size: 32}
    methods:
      lora: {rank: [4, 8], lr: [0.001, 0.005]}              # every combination is tried on val200
      "LoRA, all layers": {method: lora, targets: [[q, k, v, o, fc1, fc2]]}   # one choice, which is itself a list
      linear: {}

Further keys: backbone, img_size, root, protocol, tune_on, evaluate_each_epoch, train_images.
Whoever has only one combination needs no tuning. Candidates are trained on train800 with the first seed and compared
on val200; the best is trained on train800val200 with every seed. Each task chooses its own, unless tune_on lists
tasks: then the best mean over those serves all tasks. evaluate_each_epoch lists splits: then nothing is chosen; every
candidate is trained on train800 with every seed and evaluated on them after each epoch, to show what test-set
selection does.
train_images: only the first so many, for quick lessons.
"""

import contextlib
import itertools
import json
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import numpy as np
import pandas as pd
import yaml

from ..backbones.load import load_backbone
from ..backbones.protocols import get_protocol
from ..common.errors import PeftlabError, near
from ..common.files import write_json
from ..common.paths import runs_folder
from ..common.progress import progress
from ..methods import Method, attach, create_method
from ..results.ledger import read_curves, read_record, run_id
from ..tasks.load import load_task
from .fit import fit

PATIENCE = 10  # seconds to wait for a scheduler
RECIPE = ("epochs", "batch_size", "lr", "weight_decay")
Job: TypeAlias = dict[str, Any]  # one run to be: label, task, method, options, recipe, train_split, seed
IDENTITY = ("task", "method", "options", "recipe", "train_split", "seed")


@dataclass(frozen=True)
class Grid:
    """What a grid file says; see the module."""

    tasks: list[str]
    methods: dict[str, Any]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    recipe: dict[str, Any] = field(default_factory=dict)
    backbone: str = "peftlab_vit_mini"
    img_size: int | None = None
    root: str | None = None
    protocol: str = "peftlab"
    tune_on: list[str] | None = None
    evaluate_each_epoch: list[str] = field(default_factory=list)
    train_images: int | None = None

    def candidates(self, label: str) -> list[dict[str, Any]]:
        """All combinations for one entry of `methods` -> list of {"method", "options", "recipe"}."""
        entry = dict(self.methods[label] or {})
        method = entry.pop("method", label)
        choices = [values if isinstance(values, list) else [values] for values in entry.values()]
        settings = [dict(zip(entry, combination, strict=True)) for combination in itertools.product(*choices)]
        return [
            {
                "method": method,
                "options": {k: v for k, v in each.items() if k not in RECIPE},
                "recipe": self.recipe | {k: v for k, v in each.items() if k in RECIPE},
            }
            for each in settings
        ]


def read_grid(file: str | Path) -> Grid:
    """A Grid from a YAML file. Raises PeftlabError for what it does not understand, before anything runs."""
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PeftlabError(f"{file}: cannot be read as YAML: {error}") from None
    known = [f.name for f in fields(Grid)]
    if not isinstance(content, dict) or not {"tasks", "methods"} <= content.keys():
        raise PeftlabError(f"{file}: a grid names its tasks and methods; see the README")
    for key in content:
        if key not in known:
            raise PeftlabError(f"{file}: unknown key {key!r}{near(key, known)}")
    grid = Grid(**content)
    if not isinstance(grid.methods, dict) or not grid.methods or not grid.tasks or not grid.seeds:
        raise PeftlabError(f"{file}: tasks, seeds and methods must not be empty, and methods maps names to settings")
    for key in grid.recipe:
        if key not in RECIPE:
            raise PeftlabError(f"{file}: unknown entry {key!r} of recipe{near(key, RECIPE)}")
    get_protocol(grid.protocol)
    for name in [*grid.tasks, *(grid.tune_on or [])]:
        load_task(name, grid.root)
    for label in grid.methods:
        for each in grid.candidates(label):
            create_method(each["method"], **each["options"])
    return grid


def grid_methods(grid: Grid) -> dict[str, Method]:
    """{label: Method}, each with the first of its combinations."""
    first = {label: grid.candidates(label)[0] for label in grid.methods}
    return {label: create_method(each["method"], **each["options"]) for label, each in first.items()}


def tuning_jobs(grid: Grid) -> list[Job]:
    """One job a candidate and task to choose on, where there is more than one candidate."""
    return [
        {"label": label, "task": task, "train_split": "train800", "seed": grid.seeds[0]} | each
        for label in grid.methods
        for task in grid.tune_on or grid.tasks
        for each in grid.candidates(label)
        if len(grid.candidates(label)) > 1
    ]


def each_epoch_jobs(grid: Grid) -> list[Job]:
    """One job a candidate, task and seed."""
    return [
        {"label": label, "task": task, "train_split": "train800", "seed": seed} | each
        for label, task, seed in itertools.product(grid.methods, grid.tasks, grid.seeds)
        for each in grid.candidates(label)
    ]


def final_jobs(grid: Grid, tuned: list[Job]) -> list[Job]:
    """One job a seed, method and task, each with its best candidate. tuned: results of `tuning_jobs`."""
    scores = {(r["label"], r["task"], _identity(_candidate(r))): r.get("accuracy", np.nan) for r in tuned}
    jobs = []
    for seed, label, task in itertools.product(grid.seeds, grid.methods, grid.tasks):
        candidates = grid.candidates(label)
        if len(candidates) > 1:
            means = [
                np.mean([scores[label, t, _identity(each)] for t in grid.tune_on or [task]]) for each in candidates
            ]
            if np.isnan(means).all():
                continue  # every candidate failed; their tracebacks say why
            candidates = [candidates[np.nanargmax(means)]]  # the first of equals
        jobs.append({"label": label, "task": task, "train_split": "train800val200", "seed": seed} | candidates[0])
    return jobs


def _candidate(result: Job) -> dict[str, Any]:
    return {key: result[key] for key in ("method", "options", "recipe")}


@lru_cache(maxsize=1)
def _backbone(name: str, img_size: int | None) -> Any:
    return load_backbone(name, img_size=img_size)


def run_job(grid: Grid, job: Job, runs: str | Path) -> Job:
    """Train and evaluate one job -> the job with its run and accuracy, or with the error's name.

    A finished run is taken from the ledger, an unfinished one goes on. A failure is written to
    <runs>/failures/<job>.json with its traceback and does not stop the others.
    """
    failure = Path(runs) / "failures" / f"{run_id(job)}.json"
    how: dict[str, Any] = {
        "protocol": grid.protocol,
        "evaluate_each_epoch": grid.evaluate_each_epoch,
        "train_images": grid.train_images,
        "reuse": True,
    }
    try:
        task = load_task(job["task"], grid.root)
        method = create_method(job["method"], **job["options"])
        model = attach(_backbone(grid.backbone, grid.img_size), method, task.num_classes, seed=job["seed"])
        run = fit(model, task, runs=runs, train_split=job["train_split"], seed=job["seed"], **how, **job["recipe"])
        accuracy = run.evaluate("val200" if job["train_split"] == "train800" else "test")
    except Exception as error:
        failure.parent.mkdir(parents=True, exist_ok=True)
        write_json(failure, job | {"error": repr(error), "traceback": traceback.format_exc()})
        return job | {"error": repr(error), "failure": str(failure)}
    failure.unlink(missing_ok=True)
    return job | {"run": run.folder.name, "accuracy": accuracy}


def run_jobs(grid: Grid, jobs: list[Job], runs: Path, processes: int, desc: str) -> list[Job]:
    """All jobs, in as many local processes or wherever joblib's active backend sends them -> list of results.

    Jobs that are the same run under two labels are run once.
    """
    distinct = {_identity(job): job for job in jobs}
    parallel = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
    work = parallel(joblib.delayed(run_job)(grid, job, str(runs)) for job in distinct.values())
    done = {_identity(r): r for r in progress(work, desc=desc, unit="run", total=len(distinct), leave=True)}
    return [done[_identity(job)] | {"label": job["label"]} for job in jobs]


def _identity(job: Job) -> str:
    return json.dumps({key: value for key, value in job.items() if key in IDENTITY}, sort_keys=True)


@contextlib.contextmanager
def on_cluster(scheduler: str) -> Iterator[Any]:
    """Within this, sweeps run on the Dask cluster at an address. Raises PeftlabError where it cannot be reached."""
    try:
        from distributed import Client
    except ImportError:
        raise PeftlabError("a cluster needs Dask: pip install 'peftlab[cluster]'") from None
    try:
        client = Client(scheduler, timeout=PATIENCE)
    except OSError as error:
        raise PeftlabError(f"no Dask scheduler at {scheduler}: {error}. Start one with: dask scheduler") from None
    with client, joblib.parallel_config(backend="dask"):
        yield client


def sweep(grid: Grid, runs: str | Path | None = None, processes: int = 1) -> tuple[pd.DataFrame, list[Job]]:
    """Tune, retrain, test -> (DataFrame, a row a finished run; list of failed jobs).

    A row is the run's ledger row with its label in the grid first; `train_split` tells tuning (train800) from the
    final runs (train800val200). Where the grid looks at splits, a row is an epoch. Interrupted or given again, it goes
    on from what the ledger has. processes: local ones; within `on_cluster`, how many runs are in flight at once.
    """
    runs = Path(runs or runs_folder()).resolve()
    runs.mkdir(parents=True, exist_ok=True)
    if grid.evaluate_each_epoch:
        jobs = run_jobs(grid, each_epoch_jobs(grid), runs, processes, "looking")
    else:
        tuned = run_jobs(grid, tuning_jobs(grid), runs, processes, "tuning")
        jobs = tuned + run_jobs(grid, final_jobs(grid, tuned), runs, processes, "sweep")
    rows: list[dict[Any, Any]] = []
    for job in (job for job in jobs if "run" in job):
        row = {"label": job["label"], "run": job["run"]} | (read_record(runs / job["run"]) or {})
        # The run's own entries win: its lr is the peak, that of an epoch the last rate in it.
        rows += (
            [epoch | row for epoch in read_curves(runs / job["run"]).to_dict("records")]
            if grid.evaluate_each_epoch
            else [row]
        )
    return pd.DataFrame(rows), [job for job in jobs if "error" in job]
