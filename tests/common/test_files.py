"""Files that survive a crash, a full disk and whatever lies where a good one should be."""

import errno
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from peftlab.common import files
from peftlab.common.errors import DataError, PeftlabError
from peftlab.common.files import read_json, sweep_parts, write_json, write_text
from peftlab.common.tensors import read_tensors, write_tensors

TENSORS = {"A": torch.arange(6.0)}
WRITERS = {
    "text": lambda file: write_text(file, "new"),
    "json": lambda file: write_json(file, {"rank": 8}),
    "tensors": lambda file: write_tensors(file, TENSORS),
}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def test_the_disk_has_the_content_before_the_name_and_then_the_name(write, tmp_path, monkeypatch):
    """A power cut keeps what was synced: a renamed file whose content was not would be empty."""
    done, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name if sys.platform == "linux" else "")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *a: done.append("renamed") or replace(*a))
    write(tmp_path / "file")
    if sys.platform != "linux":
        assert done[:2] == ["", "renamed"]
    else:
        assert done == ["file", "renamed", tmp_path.name]


def test_a_folder_that_cannot_be_synced_is_no_fault(write, tmp_path, monkeypatch):
    """Windows opens no folder, and some network disks sync none."""
    fsync = os.fsync

    def no_folders(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", no_folders)
    write(tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("stopped", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_write_that_stops_leaves_the_old_file_alone(write, at, stopped, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")

    def stop(*args):
        raise stopped

    monkeypatch.setattr(os, at, stop)
    with pytest.raises(type(stopped)):
        write(tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_full_disk_is_an_oserror_for_tensors_too(tmp_path, monkeypatch):
    def full(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("peftlab.common.tensors.save_file", full)
    with pytest.raises(OSError, match=r"a\.safetensors: cannot be written .*No space left on device"):
        write_tensors(tmp_path / "a.safetensors", TENSORS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_file_that_the_system_cuts_off_leaves_nothing(tmp_path):
    code = (
        "import resource, sys, torch; from peftlab.common.tensors import write_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "try: write_tensors(sys.argv[1], {'A': torch.zeros(10_000)})\n"
        "except OSError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True)
    assert "a: cannot be written" in out.stdout and not out.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_may_be_read_by_whom_the_umask_says(write, umask, tmp_path):
    """Adapters, predictions and exported models as the JSON files beside them: safetensors' own files are private."""
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_only_a_file_is_replaced(write, tmp_path):
    """A rename would put a file in place of a device such as /dev/null, for whoever may write there."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(PeftlabError, match=f"{name}: is a folder or a device"):
            write(tmp_path / name)
    with pytest.raises(PeftlabError, match="no folder .*missing.*Make it first"):
        write(tmp_path / "missing" / "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "folder"] and (tmp_path / "fifo").is_fifo()


def test_what_a_killed_process_left_is_swept(tmp_path):
    code = (
        "import os, signal, sys; from peftlab.common import files\n"
        "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_text(sys.argv[1], 'new')"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "run.json"], capture_output=True)
    (left,) = tmp_path.iterdir()
    (tmp_path / "book.part-chapters").mkdir()
    sweep_parts(tmp_path)
    assert left.is_dir(), "it may be that of a living process"
    sweep_parts(tmp_path, alone=True)
    assert [p.name for p in tmp_path.iterdir()] == ["book.part-chapters"]
    left.mkdir()
    os.utime(left, (time.time() - files.STALE - 1,) * 2)
    sweep_parts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["book.part-chapters"]
    sweep_parts(tmp_path / "nowhere")


def test_two_writers_never_share_a_temporary_file(tmp_path, monkeypatch):
    """Not even two processes of one number, on two hosts that share a disk."""
    parts, replace = [], os.replace
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "replace", lambda part, file: parts.append(str(part)) or replace(part, file))
    for _ in range(20):
        write_text(tmp_path / "file", "")
    assert len(set(parts)) == 20


def header(content):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


DAMAGED_TENSORS = {
    "empty": b"",
    "text": b"no tensors in here",
    "pickle": b"\x80\x02}q\x00.",
    "a header of 10**18 bytes": struct.pack("<Q", 10**18) + b"{}",
    "a header that is a list": struct.pack("<Q", 4) + b"[[[[",
    "more bytes than there are": header({"A": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}) + bytes(4),
    "an overflow": header({"A": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
    "a dtype nobody knows": header({"A": {"dtype": "X", "shape": [1], "data_offsets": [0, 1]}}) + bytes(1),
    "metadata that are no JSON": header({"__metadata__": {"peftlab": "{"}}),
    "metadata that nest too deep": header({"__metadata__": {"peftlab": "[" * 100_000}}),
    "metadata with a number too long": header({"__metadata__": {"peftlab": "1" * 5000}}),
}


@pytest.mark.parametrize("content", DAMAGED_TENSORS.values(), ids=DAMAGED_TENSORS)
def test_damaged_tensors_are_named_in_one_sentence(content, tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.safetensors: cannot be read as safetensors"):
        read_tensors(file)


def test_truncated_tensors_are_never_taken_for_whole_ones(tmp_path):
    write_tensors(tmp_path / "whole", TENSORS, {"rank": 8})
    whole = (tmp_path / "whole").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(DataError, match="cut: cannot be read"):
            read_tensors(tmp_path / "cut")


DAMAGED_JSON = {
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "no JSON": b"{",
    "a list": b"[1, 2]",
    "a number": b"3",
    "nothing": b"null",
    "too deep": b"[" * 100_000,
    "a number too long": b'{"a": ' + b"1" * 5000 + b"}",
    "too large": b'{"a": "' + bytes(files.LARGEST_JSON) + b'"}',
}


@pytest.mark.parametrize("content", DAMAGED_JSON.values(), ids=DAMAGED_JSON)
def test_damaged_json_is_named_in_one_sentence(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: cannot be read as JSON") as caught:
        read_json(tmp_path / "a.json")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("read", [read_json, read_tensors])
def test_what_is_no_file_is_said_and_nothing_hangs(read, tmp_path):
    os.mkfifo(tmp_path / "fifo")  # to read it would wait for ever
    (tmp_path / "folder").mkdir()
    for name, reason in {
        "fifo": "not a file",
        "folder": "not a file",
        "missing": "no such file",
        "a" * 300: "",
    }.items():
        with pytest.raises(DataError, match=f"{name}: cannot be read as .*{reason}"):
            read(tmp_path / name)


def test_read_json_gives_what_write_json_was_given(tmp_path):
    write_json(tmp_path / "a.json", {"rank": 8, "method": "lora"})
    assert read_json(tmp_path / "a.json") == {"rank": 8, "method": "lora"}
