"""What a task is, and what its fingerprint follows: its lists, its classes and the content of its images."""

import copy
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import REAL, make_task

import peftlab.tasks.files as files
import peftlab.tasks.task as task_module
from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.load import load_task
from peftlab.tasks.task import Task, load_image, read_pixels
from peftlab.tasks.vtab1k import SPLITS, VTAB

REAL_TASKS = sorted(p.name for p in REAL.glob("*") if p.name in VTAB)


def test_images_beyond_the_last_are_refused(tiny_task):
    with pytest.raises(PeftlabError, match="images of val200 of .* are counted from 0 to "):
        tiny_task.pixels("val200", (4, 4), [10**6])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A task of 14 files, whose cache of content hashes is its own and takes files of this moment."""
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(files, "SETTLED", -(10**12))
    return make_task(tmp_path / "dtd")


def load(folder):
    return load_task("dtd", root=folder.parent)


def overwrite(folder):
    Image.new("RGB", (16, 16)).save(folder / "images/val200/000000.png")


def swap(folder):
    one, other = (folder / f"images/test/{i:06}.png" for i in (0, 1))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def replace_by_same_size_and_time(folder):
    file = folder / "images/test/000000.png"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-20] ^= 1  # in the checksum of the pixels
    file.write_bytes(bytes(content))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size and file.stat().st_mtime_ns == before.st_mtime_ns


CHANGES = {
    "a label": lambda f: (f / "test.txt").write_text("images/test/000000.png 1\nimages/test/000001.png 1\n"),
    "a line less": lambda f: (f / "test.txt").write_text("images/test/000000.png 0\n"),
    "the order": lambda f: (f / "test.txt").write_text("images/test/000001.png 1\nimages/test/000000.png 0\n"),
    "classes reordered": lambda f: (f / "classes.txt").write_text("odd\neven\n"),
    "classes removed": lambda f: (f / "classes.txt").unlink(),
    "an image under its old name": overwrite,
    "two images swapped": swap,
    "an image of the same size and time": replace_by_same_size_and_time,
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_follows(change, folder):
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before and len(before) == 12 and int(before, 16)
    CHANGES[change](folder)
    assert load(folder).fingerprint != before


def test_fingerprint_follows_the_name_of_the_folder_and_not_its_place(folder, tmp_path):
    task = Task("dtd", "natural", "", ("even", "odd"), folder, synthetic=True)
    there = tmp_path / "elsewhere" / "dtd"
    shutil.copytree(folder, there)
    assert replace(task, folder=there).fingerprint == task.fingerprint
    there.rename(there.with_name("dtd-v2"))
    assert replace(task, folder=there.with_name("dtd-v2")).fingerprint != task.fingerprint


def test_fingerprint_is_that_of_the_task_as_read(folder):
    task = load(folder)
    before, lines = task.fingerprint, (folder / "test.txt").read_text()
    (folder / "test.txt").write_text(lines.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert load(folder).fingerprint == before  # another way to write the same lines
    shutil.rmtree(folder)
    assert task.fingerprint == before and task.size("test") == 2


def opened(monkeypatch):
    """The names of the files that are hashed from now on."""
    names, read = [], files._digest
    monkeypatch.setattr(files, "_digest", lambda path: (names.append(path.name), read(path))[1])
    return names


def kept(folder):
    (file,) = (files.cache_folder() / "fingerprints").glob("dtd-*.json")
    return file


def test_only_changed_images_are_read_again(folder, monkeypatch):
    names = opened(monkeypatch)
    before = load(folder).fingerprint
    assert len(names) == 14 and len(json.loads(kept(folder).read_text())) == 14
    names.clear()
    assert load(folder).fingerprint == before and names == []
    overwrite(folder)
    assert load(folder).fingerprint != before and names == ["000000.png"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}', "short", "other type", "folder", "pipe"],
)
def test_a_damaged_cache_is_computed_anew(content, folder, monkeypatch):
    before = load(folder).fingerprint
    file = kept(folder)
    entries = json.loads(file.read_text())
    if content == "short":
        content = json.dumps({key: value[:-1] for key, value in entries.items()}).encode()
    if content == "other type":
        content = json.dumps(dict.fromkeys(entries, 7)).encode()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.unlink()
        file.mkdir() if content == "folder" else os.mkfifo(file)
    names = opened(monkeypatch)
    assert load(folder).fingerprint == before and len(names) == 14


def test_without_a_cache_the_fingerprint_is_the_same(folder, tmp_path, monkeypatch):
    before = load(folder).fingerprint
    (tmp_path / "file").touch()
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "file")  # no folder can be made in a file
    assert load(folder).fingerprint == before

    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "other")
    monkeypatch.setattr(files, "write_json", full)
    assert load(folder).fingerprint == before


def test_a_file_that_has_just_changed_is_not_kept(folder, monkeypatch):
    """It may change again within the clock's tick."""
    monkeypatch.setattr(files, "SETTLED", 3600 * 10**9)
    names = opened(monkeypatch)
    assert load(folder).fingerprint == load(folder).fingerprint
    assert len(names) == 28 and not (files.cache_folder() / "fingerprints").exists()


@pytest.mark.parametrize("damage", ["missing", "pipe", "folder"])
def test_fingerprint_refuses_what_is_no_image_file(damage, folder):
    file = folder / "images/test/000001.png"
    file.unlink()
    if damage != "missing":
        os.mkfifo(file) if damage == "pipe" else file.mkdir()
    with pytest.raises(DataError) as of_fingerprint:
        _ = load(folder).fingerprint
    with pytest.raises(DataError) as of_image:
        load_image(file)
    assert str(of_fingerprint.value) == str(of_image.value) and "000001.png" in str(of_image.value)


# Lists are read once


def test_each_list_is_read_once(folder, monkeypatch):
    read, real = [], task_module.read_split
    monkeypatch.setattr(task_module, "read_split", lambda *args: (read.append(args[1]), real(*args))[1])
    task = load(folder)
    for split in (*SPLITS, *SPLITS):
        for i in range(task.size(split)):
            task.pixels(split, (4, 4), [i])
        task.labels(split)
    assert len(task.fingerprint) == 12 and read == list(SPLITS)


def test_a_task_stays_as_it_was_read(folder):
    task = load(folder)
    paths, labels = task.split("test")
    paths.clear()
    labels[:] = 7
    (folder / "test.txt").write_text("images/test/000000.png 1\n")
    assert task.labels("test").tolist() == [0, 1] and len(task.split("test")[0]) == 2
    assert load(folder).labels("test").tolist() == [1]


def test_a_task_is_hashable_and_can_be_pickled(folder):
    task = load(folder)
    before = (hash(task), task.fingerprint)
    for other in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task), replace(task)):
        assert other == task and (hash(other), other.fingerprint) == before


# Never judged by images that were trained on


def test_lists_of_whole_tasks_are_disjoint(folder, tiny_task):
    for task in (load(folder), tiny_task, load_task("digits", root="synthetic")):
        for split in ("train800", "train800val200"):
            task.check_disjoint(split)


@pytest.mark.skipif(not REAL_TASKS, reason=f"no VTAB-1k folder at {REAL}: set PEFTLAB_DATA")
@pytest.mark.parametrize("name", REAL_TASKS)
def test_real_lists_are_disjoint(name, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path)
    for split in ("train800", "train800val200"):
        load_task(name, root=REAL).check_disjoint(split)


def add(folder, split, name):
    with (folder / f"{split}.txt").open("a") as file:
        file.write(f"{name} 0\n")


def link(folder, make):
    make(folder / "images/train800/000001.png", folder / "images/test/link.png")
    add(folder, "test", "images/test/link.png")


def test_what_may_not_be_trained_on_is_not_compared(folder):
    for split in ("test", "val200", "train"):
        with pytest.raises(PeftlabError, match=f"unknown training split '{split}'"):
            load(folder).check_disjoint(split)


SHARED = {  # how the lists come to share an image: (training list, the list it is judged by, the damage)
    "the same line": ("train800", "test", lambda f: add(f, "test", "images/train800/000001.png")),
    "validation": ("train800", "val200", lambda f: add(f, "val200", "images/train800/000001.png")),
    "the union": ("train800val200", "test", lambda f: add(f, "test", "images/train800val200/000001.png")),
    "another way to the file": ("train800", "test", lambda f: add(f, "test", "images/test/../train800/000001.png")),
    "a symbolic link": ("train800", "test", lambda f: link(f, lambda old, new: new.symlink_to(old))),
    "copies": ("train800", "test", lambda f: link(f, shutil.copy)),
    "copies of the union": ("train800val200", "test", lambda f: link(f, shutil.copy)),
}


@pytest.mark.parametrize("how", SHARED)
def test_shared_images_are_refused(how, folder):
    training, judged, damage = SHARED[how]
    damage(folder)
    with pytest.raises(DataError) as error:
        load(folder).check_disjoint(training)
    for part in (f"{folder / training}.txt", f"{judged}.txt", "000001.png", "1 of ", "Remove"):
        assert part in str(error.value)


def test_few_equal_images_pass_and_one_shared_file_does_not(tmp_path):
    """As in dSprites, whose first and last angle are one, and in CIFAR-100, which has some photographs twice."""
    folder = make_task(tmp_path / "dtd", sizes=(11, 2, 2))
    shutil.copy(folder / "images/train800/000001.png", folder / "images/test/000000.png")
    load(folder).check_disjoint("train800")
    add(folder, "test", "images/train800/000001.png")
    with pytest.raises(DataError, match="1 of its 11 images"):
        load(folder).check_disjoint("train800")


# Images


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_images_stand_upright(orientation, suffix, tmp_path):
    """Eight ways to hold a camera: what was stored turned or mirrored is seen as the exposure was."""
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16], upright[8:, 16:] = (250, 0, 0), (0, 0, 250)
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 3),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"held.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(
        file, exif=exif, **({"quality": 100} if suffix == "jpg" else {})
    )
    image = load_image(file)
    assert image.size == (32, 16) and image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - upright).mean() < 10  # turned wrongly: over 40
    assert read_pixels([file], (16, 32)).shape == (1, 16, 32, 3)


def test_what_is_read_as_it_should_be(tmp_path):
    """16 bits of colour become 8; of a camera's pair of pictures (MPO) the first is taken."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 0x0102, 0x7F00, 0xFF00))
    deep = tmp_path / "deep.png"
    deep.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert np.asarray(load_image(deep)).tolist() == [[[255, 128, 0], [1, 127, 255]]]
    pair = tmp_path / "pair.mpo"
    Image.new("RGB", (8, 8), (250, 0, 0)).save(
        pair, save_all=True, append_images=[Image.new("RGB", (8, 8), (0, 0, 250))]
    )
    assert Path(pair).stat().st_size and load_image(pair).getpixel((4, 4))[0] > 240
