"""The command line itself; what its commands do is tested with what they call."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from peftlab.cli import main

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
