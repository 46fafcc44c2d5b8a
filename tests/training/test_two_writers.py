"""Several processes on one run: one trains, the others wait and take what it made; no entry of a record is lost."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from support import small_vit

import peftlab.training.run as running
from peftlab.methods import attach
from peftlab.results.ledger import read_record
from peftlab.training.fit import fit

FIT = """
import multiprocessing, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from support import small_vit
from peftlab.methods import attach
from peftlab.tasks.task import Task
from peftlab.training.fit import fit
import peftlab.training.fit as training

def say(line):
    sys.stdout.write(line + chr(10))  # at once, so that the lines of two processes do not mix
    sys.stdout.flush()

def work(start):
    start.wait()
    run = fit(attach(small_vit(), "two_stage", 3), task, epochs=6, batch_size=4, device="cpu", runs={runs!r})
    say(f"accuracy {{run.evaluate('test')}}")

task = Task("tiny", "natural", "", ("red", "green", "blue"), Path({task!r}), synthetic=True)
fit(attach(small_vit(), "linear", 3), task, epochs=1, device="cpu", runs={runs!r} + " before")  # imports the rest
train = training.train_run
training.train_run = lambda run: say(f"trained {{run.spec.method}}") or train(run)
forking = multiprocessing.get_context("fork")  # so that torch is imported once
start = forking.Barrier(2)
both = [forking.Process(target=work, args=(start,)) for _ in range(2)]
for each in both:
    each.start()
for each in both:
    each.join()
print("exit", *(each.exitcode for each in both))
"""


def test_two_processes_train_a_run_once(tiny_task, tmp_path):
    """Started together, on a method whose first stage is a run of its own."""
    script = FIT.format(tests=str(Path(__file__).parents[1]), task=str(tiny_task.folder), runs=str(tmp_path / "runs"))
    out = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    *said, ended = out.stdout.splitlines()
    assert ended == "exit 0 0"
    assert sorted(line for line in said if "trained" in line) == ["trained norm", "trained two_stage"]
    accuracy, other = (line for line in said if "accuracy" in line)
    assert accuracy == other
    records = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*/run.json")]
    (second,) = [record for record in records if record["method"] == "two_stage"]
    assert accuracy == f"accuracy {second['test_accuracy']}" and len(second["test_opened"].split()) == 1
    assert {file.name for file in (tmp_path / "runs").rglob("*") if file.is_file()} == {
        "run.json",
        "curves.csv",
        "adapter.json",
        "adapter.safetensors",
        "predictions.safetensors",
    }


def test_who_waits_says_so(tiny_task, tmp_path, monkeypatch):
    """And goes on as soon as the other one is done."""
    how = {"epochs": 1, "device": "cpu"}
    name = fit(attach(small_vit(), "linear", 3), tiny_task, **how, runs=tmp_path / "a").folder.name
    (tmp_path / "b").mkdir()
    held, said = threading.Event(), threading.Event()

    def hold():
        with FileLock(tmp_path / "b" / f"{name}.lock"):
            held.set()
            assert said.wait(60)

    monkeypatch.setattr(running, "PATIENCE", 0.01)
    monkeypatch.setattr(running, "print", lambda text, file: text.startswith(name) and said.set(), raising=False)
    threading.Thread(target=hold).start()
    held.wait()
    assert fit(attach(small_vit(), "linear", 3), tiny_task, **how, runs=tmp_path / "b").finished and said.is_set()


def test_a_lock_on_a_file_that_is_gone_is_none(tiny_task, monkeypatch):
    """Whoever opened the lock's file before its holder removed it must not hold it beside the next to come."""
    fcntl = pytest.importorskip("fcntl", reason="no such locks on Windows")
    run = fit(attach(small_vit(), "linear", 3), tiny_task, epochs=1, device="cpu")
    file, flock = run.folder.with_name(f"{run.folder.name}.lock"), fcntl.flock

    def late(handle, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        file.unlink()  # as its holder does on leaving
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with run.writing():
        assert file.exists() and fcntl.flock is flock


@pytest.mark.parametrize("split", ["val200", "test"])
def test_evaluating_keeps_what_another_process_wrote(split, tiny_task, tmp_path):
    """Two Run objects of one folder: none of them writes back an older record."""
    how = {"epochs": 1, "device": "cpu", "train_split": "train800", "runs": tmp_path}
    one, two = (fit(attach(small_vit(), "linear", 3), tiny_task, **how) for _ in range(2))
    assert one.folder == two.folder
    one.evaluate(split)
    two.evaluate("test" if split == "val200" else "val200")
    assert {"val_accuracy", "test_accuracy", "test_opened"} <= read_record(one.folder).keys()
