"""The ledger: one folder a run, and a tidy DataFrame of all of them.

runs/<run id>/run.json               everything about the run: what, on what, how, with which result
runs/<run id>/curves.csv             one row an epoch
runs/<run id>/adapter.{json,safetensors}
runs/<run id>/predictions.safetensors  the class predicted for every image of the splits that were measured
runs/<run id>/state.safetensors      only while a run is unfinished: what is needed to go on
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..common.errors import DataError
from ..common.files import read_json, write_json, write_text
from ..common.paths import runs_folder
from .published import read_table

EVERY_RECORD = {"task": str, "method": str, "seed": int}  # what each has, whichever model it is of


def run_id(identity: Mapping[str, Any]) -> str:
    """Folder name of a run, readable and unique: task, method and 10 hex digits over everything that defines it.

    >>> run_id({"task": "dtd", "method": "lora", "seed": 0})
    'dtd-lora-b2e16d17c6'
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    return f"{identity['task']}-{identity['method']}-{digest}"


def write_curves(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write curves.csv, a row an epoch, in one atomic step."""
    write_text(folder / "curves.csv", pd.DataFrame(rows).to_csv(index=False))


def read_curves(folder: Path) -> pd.DataFrame:
    """curves.csv of one run -> DataFrame, a row an epoch. Raises DataError, naming the file, where it is damaged."""
    return read_table(folder / "curves.csv")


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json in one atomic step."""
    write_json(folder / "run.json", record)


def read_record(folder: Path) -> dict[str, Any] | None:
    """run.json of one run, or None where there is none yet. Raises DataError, naming the file, where it is damaged."""
    file = folder / "run.json"
    if not file.exists():
        return None
    record = read_json(file)
    accuracies = [value for key, value in record.items() if key.endswith("_accuracy") and value is not None]
    whole = all(isinstance(record.get(key), kind) for key, kind in EVERY_RECORD.items())
    if not (whole and all(isinstance(value, int | float) and 0 <= value <= 1 for value in accuracies)):
        raise DataError(f"{file}: not the record of a run. Move its folder away, or remove it and train again")
    return record


def read_ledger(folder: str | Path | None = None) -> pd.DataFrame:
    """All runs as a DataFrame, one row a run, sorted by task, method and seed.

    Accuracies lie in [0, 1], times are seconds. A record that cannot be read is skipped with a warning. Raises
    DataError for a folder that was named and is not there, and for one that may not be read.
    """
    root = Path(folder or runs_folder())
    if not root.is_dir() and (folder is not None or root.exists()):
        raise DataError(f"{root}: no such folder, so no ledger. Check the path")
    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):  # in which glob finds nothing
        raise DataError(f"{root}: may not be read. Change its permissions, or name another ledger (--runs)")
    rows: list[dict[str, Any]] = []
    for file in sorted(root.glob("*/run.json")):
        try:
            if record := read_record(file.parent):  # None: removed meanwhile
                rows.append({"run": file.parent.name} | record)
        except DataError as error:
            warnings.warn(f"skipped, {error}", stacklevel=2)
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["task", "method", "seed", "run"], ignore_index=True)


def task_titles(ledger: pd.DataFrame) -> dict[str, str]:
    """{task: its name for tables and pictures}; synthetic tasks carry their tag.

    >>> task_titles(pd.DataFrame({"task": ["dtd", "dsprites_ori"], "synthetic": [False, True]}))
    {'dsprites_ori': 'dsprites_ori (synthetic)', 'dtd': 'dtd'}
    """
    synthetic = ledger.groupby("task")["synthetic"].first()
    return {task: f"{task} (synthetic)" if tag else task for task, tag in zip(synthetic.index, synthetic, strict=True)}
