"""The files of a task: which names of a list stay inside its folder, by one rule for every kind of list."""

import json

import pytest

from peftlab.common.errors import DataError
from peftlab.tasks.captions import read_jsonl
from peftlab.tasks.fgvc import _read_json
from peftlab.tasks.vtab1k import parse_line


def vtab(folder, name):
    return parse_line(folder, "test", 1, f"{name} 0", None)[0]


def fgvc(folder, name):
    (folder / "test.json").write_text(json.dumps({name: 0}))
    (path,) = _read_json(folder / "test.json", "cub")
    return folder / path


def captions(folder, name):
    row = {"file": name, "captions": ["a cat"], "split": "test"}
    (folder / "captions.jsonl").write_text(json.dumps(row))
    return read_jsonl(folder / "captions.jsonl")["test"][0][0]


@pytest.mark.parametrize("read", [vtab, fgvc, captions])
@pytest.mark.parametrize("name", ["..foo.jpg", "a/..foo.jpg", "a/../b.jpg", "./b.jpg", "...", "a/b.jpg"])
def test_a_name_that_stays_inside_is_read(read, name, tmp_path):
    assert read(tmp_path, name).resolve() == (tmp_path / name).resolve()


@pytest.mark.parametrize("read", [vtab, fgvc, captions])
@pytest.mark.parametrize("name", ["..", "../b.jpg", "a/../../b.jpg", "/etc/passwd", "//etc/passwd"])
def test_a_name_that_leads_out_is_refused(read, name, tmp_path):
    with pytest.raises(DataError, match="leaves the task's folder|is not a path in the folder|leads out of"):
        read(tmp_path, name)
