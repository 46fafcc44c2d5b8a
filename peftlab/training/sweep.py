"""Sweeps: methods x tasks x seeds x hyper-parameters, tuned on val200, retrained on all, test opened once.

grid.py says what a grid holds and which of its candidates are trained on what. What a method of two stages starts
from is a job of its own, run before those that need it, so that two processes never train the same first stage.
"""

import contextlib
import itertools
import json
import traceback
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import numpy as np
import pandas as pd

from ..backbones.load import load_backbone
from ..common.errors import PeftlabError, check_at_least
from ..common.files import write_json
from ..common.paths import runs_folder
from ..common.progress import progress
from ..methods import attach, create_method
from ..results.ledger import read_curves, read_record, run_id
from ..tasks.load import load_task
from .fit import fit
from .grid import FIRST, Grid

PATIENCE = 10  # seconds to wait for a scheduler
Job: TypeAlias = dict[str, Any]  # one run to be: label, task, method, options, recipe, train_split, seed
IDENTITY = ("task", "method", "options", "recipe", "train_split", "seed")


def tuning_jobs(grid: Grid) -> list[Job]:
    """One job a candidate and task to choose on, where there is more than one candidate."""
    return [
        {"label": label, "task": task, "train_split": "train800", "seed": grid.seeds[0]} | each
        for label, candidates in grid.candidates().items()
        for task in grid.tune_on or grid.tasks
        if len(candidates) > 1
        for each in candidates
    ]


def each_epoch_jobs(grid: Grid) -> list[Job]:
    """One job a candidate, task and seed."""
    return [
        {"label": label, "task": task, "train_split": "train800", "seed": seed} | each
        for label, candidates in grid.candidates().items()
        for task, seed in itertools.product(grid.tasks, grid.seeds)
        for each in candidates
    ]


def final_jobs(grid: Grid, tuned: list[Job]) -> list[Job]:
    """One job a seed, method and task, each with its best candidate. tuned: results of `tuning_jobs`."""
    scores = {(r["label"], r["task"], _identity(_candidate(r))): r.get("accuracy", np.nan) for r in tuned}
    jobs = []
    for seed, (label, candidates), task in itertools.product(grid.seeds, grid.candidates().items(), grid.tasks):
        if len(candidates) > 1:
            means = [
                np.mean([scores[label, t, _identity(each)] for t in grid.tune_on or [task]]) for each in candidates
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


@lru_cache(maxsize=1)
def _backbone(name: str, img_size: int | None) -> Any:
    return load_backbone(name, img_size=img_size)


def run_job(grid: Grid, job: Job, runs: str | Path) -> Job:
    """Train and evaluate one job -> the job with its run and accuracy, or with the error's name.

    Of a first stage no split is opened, and no accuracy is given.

    A finished run is taken from the ledger, an unfinished one goes on. A failure is written to
    <runs>/failures/<job>.json with its traceback and does not stop the others.
    """
    first_stage = job.get("first_stage", False)
    failure = Path(runs) / "failures" / f"{run_id(job)}.json"
    how: dict[str, Any] = {
        "protocol": grid.protocol,
        "evaluate_each_epoch": [] if first_stage else grid.evaluate_each_epoch,
        "train_images": grid.train_images,
    }
    try:
        task = load_task(job["task"], grid.root)
        method = create_method(job["method"], **job["options"])
        model = attach(_backbone(grid.backbone, grid.img_size), method, task.num_classes, seed=job["seed"])
        run = fit(model, task, runs=runs, train_split=job["train_split"], seed=job["seed"], **how, **job["recipe"])
        result: Job = {"run": run.folder.name}
        if not first_stage:
            result["accuracy"] = run.evaluate("val200" if job["train_split"] == "train800" else "test")
    except Exception as error:
        failure.parent.mkdir(parents=True, exist_ok=True)
        write_json(failure, job | {"error": repr(error), "traceback": traceback.format_exc()})
        return job | {"error": repr(error), "failure": str(failure)}
    failure.unlink(missing_ok=True)
    return job | result


def run_jobs(grid: Grid, jobs: list[Job], runs: Path, processes: int, desc: str) -> list[Job]:
    """All jobs, in as many local processes or wherever joblib's active backend sends them -> list of results.

    First stages are run before the jobs that start from them, and their results stand first. Jobs that are the same
    run, under two labels or as the first stage of several, are run once.
    """
    first_stages = first_stage_jobs(jobs)
    before = run_jobs(grid, first_stages, runs, processes, "first stages") if first_stages else []
    distinct = {_identity(job): job for job in jobs}
    parallel = joblib.Parallel(n_jobs=min(processes, max(1, len(distinct))), return_as="generator_unordered")
    work = parallel(joblib.delayed(run_job)(grid, job, str(runs)) for job in distinct.values())
    try:
        done = {_identity(r): r for r in progress(work, desc=desc, unit="run", total=len(distinct), leave=True)}
    except BrokenProcessPool:
        raise PeftlabError(
            "a process of this sweep was killed, most often for want of memory; give the sweep again, perhaps with "
            "fewer processes (--jobs): it goes on from the ledger"
        ) from None
    return before + [done[_identity(job)] | {"label": job["label"]} for job in jobs]


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
    except (OSError, ValueError) as error:  # ValueError: not an address
        raise PeftlabError(f"no Dask scheduler at {scheduler}: {error}. Start one with: dask scheduler") from None
    with client, joblib.parallel_config(backend="dask"):
        yield client


def sweep(grid: Grid, runs: str | Path | None = None, processes: int = 1) -> tuple[pd.DataFrame, list[Job]]:
    """Tune, retrain, test -> (DataFrame, a row a finished run; list of failed jobs).

    A row is the run's ledger row with its label in the grid first; `train_split` tells tuning (train800) from the
    final runs (train800val200); first stages give none. With evaluate_each_epoch, a row is an epoch. Interrupted or
    given again, it goes on from what the ledger has. processes: local ones; within `on_cluster`, how many runs are in
    flight at once.
    Raises PeftlabError for fewer than one, and where one of them was killed.
    """
    check_at_least("the number of processes (--jobs)", processes, 1)
    runs = Path(runs or runs_folder()).resolve()
    runs.mkdir(parents=True, exist_ok=True)
    if grid.evaluate_each_epoch:
        jobs = run_jobs(grid, each_epoch_jobs(grid), runs, processes, "each epoch")
    else:
        tuned = run_jobs(grid, tuning_jobs(grid), runs, processes, "tuning")
        jobs = tuned + run_jobs(grid, final_jobs(grid, tuned), runs, processes, "sweep")
    rows: list[dict[Any, Any]] = []
    for job in (job for job in jobs if "accuracy" in job):
        row = {"label": job["label"], "run": job["run"]} | (read_record(runs / job["run"]) or {})
        # The run's own entries win: its lr is the peak, that of an epoch the last rate in it.
        rows += (
            [epoch | row for epoch in read_curves(runs / job["run"]).to_dict("records")]
            if grid.evaluate_each_epoch
            else [row]
        )
    return pd.DataFrame(rows), [job for job in jobs if "error" in job]
