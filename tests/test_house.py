"""What keeps the house in order for whoever carries on: layers of imports, documents that agree with the code."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from peftlab.workbook.page import external_references

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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


def test_the_reference_shows_docstrings_and_loads_nothing(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "pdoc", "-t", ROOT / "docs" / "pdoc", "-o", tmp_path]
    subprocess.run([*command, "peftlab.common", "peftlab.common.paths"], cwd=ROOT, check=True, capture_output=True)
    index, page = (tmp_path / "index.html").read_text(), (tmp_path / "peftlab" / "common" / "paths.html").read_text()
    assert "What every room needs" in index and 'href="peftlab/common/paths.html"' in index
    assert "Synthetic tasks and downloads" in page
    assert external_references(index) == external_references(page) == []
