"""The ledger: what lies in a folder of runs, whatever else lies there."""

import os

import pytest

from peftlab.cli import main
from peftlab.common.errors import DataError
from peftlab.results.ledger import read_curves, read_ledger, read_record, write_curves, write_record

GOOD = {"task": "dtd", "method": "lora", "seed": 0}
DAMAGED = {
    "a list": b"[1, 2]",
    "a number": b"3",
    "nothing": b"null",
    "cut": b"{",
    "binary": b"\xff\xfe\x00",
    "empty": b"",
    "zeros, as after a power cut": bytes(100),
    "too deep": b"[" * 100_000,
    "another record": b'{"task": "dtd", "method": "lora"}',
    "a seed that is a text": b'{"task": "dtd", "method": "lora", "seed": "0"}',  # which cannot be sorted
    "an accuracy that is none": b'{"task": "dtd", "method": "lora", "seed": 0, "test_accuracy": NaN}',
    "an accuracy that is a text": b'{"task": "dtd", "method": "lora", "seed": 0, "test_accuracy": "0.5"}',
    "a task that is a list": b'{"task": ["dtd"], "method": "lora", "seed": 0}',
}


@pytest.fixture
def damaged(tmp_path):
    """A ledger of a good run and one to be damaged -> the folder of the latter."""
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, GOOD)
    return tmp_path / "bad"


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_costs_one_row_and_is_named(content, damaged):
    (damaged / "run.json").write_bytes(content)
    with pytest.warns(UserWarning, match="skipped.*bad.run.json: "):
        table = read_ledger(damaged.parent)
    assert list(table["run"]) == ["good"]
    with pytest.raises(DataError, match="bad.run.json: "):
        read_record(damaged)


@pytest.mark.parametrize("other", ["folder", "fifo"])
def test_a_record_that_is_no_file_is_named_and_nothing_hangs(other, damaged):
    (damaged / "run.json").unlink()
    os.mkfifo(damaged / "run.json") if other == "fifo" else (damaged / "run.json").mkdir()
    with pytest.warns(UserWarning, match="bad.run.json: .*not a file"):
        assert list(read_ledger(damaged.parent)["run"]) == ["good"]
    with pytest.raises(DataError, match="bad.run.json: .*not a file"):
        read_record(damaged)


def test_an_accuracy_may_wait_to_be_measured(damaged):
    write_record(damaged, GOOD | {"train_accuracy": 1.0, "val_accuracy": 0, "test_accuracy": None})
    assert read_record(damaged)["test_accuracy"] is None


def test_no_record_yet_is_none(damaged):
    (damaged / "run.json").unlink()
    assert read_record(damaged) is None and read_record(damaged.parent / "good") == GOOD


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"a,b\n1,2\n1,2,3\n"])
def test_damaged_curves_are_named(content, tmp_path):
    if content is not None:
        (tmp_path / "curves.csv").write_bytes(content)
    with pytest.raises(DataError, match="curves.csv: cannot be read as a table"):
        read_curves(tmp_path)
    write_curves(tmp_path, [{"epoch": 1, "loss": 0.5}])
    assert read_curves(tmp_path)["loss"].tolist() == [0.5]


def test_a_ledger_of_thousands_of_runs_has_a_row_each_and_two_kinds_of_records_mix(tmp_path):
    for seed in range(300):
        (tmp_path / f"{seed}").mkdir()
        extra = {"perplexity": 2.0} if seed % 2 else {"accuracy": 0.5, "openings": [{"date": "2025-01-01"}]}
        write_record(tmp_path / f"{seed}", GOOD | {"seed": seed} | extra)
    table = read_ledger(tmp_path)
    assert table["seed"].tolist() == list(range(300)) and table["perplexity"].notna().sum() == 150


def test_no_folder_is_not_an_empty_ledger(tmp_path, capsys):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_ledger(tmp_path / "nowhere")
    assert main(["ledger", "--runs", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert read_ledger().empty  # the usual one is made by the first run


def test_a_file_where_the_ledger_should_be_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: no such folder"):
        read_ledger(tmp_path / "file")
    monkeypatch.setenv("PEFTLAB_RUNS", str(tmp_path / "file"))
    with pytest.raises(DataError, match="file: no such folder"):
        read_ledger()
