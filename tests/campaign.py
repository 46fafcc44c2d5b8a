"""A campaign: one call is stopped at each of its file operations in turn, then given again, and the ledgers compared.

    python tests/campaign.py "fit, killed" "sweep, full"    # at all operations; a line of JSON each, what went wrong
    python tests/campaign.py "sweep, full, 25"              # at 25 of them and the last

Every trial is a fork of this process, so that peftlab is imported once. An operation is what opens a file for writing,
syncs, renames or removes one, makes or removes a folder, below the ledger; stopped before one is stopped after the one
before it. A fork that is killed while it syncs leaves half a file.
"""

import errno
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors import SafetensorError
from support import make_task
from timm.models.vision_transformer import VisionTransformer

from peftlab.backbones.identity import described_once
from peftlab.backbones.load import save_backbone
from peftlab.backbones.types import ViT
from peftlab.common import tensors
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.tasks.task import Task
from peftlab.training import sweep as sweeping
from peftlab.training.fit import fit
from peftlab.training.grid import read_grid
from peftlab.training.plan import backbone
from peftlab.training.run import Run

SHAPE = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
FIT = {"epochs": 2, "batch_size": 4, "device": "cpu"}
CLASSES = ("even", "odd")
METHODS = {"linear": {"lr": [1e-3, 1e-2]}, "two_stage": {"channels": 2}}  # one to tune, one with a first stage
KILLED = 137  # the exit status of a process that got SIGKILL
NOT_COMPARED = ("seconds", "finished", "test_opened")
EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
REMOVING = ("os.remove", "os.rmdir")  # these need no space, and it is these that tidy up


def make_world(folder: Path, epochs: int = 1, seeds: tuple[int, ...] = (0,)) -> None:
    """A task, a backbone and a grid of these epochs and seeds."""
    make_task(folder / "root" / "eurosat", CLASSES)
    torch.manual_seed(0)
    save_backbone(VisionTransformer(**SHAPE, num_classes=0), folder / "tiny.safetensors", SHAPE)
    grid = {"tasks": ["eurosat"], "root": str(folder / "root"), "backbone": str(folder / "tiny.safetensors")}
    grid |= {"seeds": list(seeds), "recipe": {"epochs": epochs, "batch_size": 4}, "methods": METHODS}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))


class World:
    """What `make_world` made, read once for all forks."""

    def __init__(self, folder: Path) -> None:
        self.grid = read_grid(folder / "grid.yaml")
        self.backbone: ViT = backbone(self.grid)
        self.task = Task("tiny", "natural", "noise", CLASSES, folder / "root" / "eurosat", synthetic=True)
        assert self.task.digests

    def run(self, method: str, runs: Path) -> Run:
        return fit(attach(self.backbone, method, len(CLASSES)), self.task, runs=runs, **FIT)


def fitting(method: str) -> Callable[[World, Path], Callable[[], Any]]:
    """fit of one model; given again, it gets the same model."""

    def prepare(world: World, runs: Path) -> Callable[[], Any]:
        model = attach(world.backbone, method, len(CLASSES))
        return lambda: fit(model, world.task, runs=runs, **FIT).metrics["train_accuracy"]

    return prepare


def evaluating(world: World, runs: Path) -> Callable[[], Any]:
    run = world.run("linear", runs)
    return lambda: run.evaluate("test")


def sweeping_serially(world: World, runs: Path) -> Callable[[], Any]:
    def call() -> Any:
        table, failed = sweeping.sweep(world.grid, runs)
        if failed:
            raise PeftlabError(failed[0]["error"])
        return json.loads(table.drop(columns=list(NOT_COMPARED)).to_json(orient="records"))

    return call


CALLS = {
    "fit": fitting("lora"),
    "two_stage": fitting("two_stage"),
    "evaluate": evaluating,
    "sweep": sweeping_serially,
}


def kill(operation: str, path: str) -> None:
    if operation == "fsync" and os.path.isfile(path):
        os.truncate(path, os.path.getsize(path) // 2)
    os._exit(KILLED)


def interrupt(operation: str, path: str) -> None:
    raise KeyboardInterrupt


def refuse(operation: str, path: str) -> None:
    if operation == "save_file":
        Path(path).write_bytes(b"half")
        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


STOPS = {"killed": kill, "interrupted": interrupt, "full": refuse, "full for a moment": refuse}


class Stop:
    """Counts operations below a folder, and stops the process at one of them; on a full disk at all that follow."""

    def __init__(self, folder: Path, how: str, at: int | None) -> None:
        self.folder, self.how, self.at = str(folder), how, at
        self.operations: list[str] = []
        self.over = self.within = False
        sys.addaudithook(self.audit)
        save_file = tensors.save_file
        os.fsync = lambda handle: self.operation(
            "fsync", os.readlink(f"/proc/self/fd/{handle}")
        )  # nothing to wait for
        tensors.save_file = lambda t, file, **k: self.operation("save_file", str(file)) or save_file(t, file, **k)

    def audit(self, event: str, args: Any) -> None:
        if event == "open" and not isinstance(args[0], int):
            if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.operation(event, os.fsdecode(args[0]))
        elif event in EVENTS:
            folder = args[{"os.mkdir": 2, "os.rename": 2}.get(event, 1)]
            before = "" if folder == -1 else os.readlink(f"/proc/self/fd/{folder}")
            self.operation(event, os.path.join(before, os.fsdecode(args[0])))

    def operation(self, name: str, path: str) -> None:
        if self.over or self.within or not path.startswith(self.folder):
            return
        if self.how.startswith("full") and name in REMOVING:
            return
        now = len(self.operations)
        self.operations.append(name)
        if self.at is not None and (now == self.at or (self.how == "full" and now > self.at)):
            self.within = True  # what the stop itself does is not counted
            try:
                STOPS[self.how](name, path)
            finally:
                self.within = False


def unfinished(runs: Path) -> list[str]:
    """What should not be there when nobody works on the ledger."""
    partial = {p for p in runs.rglob("*") if ".part" in p.name or p.suffix == ".lock"}
    empty = {p for p in runs.rglob("*") if p.is_dir() and p.name != "failures" and not any(p.iterdir())}
    return sorted(str(p.relative_to(runs)) for p in partial | empty)


def content(runs: Path) -> dict[str, Any]:
    """Every file of a ledger, without what may differ between two moments."""
    return {str(file.relative_to(runs)): _content(file) for file in runs.glob("*/*") if file.is_file()}


def _content(file: Path) -> Any:
    if file.name == "run.json":
        record = json.loads(file.read_text())
        openings = {"openings": len(record.get("test_opened", "").split())}
        return {key: value for key, value in record.items() if key not in NOT_COMPARED} | openings
    if file.name == "curves.csv":
        return pd.read_csv(file, dtype=str).drop(columns="seconds").to_dict("list")
    if file.suffix == ".safetensors":  # the order of its metadata is another in every process
        length, data = int.from_bytes(file.read_bytes()[:8], "little"), file.read_bytes()[8:]
        return json.loads(data[:length]), data[length:]
    return file.read_bytes()


def trial(world: World, call: str, how: str, at: int | None, runs: Path, answer: Path) -> None:
    """In a fork: the call, stopped at an operation, and once more where this process survives that."""
    stop = Stop(runs, how, at)
    stop.over = True
    again = CALLS[call](world, runs)
    stop.over = False
    wrong, result = [], None
    try:
        result = again()
    except (KeyboardInterrupt, OSError, PeftlabError) as error:
        if not isinstance(error, KeyboardInterrupt) and os.strerror(errno.ENOSPC) not in str(error):
            wrong.append(f"raised {error!r}")
    except BaseException as error:  # noqa: B036  # whatever it is, it is the finding
        wrong.append(f"raised {error!r}")
    stop.over = True
    if at is not None and stop.operations[at] not in REMOVING:  # else it was the tidying that was stopped
        wrong += [f"left {name}" for name in unfinished(runs)]
    if at is not None:
        result = again()
    answer.write_text(json.dumps({"operations": stop.operations, "wrong": wrong, "result": result}))


def fork(function: Callable[..., None], *args: Any) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join()
    return process.exitcode


def campaign(world: World, folder: Path, call: str, how: str, sample: int | None) -> dict[str, Any]:
    """-> what was tried, and what went wrong, as a list of sentences."""
    folder.mkdir()
    answer, whole_run = folder / "answer.json", folder / "undisturbed"
    assert fork(trial, world, call, how, None, whole_run, answer) == 0
    undisturbed, whole = json.loads(answer.read_text()), content(whole_run)
    operations = undisturbed["operations"]
    points = list(range(len(operations)))
    if sample is not None and sample < len(points):
        points = sorted({*random.Random(0).sample(points, sample), points[-1]})
    wrong = []
    for at in points:
        runs = folder / f"{at}"
        status, problems = fork(trial, world, call, how, at, runs, answer), []
        if how == "killed":
            problems += [f"ended with {status}"] if status != KILLED else []
            status = fork(trial, world, call, how, None, runs, answer)
        if status == 0:
            found = json.loads(answer.read_text())
            problems += found["wrong"]
            problems += [f"gave {found['result']}"] if found["result"] != undisturbed["result"] else []
        else:
            problems.append(f"ended with {status} when given again")
        problems += [f"left in the end {name}" for name in unfinished(runs)]
        now = content(runs)
        problems += [f"differs: {name}" for name in sorted(now.keys() | whole) if now.get(name) != whole.get(name)]
        wrong += [f"{at} ({operations[at]}): {problem}" for problem in problems]
        shutil.rmtree(runs, ignore_errors=True)
    return {"call": call, "stop": how, "operations": len(operations), "tried": len(points), "wrong": wrong}


def main(campaigns: list[str]) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PEFTLAB_CACHE"] = str(folder / "cache")
        make_world(folder)
        world = World(folder)
        with described_once(world.backbone):  # no trial changes it
            for call, prepare in CALLS.items():  # what is imported and set up at a first use, once for all forks
                prepare(world, folder / f"first {call}")()
            for i, each in enumerate(campaigns):
                call, how, *sample = each.split(", ")
                found = campaign(world, folder / f"{i}", call, how, int(sample[0]) if sample else None)
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
