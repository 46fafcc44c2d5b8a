"""The repository itself: environments agree, style holds, imports go one way, documents agree with the code."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import peftlab
from peftlab.cli import parser
from peftlab.training.loop import train
from peftlab.workbook.page.references import external_references

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = sorted({f.parent for f in (ROOT / "peftlab").rglob("__init__.py")})


def test_environment_yml_equals_pyproject():
    project = PROJECT["project"]
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


@pytest.mark.parametrize(("given", "there"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_somebody_wants_otherwise(given, there):
    """A setting that torch reads when it is loaded."""
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    code = "import os, sys, peftlab; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=env | ({"OMP_WAIT_POLICY": given} if given else {}),
    )
    assert out.stdout.split() == [there, "False"], out.stderr


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_import_peftlab_before_torch(notebook):
    code = notebook.read_text()
    first = re.search(r"import torch|from torch", code)
    assert not first or code.index("import peftlab") < first.start()


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


def test_imports_go_down_only():
    lint = Path(sys.executable).with_name("lint-imports")
    out = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout


def test_one_version_everywhere():
    version = PROJECT["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog and f"## [{version}]" in changelog


def test_files_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:peftlab|tests|tools|data|docs|notebooks)/[\w/.]+)`", text)
    assert len(named) > 15
    assert [n for n in named if "NAME" not in n and "NN_" not in n and not (ROOT / n).exists()] == []


@pytest.mark.parametrize("file", sorted(Path(ROOT / ".github").rglob("*.yml")), ids=lambda p: p.name)
def test_workflow_and_issue_templates_are_yaml(file):
    assert yaml.safe_load(file.read_text())


def test_make_says_that_a_python_is_missing_and_makes_nothing(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "lab", "PYTHON=python3.0"]
    out = subprocess.run(command, cwd=tmp_path, env=os.environ | {"MAKEFLAGS": ""}, capture_output=True, text=True)
    assert out.returncode == 2 and "python3.0 is older or missing" in out.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["Makefile"]


def test_a_development_container_makes_what_there_is_to_make():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    version = re.fullmatch(r"python:(\d+\.\d+)", container["image"])[1]
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(version)
    make, command = container["postCreateCommand"].split(" && ")
    assert f"\n{make.removeprefix('make ')}:" in (ROOT / "Makefile").read_text()
    assert parser().parse_args(command.split()[1:]).folder == Path("lab")


def test_the_reference_shows_docstrings_and_loads_nothing(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "pdoc", "-t", ROOT / "docs" / "pdoc", "-o", tmp_path]
    subprocess.run([*command, "peftlab.common", "peftlab.common.paths"], cwd=ROOT, check=True, capture_output=True)
    index, page = (tmp_path / "index.html").read_text(), (tmp_path / "peftlab" / "common" / "paths.html").read_text()
    assert "What every room needs" in index and 'href="peftlab/common/paths.html"' in index
    assert "Synthetic tasks and downloads" in page
    assert external_references(index) == external_references(page) == []


DOCUMENTS = [ROOT / "README.md", ROOT / "results" / "README.md", ROOT / "data" / "README.md", ROOT / "CONTRIBUTING.md"]
DOCUMENTS += [*(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md"]


def anchors(text):
    """What links to the headings of a page are called on GitHub."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_documents_lead_somewhere(page):
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, place = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists() and (not place or place in anchors(file.read_text(encoding="utf-8"))), target


def test_commands_that_documents_print_are_understood(tmp_path, monkeypatch):
    """Names, options and kinds of values; the files that they read need only be there."""
    for name in ("grid.yaml", "all.csv", "costs.csv"):
        (tmp_path / name).touch()
    for name in ("grids", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    pages = "\n".join(page.read_text() for page in [*DOCUMENTS, *(ROOT / "grids").glob("*.yaml")])
    lines = re.findall(r"^(?:    |#   )(?:PEFTLAB_DATA=\S+ )?(peftlab .+)", pages, re.M)
    lines += re.findall(r"\| `(peftlab .+?)` \|$", pages, re.M)
    assert len(lines) > 70
    for line in lines:
        parser().parse_args(shlex.split(line.partition(" > ")[0], comments=True)[1:])
