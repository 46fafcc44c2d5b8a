"""A reader's own images as a task: what is read, how it is split, and what a bad folder is told."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.image_folder import SIDE, plain
from peftlab.tasks.load import load_task
from peftlab.tasks.vtab1k import SPLITS


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))


def picture(seed, size=(120, 90), mode="RGB"):
    """Coarse noise, so that a copy saved anew is still alike."""
    grid = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC).convert(mode)


def folder_of(root, sizes, first=0):
    """{class: number of images} -> a folder for each class."""
    seed = first
    for name, n in sizes.items():
        (root / name).mkdir(parents=True)
        for _ in range(n):
            picture(seed).save(root / name / f"{seed:03d}.png")
            seed += 1
    return root


def contents(task, split):
    return {path.read_bytes() for path in task.split(split)[0]}


def sizes(task):
    return [task.size(split) for split in SPLITS]


def test_class_folders_are_split_by_class(tmp_path):
    root = folder_of(tmp_path / "pets", {"dog": 50, "cat": 25})
    before = sorted(p.name for p in root.rglob("*"))
    task = load_task(str(root))
    assert (task.name, task.classes, task.synthetic) == ("pets", ("cat", "dog"), False)
    assert sizes(task) == [48, 12, 60, 15]
    for split in SPLITS:
        assert np.bincount(task.labels(split)).tolist() == [task.size(split) // 3, task.size(split) * 2 // 3]
    assert not contents(task, "train800val200") & contents(task, "test")
    assert sorted(p.name for p in root.rglob("*")) == before, "nothing is written into the folder"
    task.check_disjoint("train800val200")


def test_the_first_images_are_of_all_classes(tmp_path):
    task = load_task(str(folder_of(tmp_path / "a", {"x": 30, "y": 30})))
    assert set(task.labels("train800")[:10]) == {0, 1}


def test_a_folder_is_split_alike_each_time_and_anew_where_it_changed(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 20, "y": 20})
    first, again = load_task(str(root)), load_task(str(root))
    assert first.folder == again.folder and first.fingerprint == again.fingerprint
    picture(99).save(root / "x" / "one_more.png")
    assert load_task(str(root)).fingerprint != first.fingerprint


def test_a_budget_keeps_so_many_to_train_and_choose_on(tmp_path):
    task = load_task(str(folder_of(tmp_path / "a", {"x": 60, "y": 60})), budget=50)
    assert sizes(task) == [40, 10, 50, 24]
    with pytest.raises(PeftlabError, match="'digits' has its lists already"):
        load_task("digits", budget=50)


def test_copies_of_a_picture_stay_on_one_side(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 30, "y": 30})
    saved = {}
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        small = Image.open(path).resize((60, 45))
        small.save(path.with_suffix(".jpg"), quality=60)
        saved[path.read_bytes()] = saved[path.with_suffix(".jpg").read_bytes()] = number
    task = load_task(str(root))
    parts = [{saved[content] for content in contents(task, split)} for split in ("train800", "val200", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60, "no picture in two parts"
    assert sum(sizes(task)) == 120 + task.size("train800val200")


def test_folders_that_are_split_already_stay_so(tmp_path):
    for number, (name, n) in enumerate({"train": 20, "validation": 6, "test": 8}.items()):
        folder_of(tmp_path / "a" / name, {"x": n, "y": n}, first=100 * number)
    task = load_task(str(tmp_path / "a"))
    assert sizes(task) == [40, 12, 52, 16]
    given = {path.read_bytes() for path in (tmp_path / "a" / "test").rglob("*.png")}
    assert contents(task, "test") == given


def test_without_a_test_folder_val_is_the_test_and_copies_of_it_are_left_out(tmp_path):
    folder_of(tmp_path / "a" / "train", {"x": 20, "y": 20})
    folder_of(tmp_path / "a" / "val", {"x": 6, "y": 6}, first=100)
    picture(100, (80, 60)).save(tmp_path / "a" / "train" / "y" / "copy.jpg")
    assert sizes(load_task(str(tmp_path / "a"))) == [32, 8, 40, 12]


def test_a_csv_names_paths_labels_and_splits(tmp_path):
    folder_of(tmp_path / "images", {"all": 40})
    lines = [f"images/all/{i:03d}.png,{'tall' if i % 2 else 'wide, low'!r}" for i in range(40)]
    file = tmp_path / "mine.csv"
    file.write_text("path,label\n" + "\n".join(lines).replace("'", '"'), encoding="utf-8-sig")
    task = load_task(str(file))
    assert (task.name, task.classes) == ("mine", ("tall", "wide, low")) and sum(sizes(task)) == 40 + task.size(
        SPLITS[2]
    )
    split = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    file.write_text(
        "label,split,path\n" + "".join(f"{i % 2},{s},images/all/{i:03d}.png\n" for i, s in enumerate(split))
    )
    assert sizes(load_task(str(file))) == [20, 10, 30, 10]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA"])
def test_images_of_any_usual_kind_are_read(mode, tmp_path):
    root = folder_of(tmp_path / "a", {"x": 10, "y": 10})
    odd = picture(50, mode="RGBA" if mode == "RGBA" else "RGB").convert(mode)
    odd.save(root / "x" / f"odd{'.tif' if mode == 'CMYK' else '.png'}")
    task = load_task(str(root))
    for split in SPLITS:
        task.pixels(split, (32, 32))
    assert sum(sizes(task)) == 21 + task.size("train800val200")


def test_what_is_transparent_is_white():
    clear = picture(0, mode="RGBA")
    clear.putalpha(0)
    assert np.asarray(plain(clear, Path("clear.png"))).min() == 255


def test_small_files_are_copied_as_they_are_and_large_ones_made_smaller(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    large = picture(50, (1200, 900))
    large.save(
        root / "x" / "large.jpg",
        exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00",
    )
    task = load_task(str(root))
    paths = {path for split in SPLITS for path in task.split(split)[0]}
    shapes = sorted(Image.open(path).size for path in paths)
    assert shapes[-1] == (SIDE, round(SIDE * 1200 / 900)), "upright, as its EXIF says"
    originals = {path.read_bytes() for path in root.rglob("*.png")}
    assert originals <= {path.read_bytes() for path in paths}


def test_a_stopped_copy_leaves_nothing(tmp_path, monkeypatch):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    with monkeypatch.context() as patch:
        patch.setattr("peftlab.tasks.image_folder.copies", lambda thumbnails: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_task(str(root))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert sum(sizes(load_task(str(root)))) == 18


def test_a_huge_image_and_a_truncated_one_are_named(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    data = io.BytesIO()
    picture(50, (300, 300)).save(data, "JPEG")
    (root / "y" / "cut.jpg").write_bytes(data.getvalue()[:600])
    with pytest.raises(DataError, match=r"cut\.jpg: not a readable image"):
        load_task(str(root))


BAD = {
    "absent": (lambda root: root.rename(root.with_name("b")), "no such folder or CSV file"),
    "loose": (lambda root: [p.rename(root / f"{p.parent.name}{p.name}") for p in root.rglob("*.png")], "no images in"),
    "empty class": (lambda root: (root / "z").mkdir(), r"a/z: no images in this class's folder"),
    "few": (lambda root: folder_of(root, {"z": 2}, 50), "class 'z' has 2 different images left, and 3 are needed"),
    "beside train": (lambda root: (root / "x").rename(root / "train"), "y stands beside train"),
    "sixteen bits": (
        lambda root: Image.fromarray(np.ones((9, 9), np.uint16)).save(root / "x" / "deep.png"),
        r"deep\.png: image mode I;16",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_what_to_do(name, tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    breaking, message = BAD[name]
    breaking(root)
    with pytest.raises(DataError, match=message):
        load_task(str(root))


def test_one_class_is_none(tmp_path):
    with pytest.raises(DataError, match="1 class; two are needed"):
        load_task(str(folder_of(tmp_path / "a", {"x": 5})))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column label and no column path"),
        ("path,class\nx.png,1\n", "no column label"),
        ("path,label\nx.png,\n", "line 2: path or label is empty"),
        ("path,label,split\nx.png,a,dev\n", "line 2: split 'dev' is none of train, val, test"),
        ("path,label,split\nx.png,a,train\ny.png,b,\n", "some lines name a split"),
        ("path,label\nx.png,a\ny.png,b\n", "x.png: a list names this file, but there is no such file"),
    ],
)
def test_a_bad_csv_is_told_what_to_do(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_task(str(tmp_path / "a.csv"))
