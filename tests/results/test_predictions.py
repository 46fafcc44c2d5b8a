"""The prediction for every image is kept, of a run and beside a sweep's table, and says what the accuracy says."""

import pandas as pd
import pytest
import torch
from support import small_vit

from peftlab.common.errors import DataError
from peftlab.methods import attach
from peftlab.results.predictions import (
    answers,
    correct,
    run_predictions,
    table_file,
    write_predictions,
    write_table_predictions,
)
from peftlab.training.fit import fit


def test_a_run_keeps_what_it_predicted_for_every_split_it_was_measured_on(tiny_task, tmp_path):
    run = fit(
        attach(small_vit(), "linear", 3), tiny_task, epochs=1, batch_size=4, train_split="train800", runs=tmp_path
    )
    accuracy = {split: run.evaluate(split) for split in ("val200", "test")}
    data = run.record["data"]
    kept = run_predictions(run.folder, run.folder.name, data)
    assert set(kept) == {f"{who} {split}" for who in (run.folder.name, f"labels {data}") for split in accuracy}
    for split, value in accuracy.items():
        predicted, labels = kept[f"{run.folder.name} {split}"], kept[f"labels {data} {split}"]
        assert predicted.dtype == torch.uint8 and labels.tolist() == tiny_task.labels(split).tolist()
        assert (predicted == labels).double().mean() == value


def test_more_classes_than_a_byte_holds(tmp_path):
    classes = torch.tensor([0, 255, 256, 999])
    write_predictions(tmp_path, "test", classes, classes.flip(0))
    kept = run_predictions(tmp_path, "a", "0f")
    assert kept["a test"].tolist() == classes.tolist() and kept["labels 0f test"].tolist() == classes.tolist()[::-1]


def test_more_classes_than_two_bytes_hold(tmp_path):
    """A head has up to 100,000 of them. Two bytes each are kept as long as they are enough."""
    for most, kind in ((255, torch.uint8), (256, torch.int16), (32_767, torch.int16), (32_768, torch.int32)):
        classes = torch.tensor([0, most])
        write_predictions(tmp_path, "test", classes, classes)
        kept = run_predictions(tmp_path, "a", "0f")["a test"]
        assert kept.dtype == kind and kept.tolist() == classes.tolist()
    write_predictions(tmp_path, "test", torch.tensor([40_000, 99_999]), torch.tensor([40_000, 1]))
    write_table_predictions(tmp_path / "all.csv", run_predictions(tmp_path, "a", "0f"))
    rows = pd.DataFrame({"run": ["a"], "data": ["0f"]})
    assert correct(tmp_path / "all.csv", rows)["a"].tolist() == [True, False]
    assert answers(tmp_path / "all.csv", rows)["a"][0].tolist() == [40_000, 99_999]


def test_correct_takes_the_rows_whose_predictions_are_kept(tmp_path):
    table, rows = tmp_path / "all.csv", pd.DataFrame({"run": ["a", "b", "c"], "data": ["0f", "0f", "1e"]})
    assert correct(table, rows) == {}
    kept = {"a test": [0, 1], "b test": [1, 1], "c test": [0, 0], "labels 0f test": [0, 0]}
    kept |= {"a val200": [1], "labels 0f val200": [1]}
    write_table_predictions(table, {name: torch.tensor(values) for name, values in kept.items()})
    assert {run: right.tolist() for run, right in correct(table, rows).items()} == {
        "a": [True, False],
        "b": [False, False],
    }
    assert correct(table, rows, "val200") == {"a": [True]}
    table_file(table).write_bytes(b"no tensors")
    with pytest.raises(DataError, match=r"all.predictions.safetensors"):
        correct(table, rows)
