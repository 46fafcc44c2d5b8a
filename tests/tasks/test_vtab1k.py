"""The reader of the VTAB-1k layout: the specs, every bad input, and the real subsets where they are at hand."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support import REAL, make_task

from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.load import load_task, pick_tasks
from peftlab.tasks.task import load_image
from peftlab.tasks.vtab1k import SPLITS, VTAB, read_classes, read_split

REAL_TASKS = sorted(p.name for p in REAL.glob("*") if p.name in VTAB)

CLASSES = {
    **{"caltech101": 102, "cifar": 100, "dtd": 47, "oxford_flowers102": 102, "oxford_iiit_pet": 37, "svhn": 10},
    **{"sun397": 397, "patch_camelyon": 2, "eurosat": 10, "resisc45": 45, "diabetic_retinopathy": 5},
    **{"clevr_count": 8, "clevr_dist": 6, "dmlab": 6, "kitti": 4, "dsprites_loc": 16, "dsprites_ori": 16},
    **{"smallnorb_azi": 18, "smallnorb_ele": 9},
}


@pytest.fixture
def folder(tmp_path):
    return make_task(tmp_path / "dtd")


def test_specs():
    assert {name: spec.num_classes for name, spec in VTAB.items()} == CLASSES
    assert Counter(spec.group for spec in VTAB.values()) == {"natural": 7, "specialized": 4, "structured": 8}
    assert sum(spec.test_size for spec in VTAB.values()) == 387_905
    assert all(name == spec.name and spec.about for name, spec in VTAB.items())


def test_reads_what_is_there(folder):
    paths, labels = read_split(folder, "train800val200", 2)
    assert [p.name for p in paths] == [f"{i:06}.png" for i in range(6)] and all(p.is_file() for p in paths)
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert read_classes(folder, VTAB["dtd"]) == ("even", "odd")


def test_no_classes_file_gives_numbered_names(folder):
    (folder / "classes.txt").unlink()
    assert read_classes(folder, VTAB["kitti"]) == ("class 0", "class 1", "class 2", "class 3")


def test_blank_lines_and_spaces_in_names_are_fine(folder):
    (folder / "test.txt").write_text("\nimages/my photo.png 1\n\n")
    paths, labels = read_split(folder, "test", 2)
    assert paths == [folder / "images/my photo.png"] and labels.tolist() == [1]


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder.*PEFTLAB_DATA.*peftlab data fetch"):
        read_split(tmp_path / "nowhere", "test", 2)


def test_missing_split_names_those_found(folder):
    (folder / "val200.txt").unlink()
    with pytest.raises(
        DataError, match=r"val200.txt: this split is missing \(found: test, train800, train800val200\)"
    ):
        read_split(folder, "val200", 2)


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_empty_list(folder, text):
    (folder / "test.txt").write_text(text)
    with pytest.raises(DataError, match="test.txt: the list is empty.*peftlab data fetch"):
        read_split(folder, "test", 2)


@pytest.mark.parametrize("label", [2, -1, 99])
def test_label_out_of_range(folder, label):
    (folder / "test.txt").write_text(f"images/test/000000.png 0\nimages/test/000001.png {label}\n")
    with pytest.raises(DataError, match=rf"test.txt, line 2: label {label} is out of range: 2 classes, 0 to 1"):
        read_split(folder, "test", 2)


@pytest.mark.parametrize(
    "line",
    [
        "images/test/000000.png",
        "images/test/000000.png,1",
        "images/test/000000.png 1.0",
        "7",
        "images/test/000000.png --1",
        "images/test/000000.png \u00b2",
    ],
)
def test_malformed_line(folder, line):
    (folder / "test.txt").write_text(f"images/test/000000.png 0\n{line}\n")
    with pytest.raises(DataError, match="test.txt, line 2: .* is not '<path> <label>'"):
        read_split(folder, "test", 2)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "images/../../secret.png"])
def test_line_that_leaves_the_folder(folder, name):
    (folder / "test.txt").write_text(f"{name} 0\n")
    with pytest.raises(DataError, match="test.txt, line 1: .* leaves the task's folder"):
        read_split(folder, "test", 2)


def test_more_class_names_than_classes(folder):
    with pytest.raises(DataError, match="classes.txt: 2 class names, but the task has 1"):
        read_classes(folder, replace(VTAB["dtd"], num_classes=1))


def test_missing_image(tmp_path):
    with pytest.raises(DataError, match="gone.png: a list names this file, but there is no such file"):
        load_image(tmp_path / "gone.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image(tmp_path, suffix):
    file = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=f"cut.{suffix}: not a readable image"):
        load_image(file)


def test_text_instead_of_an_image(tmp_path):
    (tmp_path / "page.png").write_text("<html>quota exceeded</html>")
    with pytest.raises(DataError, match="page.png: not a readable image"):
        load_image(tmp_path / "page.png")


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "P", "1"])
def test_wrong_image_mode(tmp_path, mode):
    file = tmp_path / "image.png"
    if mode == "I;16":
        Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(file)
    else:
        Image.new(mode, (8, 8)).save(file)
    with pytest.raises(DataError, match=f"image.png: image mode {mode}, expected RGB or L.*convert"):
        load_image(file)


def test_grey_image_becomes_rgb(tmp_path):
    Image.new("L", (8, 8), 7).save(tmp_path / "grey.png")
    image = load_image(tmp_path / "grey.png")
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (7, 7, 7)


def test_unknown_task_names_near_ones(tmp_path):
    with pytest.raises(PeftlabError, match="unknown task 'dsprite_ori'; did you mean 'dsprites_ori'.*Known: "):
        load_task("dsprite_ori", root=tmp_path)


def test_task_folder_missing_in_root(tmp_path):
    with pytest.raises(DataError, match="cifar: no such folder.*root='synthetic'"):
        load_task("cifar", root=tmp_path)


def test_task_of_a_subset_has_the_classes_of_its_file(folder):
    task = load_task("dtd", root=folder.parent)
    assert task.classes == ("even", "odd") and task.num_classes == 2 and not task.synthetic and task.title == "dtd"
    with pytest.raises(PeftlabError, match="unknown split 'valid'.*Known: "):
        task.split("valid")


def test_pixels_and_fingerprint(folder):
    task = load_task("dtd", root=folder.parent)
    pixels = task.pixels("test", size=(16, 16), indices=[1])
    assert (pixels[0].numpy() == np.asarray(Image.open(folder / "images/test/000001.png"))).all()
    assert task.pixels("test", size=(4, 6)).shape == (2, 4, 6, 3)
    before = task.fingerprint
    (folder / "test.txt").write_text("images/test/000000.png 1\n")
    assert load_task("dtd", root=folder.parent).fingerprint != before and len(before) == 12


@pytest.mark.skipif(not REAL_TASKS, reason=f"no VTAB-1k folder at {REAL}: set PEFTLAB_DATA")
@pytest.mark.parametrize("name", REAL_TASKS)
def test_real_subset(name):
    task = load_task(name, root=REAL)
    paths = {split: task.split(split)[0] for split in SPLITS}
    assert len(paths["train800val200"]) == len(paths["train800"]) + len(paths["val200"])
    assert len(set(task.classes)) == task.num_classes <= VTAB[name].num_classes
    assert task.labels("train800val200").max() == task.num_classes - 1
    for split in SPLITS:
        last = len(paths[split]) - 1
        pixels = task.pixels(split, size=(32, 32), indices=[0, last])
        assert pixels.shape == (2, 32, 32, 3) and pixels.float().std() > 0


def test_a_list_that_is_no_text(folder):
    (folder / "test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="test.txt: not a text file"):
        read_split(folder, "test", 2)


def test_an_empty_list_of_classes(folder):
    (folder / "classes.txt").write_text("\n")
    with pytest.raises(DataError, match="classes.txt: no class names"):
        read_classes(folder, VTAB["dtd"])


def test_picked_tasks_show_every_group(tmp_path, monkeypatch):
    monkeypatch.delenv("PEFTLAB_DATA", raising=False)
    assert pick_tasks(3) == ["digits", "textures", "clevr_count"]
    for name in ("cifar", "dtd", "eurosat", "kitti"):
        (tmp_path / name).mkdir()
    assert pick_tasks(4, tmp_path) == ["cifar", "eurosat", "kitti", "dtd"]
