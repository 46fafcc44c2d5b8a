"""The repository itself: environments agree, style holds, notebooks are clean, the command line works."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import peftlab
from peftlab.cli import main
from peftlab.results.ledger import read_ledger
from peftlab.results.statistics import accuracy_interval, mean_interval
from peftlab.training.loop import train

ROOT = Path(__file__).parents[1]
ROOMS = sorted({f.parent for f in (ROOT / "peftlab").rglob("__init__.py")})


def test_environment_yml_equals_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = [d for d in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"] if isinstance(d, str)]
    wanted = {f"python{project['requires-python']}", *project["dependencies"]}
    assert {re.sub(r"^pytorch\b", "torch", d) for d in conda if d != "pip"} == wanted


def test_every_conda_dependency_says_why():
    lines = (ROOT / "environment.yml").read_text().split("dependencies:")[1].split("- pip\n")[0].splitlines()
    assert [line for line in lines if line.strip() and " # " not in line and "python>=" not in line] == []


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_style(command):
    out = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr


def test_methods_are_short():
    long = {f.name: len(f.read_text().splitlines()) for f in (ROOT / "peftlab" / "methods").glob("*.py")}
    assert {name: n for name, n in long.items() if n > (250 if name == "base.py" else 150)} == {}


@pytest.mark.parametrize("package", ROOMS, ids=lambda folder: folder.name)
def test_no_module_has_the_name_of_a_function_beside_it(package):
    """Else importing the module would hide the function, or the other way round."""
    room = import_module(".".join(package.relative_to(ROOT).parts))
    for module in {f.stem for f in package.glob("*.py")} - {"__init__", "__main__"}:
        assert isinstance(getattr(room, module, None), ModuleType | None), f"{package.name}.{module}"


def test_the_public_interface_is_small_and_there():
    assert peftlab.__all__ == sorted(peftlab.__all__, key=lambda name: (name.islower(), name)) == dir(peftlab)
    assert len(peftlab.__all__) <= 24 and all(getattr(peftlab, name) is not None for name in peftlab.__all__)
    for fit in (peftlab.fit, peftlab.captioning.fit, train):
        assert len(signature(fit).parameters) <= 8


def test_no_test_imports_from_another():
    crossing = re.compile(r"^(from|import) (tests|test_)", re.M)
    assert [f.name for f in (ROOT / "tests").rglob("*.py") if crossing.search(f.read_text())] == []


def test_one_word_one_meaning():
    """No word that once stood for what the field calls otherwise."""
    old = r"look-?alike|\bpeek|\bknobs?\b|told apart|\bmend(s|ed)?\b|common row|kept for backward|\bresting\b"
    patterns = ("*.md", "*/*.md", "data/*/*.md", "notebooks/*.ipynb", "grids/*.yaml", "peftlab/**/*.py")
    files = [f for pattern in patterns for f in ROOT.glob(pattern)]
    found = {f.name: re.search(old, f.read_text(encoding="utf-8"), re.I) for f in files}
    assert files and {name: match[0] for name, match in found.items() if match} == {}


def test_intervals_agree_with_textbook_values():
    low, high = accuracy_interval(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(4.3027 / 3**0.5, abs=1e-4) == mean - low
    assert all(value != value for value in mean_interval([1.0])[1:])  # nan: one value has no interval


@pytest.mark.parametrize("command", ["methods", "tasks", "backbones", "ledger"])
def test_listing_commands(command, capsys):
    assert main([command]) == 0
    assert {"methods": "lora", "tasks": "dsprites_ori", "backbones": "peftlab_vit_mini", "ledger": "peftlab fit"}[
        command
    ] in capsys.readouterr().out


def test_fit_command_writes_a_row_and_reports_mistakes(capsys, tiny_task, monkeypatch):
    monkeypatch.setattr("peftlab.tasks.load.load_task", lambda name, root: tiny_task)
    assert main(["fit", "lora", "tiny", "-o", "rank=2", "-o", "targets=q,k", "--epochs", "1"]) == 0
    row = read_ledger().iloc[0]
    assert '"rank": 2' in row["options"] and '["q", "k"]' in row["options"]
    assert "tiny (synthetic): test accuracy" in capsys.readouterr().out
    assert main(["fit", "lorra", "tiny"]) == 2
    assert "did you mean 'lora'" in capsys.readouterr().err
    assert main(["fit", "lora", "tiny", "-o", "rank"]) == 2
    assert main(["fit", "full", "tiny", "--lr", "1e9", "--epochs", "9"]) == 1
    assert "the loss became" in capsys.readouterr().err
    assert main(["fit", "linear", "tiny", "--epochs", "1", "--runs", "/dev/null/runs"]) == 1
    assert "may be written to" in capsys.readouterr().err
    assert main(["ledger"]) == 0 and main(["ledger", "--csv"]) == 0
