"""The benchmarks run; what they measure is no test's business."""

import runpy

import pytest

from peftlab.common.paths import REPOSITORY
from peftlab.methods import METHODS

SMALL = ["--img-size", "64", "--batch-size", "2", "--rounds", "3"]


@pytest.fixture
def run(monkeypatch, capsys):
    """run(script, *options) -> what it prints. In this process, for importing torch takes longer than they do."""

    def run(script, *options):
        folder = REPOSITORY / "benchmarks"
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr("sys.argv", [script, *SMALL, *options])
        runpy.run_path(str(folder / script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_against_hf_peft_runs(run):
    pytest.importorskip("peft", reason="HF peft is not installed; pip install 'peftlab[hf]'")
    out = run("against_hf_peft.py", "--backbone", "test_vit")
    assert out.count("time of") == 6 and "floor: forward, input gradient" in out


def test_gist_overhead_runs(run):
    assert run("gist_overhead.py", "--backbone", "test_vit", "--base-method", "adaptformer").count("time of") == 3


def test_gift_overhead_runs(run):
    assert run("gift_overhead.py", "--backbone", "test_vit").count("time of") == 3


def test_scoring_cost_runs(run):
    assert run("scoring_cost.py", "--backbone", "test_vit").count("time of") == 1


def test_every_method_runs(run):
    assert run("every_method.py", "--backbone", "test_vit").count("time of") == len(METHODS)
