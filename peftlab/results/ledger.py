"""The ledger: one folder a run, and a tidy DataFrame of all of them.

runs/<run id>/run.json               everything about the run: what, on what, how, with which result
runs/<run id>/curves.csv             one row an epoch
runs/<run id>/adapter.{json,safetensors}
runs/<run id>/state.safetensors      only while a run is unfinished: what is needed to go on
"""

import hashlib
import json
import warnings
from pathlib import Path

import pandas as pd

from ..common.files import write_json, write_text
from ..common.paths import runs_folder


def run_id(identity):
    """Folder name of a run, readable and unique: task, method and 10 hex digits over everything that defines it."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    return f"{identity['task']}-{identity['method']}-{digest}"


def write_curves(folder, rows):
    """Write curves.csv in one atomic step."""
    write_text(folder / "curves.csv", pd.DataFrame(rows).to_csv(index=False))


def read_curves(folder):
    """curves.csv of one run -> DataFrame, a row an epoch."""
    return pd.read_csv(folder / "curves.csv")


def write_record(folder, record):
    write_json(Path(folder) / "run.json", record)


def read_record(folder):
    """run.json of one run, or None where there is none yet."""
    file = Path(folder) / "run.json"
    return json.loads(file.read_text()) if file.is_file() else None


def read_ledger(folder=None):
    """All runs as a DataFrame, one row a run, sorted by task, method and seed.

    Accuracies lie in [0, 1], times are seconds. A run folder that cannot be read is skipped with a warning.
    """
    rows = []
    for file in sorted(Path(folder or runs_folder()).glob("*/run.json")):
        try:
            record = json.loads(file.read_text())
            rows.append({"run": file.parent.name} | record)
        except (OSError, json.JSONDecodeError) as error:
            warnings.warn(f"{file}: skipped, cannot be read ({error})", stacklevel=2)
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["task", "method", "seed", "run"], ignore_index=True)


def titles(ledger):
    """{task: its name for tables and pictures}; synthetic tasks carry their tag."""
    synthetic = ledger.groupby("task")["synthetic"].first()
    return {task: f"{task} (synthetic)" if tag else task for task, tag in synthetic.items()}
