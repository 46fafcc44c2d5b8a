"""The table of a sweep: what it holds already is done, and every finished run adds its rows at once.

Cells are kept as the text that stands in the file, so that rows which are taken over do not change.
"""

import csv
import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from ..common.errors import DataError, PeftlabError
from ..common.files import require_writable, sweep_parts, write_text
from ..results.ledger import read_curves, read_record
from ..results.predictions import divide, run_predictions, table_predictions, write_table_predictions
from .grid import Grid
from .plan import Job, Specs, every_job, identity, judged_on, tuning_jobs
from .spec import RunSpec

Row: TypeAlias = dict[str, str]  # the cells of a row that are not empty, by column
# Text, even where all are digits.
TEXT = ("label", "run", "data", "weights", "probe", "start", "adapter", "protocol_hash", "code")
# What is reckoned with: the least it may be.
COUNTS = {"epoch": 1, "epochs": 1, "cooldown_epochs": 0, "train_images": 1, "seconds": 0}


class SweepTable:
    """The rows of a grid's runs, from a CSV file and from the ledger. file: None keeps them in memory alone.

    Raises PeftlabError where the file cannot be written, and DataError where it is no table of a sweep, or a damaged
    one.
    """

    def __init__(self, file: str | Path | None, grid: Grid, processes: int) -> None:
        self.file, self.grid = Path(file) if file else None, grid
        self.specs = Specs(grid, processes)
        self.columns: list[str] = []
        self.given: list[Row] = []  # what the file held at first
        if self.file:
            require_writable(self.file)
            self.columns, self.given = read_cells(self.file)
        if self.columns and "label" not in self.columns:  # a ledger's
            self.columns.insert(0, "label")
        self.rows = by_run(self.given, self.file)
        self.predictions = table_predictions(self.file) if self.file else {}
        self.kinds = {run.rpartition("-")[0] for run in self.rows}
        self.written = _as_csv(self.columns, self.given)

    def check_belongs(self) -> None:
        """Raise PeftlabError where the file has rows, but none of a run that this grid can have.

        Where that cannot be told, because a task cannot be read, what reading it raised.
        """
        grid = self.grid
        by_epoch = [every_job(grid, "train800")]
        plans = by_epoch if grid.evaluate_each_epoch else [tuning_jobs(grid), every_job(grid, "train800val200")]
        if self.given and not any(run in self.rows for jobs in plans for _, run in self._named(jobs)):
            for problem in self.specs.known.values():
                if isinstance(problem, Exception):
                    raise problem  # so that nobody can tell
            raise PeftlabError(
                f"{self.file}: none of its {len(self.given)} rows is of a run of this grid as it is here and now "
                "(data, backbone, recipe, device, precision, peftlab's version). Name another file, or move this one"
            )

    def taken(self, jobs: list[Job]) -> dict[str, Job]:
        """{identity: result} of those jobs whose runs it has."""
        results = [self.result(job, run) for job, run in self._named(jobs)]
        return {identity(result): result for result in results if result}

    def _named(self, jobs: list[Job]) -> Iterator[tuple[Job, str]]:
        """Jobs with the name of their run, where there are any rows of the same task and method."""
        jobs = [job for job in jobs if f"{job['task']}-{job['method']}" in self.kinds]
        for job, spec in zip(jobs, self.specs.of(jobs), strict=True):
            if isinstance(spec, RunSpec):
                yield job, spec.name

    def result(self, job: Job, run: str) -> Job | None:
        """The job with its run and accuracy, where the rows of that run are complete; else None."""
        rows = self.rows.get(run, [{}])
        accuracy = rows[0].get(judged_on(job).replace("val200", "val") + "_accuracy")
        if accuracy is None or (self.grid.evaluate_each_epoch and not _all_epochs(rows)):
            return None
        return job | {"run": run, "accuracy": float(accuracy)}

    def add(self, run: str, runs: Path) -> None:
        """Take the rows of a finished run from the ledger."""
        row = {"label": "", "run": run} | (read_record(runs / run) or {})
        self.predictions |= run_predictions(runs / run, run, row.get("data", ""))
        # The run's own entries win: its lr is the peak, that of an epoch the last rate in it.
        epochs = read_curves(runs / run).to_dict("records") if self.grid.evaluate_each_epoch else [{}]
        rows: list[dict[Any, Any]] = [epoch | row for epoch in epochs]
        self.columns += [str(name) for name in rows[0] if name not in self.columns]
        self.rows[run] = [
            {name: str(value) for name, value in each.items() if value not in (None, "")} for each in rows
        ]

    def write(self, results: list[Job]) -> None:
        """Write the rows of results, in their order, and after them what else the file held at first."""
        if self.file is None:
            return
        sweep_parts(self.file.parent)
        text = _as_csv(self.columns, self.of(results) + self.others(results))
        if text != self.written:
            if self.predictions:  # first: of a row in the table they are there
                write_table_predictions(self.file, self.predictions)
            write_text(self.file, text)
            self.written = text

    def set_aside(self, results: list[Job]) -> None:
        """Move what belongs to none of these results into a file beside it, and say so."""
        others = self.others(results)
        if self.file is None or not others:
            return
        file = self.file.with_suffix(f".others{self.file.suffix}")
        columns, before = read_cells(file)
        columns += [name for name in self.columns if name not in columns]
        theirs, self.predictions = divide(self.predictions, {row["run"] for row in others})
        if theirs:
            write_table_predictions(file, table_predictions(file) | theirs)
        write_text(file, _as_csv(columns, before + [row for row in others if row not in before]))
        self.given = []
        self.write(results)
        print(f"{self.file}: {len(others)} rows of no run of this grid now stand in {file}", file=sys.stderr)

    def of(self, results: list[Job]) -> list[Row]:
        """The rows of results, in their order and under their labels of today."""
        return [row | {"label": job["label"]} for job in results if "run" in job for row in self.rows[job["run"]]]

    def others(self, results: list[Job]) -> list[Row]:
        """What the file held at first and belongs to none of these results."""
        runs = {job.get("run") for job in results}
        return [row for row in self.given if row["run"] not in runs]

    def frame(self, results: list[Job]) -> pd.DataFrame:
        """The rows of results as a DataFrame."""
        rows = self.of(results)
        if not rows:
            return pd.DataFrame()
        how: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
        return pd.read_csv(io.StringIO(_as_csv(self.columns, rows)), dtype=dict.fromkeys(TEXT, str), **how)


def read_cells(file: Path) -> tuple[list[str], list[Row]]:
    """The columns and rows of a sweep's table; nothing where there is no file yet, or an empty one.

    Raises DataError, naming the file and line, for what is no such table or damaged.
    """
    try:
        text = file.read_text(encoding="utf-8-sig") if file.exists() else ""
        reader = csv.reader(io.StringIO(text), strict=True)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table: {error}. Restore it, or name another file") from None
    if not lines:
        return [], []
    (_, columns), *lines = lines
    if "run" not in columns or len(set(columns)) < len(columns):
        wrong = "has a column twice" if "run" in columns else "has no column run"
        raise DataError(f"{file}: {wrong}, so it is not the table of a sweep. Name another file")
    if not text.endswith("\n"):
        raise DataError(f"{file}: its last line does not end, so it may be cut off. Remove it; its run is made again")
    rows = []
    for number, cells in lines:
        row = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
        problem = f"{len(cells)} cells in {len(columns)} columns" if len(cells) != len(columns) else _problem(row)
        if problem:
            raise DataError(f"{file}, line {number}: {problem}. Restore the line, or remove it; its run is made again")
        rows.append(row)
    return columns, rows


def by_run(rows: list[Row], file: Path | None) -> dict[str, list[Row]]:
    """{run: its rows}, each once, though they stand under two labels. Raises DataError where two of them disagree."""
    found: dict[str, dict[str | None, Row]] = {}
    for row in rows:
        first = found.setdefault(row["run"], {}).setdefault(row.get("epoch"), row)
        for name in sorted(row.keys() | first):
            if name.endswith("accuracy") and row.get(name) != first.get(name):
                raise DataError(
                    f"{file}: two rows of {row['run']} disagree, {name} {first.get(name)} and {row.get(name)}. Remove "
                    "one of them"
                )
    return {run: sorted(epochs.values(), key=lambda row: float(row.get("epoch", 0))) for run, epochs in found.items()}


def _problem(row: Row) -> str:
    """What is wrong with a row; nothing, most often."""
    if "run" not in row:
        return "names no run"
    for name, cell in row.items():
        if name.endswith("accuracy") and not 0 <= _number(cell) <= 1:
            return f"{name} is {cell!r}, but must be a number between 0 and 1"
        if name in COUNTS and not COUNTS[name] <= _number(cell) < math.inf:
            return f"{name} is {cell!r}, but must be a number from {COUNTS[name]} on"
    return ""


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _all_epochs(rows: list[Row]) -> bool:
    """Whether rows of one run are all its epochs, each with every split that was to be looked at."""
    looked_at = [f"{split}_accuracy" for split in rows[0].get("evaluated_each_epoch", "").split()]
    last = int(float(rows[0].get("epochs", 0)) + float(rows[0].get("cooldown_epochs", 0)))
    complete = [float(row.get("epoch", 0)) for row in rows] == list(range(1, last + 1))
    return complete and all(name in row for row in rows for name in looked_at)


def _as_csv(columns: list[str], rows: list[Row]) -> str:
    """Rows as the text of a CSV file; nothing where there are none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
