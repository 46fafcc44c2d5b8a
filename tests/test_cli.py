"""The command line itself; what its commands do is tested with what they call."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from peftlab.cli import main
from peftlab.results.ledger import read_ledger

HEAVY = ["torch", "timm", "numpy", "pandas", "matplotlib", "jupyterlab", "papermill"]


def test_help_needs_none_of_the_large_libraries():
    code = f"import sys, peftlab.cli; peftlab.cli.parser(); print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_module_is_the_command():
    out = subprocess.run([sys.executable, "-m", "peftlab", "--version"], capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout == version("peftlab") + "\n"


def test_init_copies_the_lessons_and_says_where(tmp_path, capsys):
    assert main(["init", str(tmp_path / "course")]) == 0
    assert (tmp_path / "course" / "00_tour.ipynb").exists()
    assert f"peftlab lab {tmp_path / 'course'}" in capsys.readouterr().out


def test_lab_opens_the_copied_lessons(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("peftlab.workbook.lessons.open_lab", opened.append)
    assert main(["lab", str(tmp_path)]) == 0
    assert opened == [tmp_path] and (tmp_path / "start.md").exists()


@pytest.mark.parametrize("command", [["lab"], ["init"], ["workbook"]])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0 and capsys.readouterr().out.startswith(f"usage: peftlab {command[0]}")


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
