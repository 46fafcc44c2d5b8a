"""Where things are kept: what the environment variables name, from whichever folder it is read."""

import os

import pytest

from peftlab import captioning, load_backbone, load_task
from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.common.paths import cache_folder, data_root, named_folders, runs_folder

FOLDERS = {"PEFTLAB_DATA": data_root, "PEFTLAB_CACHE": cache_folder, "PEFTLAB_RUNS": runs_folder}


@pytest.mark.parametrize("variable", FOLDERS)
def test_an_empty_variable_is_one_that_is_not_set(variable, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    default = FOLDERS[variable]()
    monkeypatch.setenv(variable, "")
    assert FOLDERS[variable]() == default and variable not in named_folders()


@pytest.mark.parametrize("variable", FOLDERS)
def test_a_relative_folder_is_meant_from_here(variable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "data/vtab-1k")
    assert FOLDERS[variable]() == tmp_path / "data" / "vtab-1k"
    assert named_folders()[variable] == str(tmp_path / "data" / "vtab-1k")


def test_a_command_may_start_processes_in_other_folders(tmp_path, monkeypatch):
    """JupyterLab's kernels run beside their notebooks, and find what was meant where the command was given."""
    monkeypatch.chdir(tmp_path)
    for variable in FOLDERS:
        monkeypatch.setenv(variable, variable.lower())
    assert main(["protocols"]) == 0
    assert {v: os.environ[v] for v in FOLDERS} == {v: str(tmp_path / v.lower()) for v in FOLDERS}


@pytest.mark.parametrize("call", [load_task, load_backbone, captioning.load_captions])
def test_the_home_of_nobody_is_an_error_that_names_it(call):
    with pytest.raises(PeftlabError, match="~nobody-here/images: no home folder of such a user is known"):
        call("~nobody-here/images")


def test_nor_may_a_variable_name_it(monkeypatch):
    monkeypatch.setenv("PEFTLAB_DATA", "~nobody-here/vtab-1k")
    with pytest.raises(PeftlabError, match="~nobody-here/vtab-1k: no home folder"):
        data_root()
