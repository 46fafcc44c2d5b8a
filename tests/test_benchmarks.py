"""The benchmarks run; what they measure is no test's business."""

import subprocess
import sys

import pytest

from peftlab.paths import REPOSITORY


def test_against_hf_peft_runs():
    pytest.importorskip("peft", reason="HF peft is not installed; pip install 'peftlab[hf]'")
    script = REPOSITORY / "benchmarks" / "against_hf_peft.py"
    small = ["--backbone", "test_vit", "--random-weights", "--img-size", "64", "--batch-size", "2", "--rounds", "3"]
    out = subprocess.run([sys.executable, script, *small], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("time of") == 4 and "floor: forward, input gradient" in out.stdout
