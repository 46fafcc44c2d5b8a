"""The benchmarks run; what they measure is no test's business."""

import subprocess
import sys

import pytest

from peftlab.common.paths import REPOSITORY
from peftlab.methods import METHODS

SMALL = ["--img-size", "64", "--batch-size", "2", "--rounds", "3"]


def run(script, *options):
    command = [sys.executable, REPOSITORY / "benchmarks" / script, *SMALL, *options]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return out.stdout


def test_against_hf_peft_runs():
    pytest.importorskip("peft", reason="HF peft is not installed; pip install 'peftlab[hf]'")
    out = run("against_hf_peft.py", "--backbone", "test_vit")
    assert out.count("time of") == 6 and "floor: forward, input gradient" in out


def test_gist_overhead_runs():
    assert run("gist_overhead.py", "--backbone", "test_vit", "--base-method", "adaptformer").count("time of") == 3


def test_gift_overhead_runs():
    assert run("gift_overhead.py", "--backbone", "test_vit").count("time of") == 3


def test_scoring_cost_runs():
    assert run("scoring_cost.py", "--backbone", "test_vit").count("time of") == 1


def test_every_method_runs():
    assert run("every_method.py", "--backbone", "test_vit").count("time of") == len(METHODS)
