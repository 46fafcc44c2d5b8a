"""Sweeps: methods x tasks x seeds x hyper-parameters, tuned on val200, retrained on all, test opened once.

grid.py says what a grid holds, plan.py which of its candidates are trained on what, sweep_table.py what a table has of
that already. What a method of two stages starts from is a job of its own, run before those that need it, so that two
processes never train the same first stage.
"""

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from ..common.errors import PeftlabError, check_at_least
from ..common.files import write_json
from ..common.paths import data_root, expanded, runs_folder
from ..common.progress import progress
from ..methods import METHODS, Method
from ..methods.core.own_code import own_methods
from ..results.ledger import run_id
from ..tasks.load import load_task
from .fit import fit
from .grid import Grid
from .plan import Job, attached, first_stage_jobs, identity, judged_on, phases, settings
from .sweep_table import SweepTable

PATIENCE = 10  # seconds to wait for a scheduler


def run_job(grid: Grid, job: Job, runs: str | Path, methods: Mapping[str, type[Method]]) -> Job:
    """Train and evaluate one job -> the job with its run and accuracy, or with the error's name.

    Of a first stage no split is opened, and no accuracy is given. methods: to register, in a process that has none but
    peftlab's own.

    A finished run is taken from the ledger, an unfinished one goes on. A failure is written to
    <runs>/failures/<job>.json with its traceback and does not stop the others.
    """
    METHODS.update(methods)
    failure = Path(runs) / "failures" / f"{run_id(job)}.json"
    try:
        task = load_task(job["task"], grid.root)
        run = fit(attached(grid, job, task), task, runs=runs, **settings(grid, job))
        result: Job = {"run": run.folder.name}
        if not job.get("first_stage"):
            result["accuracy"] = run.evaluate(judged_on(job))
    except Exception as error:
        failure.parent.mkdir(parents=True, exist_ok=True)
        write_json(failure, job | {"error": repr(error), "traceback": traceback.format_exc()})
        return job | {"error": repr(error), "failure": str(failure)}
    failure.unlink(missing_ok=True)
    return job | result


def run_jobs(grid: Grid, jobs: list[Job], runs: Path, processes: int, desc: str) -> Iterator[Job]:
    """Yield the results of jobs as they are finished, of those that are the same run one.

    In as many local processes, or wherever joblib's active backend sends them.
    """
    distinct = {identity(job): job for job in jobs}
    if not distinct:
        return
    parallel = joblib.Parallel(n_jobs=min(processes, len(distinct)), return_as="generator_unordered")
    own = own_methods()
    work = parallel(joblib.delayed(run_job)(grid, job, str(runs), own) for job in distinct.values())
    try:
        yield from progress(work, desc=desc, unit="run", total=len(distinct), leave=True)
    except BrokenProcessPool:
        raise PeftlabError(
            "a process of this sweep was killed, most often for want of memory; give the sweep again, perhaps with "
            "fewer processes (--jobs): it goes on from the ledger"
        ) from None


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


def sweep(
    grid: Grid, runs: str | Path | None = None, processes: int = 1, table: str | Path | None = None
) -> tuple[pd.DataFrame, list[Job]]:
    """Tune, retrain, test -> (DataFrame, a row a finished run; list of failed jobs).

    A row is the run's ledger row with its label in the grid first; `train_split` tells tuning (train800) from the
    final runs (train800val200); first stages give none. With evaluate_each_epoch, a row is an epoch. Interrupted or
    given again, it goes on from what the ledger has. processes: local ones; within `on_cluster`, how many runs are in
    flight at once.
    table: a CSV file that gets the same rows, in the grid's order and anew after every run. A run whose rows it has
    already, of an equal spec and with the accuracy that is asked for, is done: nothing of it is trained, whatever the
    ledger has. Rows of no run of the grid stay at its end until all runs are done; then they move into a file beside
    it, all.others.csv of all.csv, and a line on stderr says so.
    Raises PeftlabError for fewer than one process, where one was killed, and, before anything is trained, for a table
    that is damaged, cannot be written or has no row of this grid.
    """
    check_at_least("the number of processes (--jobs)", processes, 1)
    # As it is here: on a cluster, workers have a folder and an environment of their own.
    root = str(grid.root or data_root() or "synthetic")
    grid = grid.model_copy(update={"root": root if root == "synthetic" else str(expanded(root).absolute())})
    kept = SweepTable(table, grid, processes)
    kept.check_belongs()
    runs = Path(runs or runs_folder()).resolve()
    runs.mkdir(parents=True, exist_ok=True)
    results: list[Job] = []
    failed: list[Job] = []
    for phase, plan in phases(grid).items():
        jobs = plan(results)
        done = kept.taken(jobs)
        left = [job for job in jobs if identity(job) not in done]
        before = list(run_jobs(grid, first_stage_jobs(left), runs, processes, "first stages"))
        for result in run_jobs(grid, left, runs, processes, phase):
            done[identity(result)] = result
            if "run" in result:
                kept.add(result["run"], runs)
                kept.write(results + in_order(jobs, done))
        results += in_order(jobs, done)
        failed += [job for job in [*before, *in_order(jobs, done)] if "error" in job]
    kept.write(results)
    if not failed:
        kept.set_aside(results)
    return kept.frame(results), failed


def in_order(jobs: list[Job], results: dict[str, Job]) -> list[Job]:
    """The results there are by now, as jobs stand, each under the label of its job."""
    there = [(job, results[identity(job)]) for job in jobs if identity(job) in results]
    return [result | {"label": job["label"]} for job, result in there]
