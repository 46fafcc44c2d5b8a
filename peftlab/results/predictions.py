"""What runs predicted for every image, so that two of them can be compared image by image.

<run>/predictions.safetensors      of each split that was measured: "test", predicted; "labels test", true classes
<table>.predictions.safetensors    beside a sweep's table: "<run> test" of every run, "labels <data> test" once a task
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from ..common.tensors import read_tensors, write_tensors

LABELS = "labels "


def write_predictions(folder: Path, split: str, predicted: Int64[Tensor, " n"], labels: Int64[Tensor, " n"]) -> None:
    """Keep what a run predicted for a split, beside what it predicted for others."""
    write_tensors(_file(folder), _tensors(_file(folder)) | {split: _small(predicted), LABELS + split: _small(labels)})


def run_predictions(folder: Path, run: str, data: str) -> dict[str, Tensor]:
    """What a run has kept, as it stands in the file of a table; nothing where it has kept nothing.

    data: fingerprint of its task, whose labels are kept once.
    """
    return {
        f"{LABELS}{data} {name.removeprefix(LABELS)}" if name.startswith(LABELS) else f"{run} {name}": tensor
        for name, tensor in _tensors(_file(folder)).items()
    }


def table_file(table: Path) -> Path:
    """The file of predictions that stands beside a sweep's table."""
    return table.with_suffix(".predictions.safetensors")


def table_predictions(table: Path) -> dict[str, Tensor]:
    """Everything in the file beside a table; nothing where there is none. Raises DataError where it is damaged."""
    return _tensors(table_file(table))


def write_table_predictions(table: Path, kept: Mapping[str, Tensor]) -> None:
    """Write the file beside a table."""
    write_tensors(table_file(table), kept)


def divide(kept: Mapping[str, Tensor], runs: Collection[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A table's predictions -> (those of these runs, the others), the labels with either.

    >>> [sorted(part) for part in divide(dict.fromkeys(["a test", "b test", "labels 0f test"], torch.zeros(1)), ["a"])]
    [['a test', 'labels 0f test'], ['b test', 'labels 0f test']]
    """
    theirs = {name for name in kept if name.split()[0] in runs}
    labels = {name for name in kept if name.startswith(LABELS)}
    return {name: kept[name] for name in theirs | labels}, {name: kept[name] for name in kept if name not in theirs}


def answers(table: str | Path, rows: pd.DataFrame, split: str = "test") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{run: (predicted, true classes), both [images]} of those rows of a table whose predictions are kept.

    rows: with the columns run and data.
    """
    kept = table_predictions(Path(table))
    keys = {
        run: (f"{run} {split}", f"{LABELS}{data} {split}") for run, data in zip(rows["run"], rows["data"], strict=True)
    }
    return {run: (kept[p].numpy(), kept[t].numpy()) for run, (p, t) in keys.items() if p in kept and t in kept}


def correct(table: str | Path, rows: pd.DataFrame, split: str = "test") -> dict[str, np.ndarray]:
    """{run: whether its prediction was right, bool [images]} of `answers`."""
    return {run: predicted == labels for run, (predicted, labels) in answers(table, rows, split).items()}


def _file(folder: Path) -> Path:
    return folder / "predictions.safetensors"


def _tensors(file: Path) -> dict[str, Tensor]:
    return read_tensors(file)[0] if file.exists() else {}


def _small(classes: Int64[Tensor, " n"]) -> Tensor:
    """One byte each, where that is enough; two or four where it is not."""
    kinds = (torch.uint8, torch.int16, torch.int32)
    return classes.to(next(kind for kind in kinds if classes.max() <= torch.iinfo(kind).max))
