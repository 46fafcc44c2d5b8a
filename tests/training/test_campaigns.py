"""Campaigns: calls killed, interrupted and out of space at their file operations; the ledger ends as if undisturbed.

tests/campaign.py makes them. Here a seeded sample of the operations; with `-m long` all of them.
"""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from campaign import CALLS, NOT_COMPARED, STOPS, content, make_world, unfinished
from support import make_task, small_vit
from torch import nn

from peftlab.methods import attach
from peftlab.tasks.task import Task
from peftlab.training.fit import fit
from peftlab.training.grid import read_grid
from peftlab.training.sweep import sweep

SCRIPT = Path(__file__).parents[1] / "campaign.py"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads what a process has open")
SHORT = {  # at how many operations
    "fit": {"killed": 12, "interrupted": 6, "full": 4, "full for a moment": 4},
    "two_stage": {"killed": 6, "interrupted": 4},
    "evaluate": {"killed": 7, "interrupted": 4, "full": 3},
    "sweep": {"killed": 4, "interrupted": 3, "full": 3},
}


def campaigns(*which):
    out = subprocess.run([sys.executable, SCRIPT, *which], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-3000:]
    return [json.loads(line) for line in out.stdout.splitlines()]


@pytest.fixture(scope="module")
def short():
    """Those of SHORT, all made by one process."""
    which = [f"{call}, {stop}, {sample}" for call, samples in SHORT.items() for stop, sample in samples.items()]
    return {(each["call"], each["stop"]): each for each in campaigns(*which)}


@pytest.mark.parametrize(("call", "stop"), [(call, stop) for call, samples in SHORT.items() for stop in samples])
def test_stopped_at_some_file_operations_and_given_again(call, stop, short):
    found = short[call, stop]
    assert found["wrong"] == [] and SHORT[call][stop] <= found["tried"] <= found["operations"]


@pytest.mark.long
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("call", CALLS)
def test_stopped_at_every_file_operation_and_given_again(call, stop):
    (found,) = campaigns(f"{call}, {stop}")
    assert found["wrong"] == [] and found["tried"] == found["operations"] > 10


def sweep_of_two(world):
    """`peftlab sweep` with two processes, in a process group of its own."""
    command = [sys.executable, "-m", "peftlab", "sweep", "grid.yaml", "--runs", "runs", "--csv", "runs.csv"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, "--jobs", "2"], cwd=world, start_new_session=True, **pipes)


def workers(process):
    """Process ids of what joblib has started for a process."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


def killed_sweep(world, victim, seed):
    """A sweep of which one worker or the whole group is killed at some moment -> what it said."""
    moment = random.Random(seed)
    finished, process = moment.randrange(4), sweep_of_two(world)
    while len(list((world / "runs").glob("*/run.json"))) < finished or not workers(process):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    time.sleep(moment.random() / 4)
    if victim == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(moment.choice(workers(process)), signal.SIGKILL)
    return process.communicate()[0]


def comparable(table):
    return table.drop(columns=[*NOT_COMPARED])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As many as joblib gives a worker: another number of threads rounds otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A ledger, its table, and the folder of the grid that both are of."""
    world = tmp_path_factory.mktemp("world")
    make_world(world, epochs=8, seeds=(0, 1))
    table, failed = sweep(read_grid(world / "grid.yaml"), world / "undisturbed")
    assert not failed
    return content(world / "undisturbed"), comparable(table), world


def check_killed_sweep(undisturbed, victim, seed, processes):
    whole, table, world = undisturbed
    shutil.rmtree(world / "runs", ignore_errors=True)
    (world / "runs.csv").unlink(missing_ok=True)  # its rows would not be trained again
    said = killed_sweep(world, victim, seed)
    assert "Traceback" not in said and (victim == "all" or "killed" in said)
    again, failed = sweep(read_grid(world / "grid.yaml"), world / "runs", processes)
    assert not failed and comparable(again).equals(table)
    assert content(world / "runs") == whole and unfinished(world / "runs") == []


@pytest.mark.parametrize(("victim", "seed"), [("one", 0), ("all", 1)])
def test_a_killed_sweep_of_two_processes_goes_on(victim, seed, undisturbed):
    check_killed_sweep(undisturbed, victim, seed, processes=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("victim", ["one", "all"])
def test_killed_sweeps_of_two_processes_go_on(victim, seed, undisturbed):
    check_killed_sweep(undisturbed, victim, seed, processes=2)


def test_twenty_cycles_leave_nothing_behind(tmp_path):
    """attach, fit, merge, detach on one backbone: it stays bit for bit, and no tensor, hook or module stays alive."""
    task = Task("tiny", "natural", "", ("even", "odd"), make_task(tmp_path / "task"), synthetic=True)
    vit, methods = small_vit(), ("linear", "lora", "norm", "gift", "ssf")
    before = {name: t.clone() for name, t in vit.state_dict().items()}

    def cycle(i):
        model = attach(vit, methods[i % len(methods)], 2, seed=i)
        fit(model, task, runs=tmp_path / "runs", epochs=1, batch_size=4, device="cpu")
        merged = model.merge()
        assert merged is not vit and model.detach() is vit

    def alive():
        gc.collect()
        kinds = [type(each) for each in gc.get_objects()]
        return sum(issubclass(kind, torch.Tensor) for kind in kinds), sum(issubclass(k, nn.Module) for k in kinds)

    for i in range(len(methods)):  # what is made once and kept
        cycle(i)
    at_first = alive()
    for i in range(len(methods), 20):
        cycle(i)
    assert alive() == at_first
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in vit.modules())
    assert not any(p.requires_grad or p.grad is not None for p in vit.parameters())
    assert all(torch.equal(before[name], t) for name, t in vit.state_dict().items())
