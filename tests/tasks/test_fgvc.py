"""FGVC: the lists of VPT and GIFT, in tiny folders of their layout."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.audit import audit
from peftlab.tasks.fgvc import FGVC
from peftlab.tasks.load import available_tasks, load_task, pick_tasks

# As in GIFT's data/: CUB's ids are text, the others' numbers from 1; paths start in images/, Images/ or the folder.
NAMES = {
    "cub": ("cub", "images", "001.Black_footed_Albatross/a{}.jpg", "002.Laysan_Albatross/b{}.jpg", ("001", "002")),
    "stanford_dogs": (
        "stanforddogs",
        "Images",
        "n02085620-Chihuahua/{}.jpg",
        "n02085782-Japanese_spaniel/{}.jpg",
        (1, 2),
    ),
    "stanford_cars": ("stanfordcars", "", "cars_train/cars_train/{}.jpg", "cars_train/cars_train/1{}.jpg", (7, 104)),
    "oxford_flowers": ("oxfordflowers", "", "jpg/image_{}.jpg", "jpg/image_1{}.jpg", (9, 10)),
    "nabirds": ("nabirds", "images", "0295/{}.jpg", "0296/{}.jpg", ("295", "296")),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))


def make(root, name, seed=0):
    """Two classes; three images of each to train, one to choose on, two for the test."""
    folder, inside, one, other, ids = NAMES[name]
    start = root / folder
    rng = np.random.default_rng(seed)
    for part, numbers in (("train", (100, 101, 102)), ("val", (103,)), ("test", (104, 105))):
        rows = {}
        for number in numbers:
            for pattern, key in zip((other, one), reversed(ids), strict=True):
                path = pattern.format(number)
                rows[path] = key
                file = start / inside / path
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(file)
        (start / f"{part}.json").write_text(json.dumps(rows, indent=2))
    return start


def test_the_table_of_tasks():
    """Class counts and test sizes of the data sets' own splits."""
    assert {name: (spec.num_classes, spec.test_size) for name, spec in FGVC.items()} == {
        "cub": (200, 5_794),
        "nabirds": (555, 24_633),
        "oxford_flowers": (102, 6_149),
        "stanford_dogs": (120, 8_580),
        "stanford_cars": (196, 8_041),
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_task_is_read_by_its_lists(name, tmp_path):
    folder = make(tmp_path, name)
    task = load_task(name, tmp_path)
    assert (task.name, task.group, task.num_classes, task.synthetic) == (name, "fgvc", 2, False)
    assert [task.size(split) for split in ("train800", "val200", "train800val200", "test")] == [6, 2, 8, 4]
    train, val = task.split("train800"), task.split("val200")
    assert task.split("train800val200")[0] == train[0] + val[0]
    expected = json.loads((folder / "test.json").read_text())
    ids = sorted(set(expected.values()))
    paths, labels = task.split("test")
    assert [ids[label] for label in labels] == list(expected.values()), "labels are the ids in their order"
    assert task.pixels("test", (8, 8)).shape == (4, 8, 8, 3) and len(task.fingerprint) == 12
    task.check_disjoint("train800")
    assert load_task(folder).fingerprint == task.fingerprint, "by its path, too"
    assert available_tasks(tmp_path) == [name] == pick_tasks(3, tmp_path)


def test_names_of_classes(tmp_path):
    for name in NAMES:
        make(tmp_path, name)
    names = {name: load_task(name, tmp_path).classes for name in NAMES}
    assert names["cub"] == ("Black footed Albatross", "Laysan Albatross")
    assert names["stanford_dogs"] == ("Chihuahua", "Japanese spaniel")
    assert names["oxford_flowers"] == ("class 9", "class 10") and names["stanford_cars"] == ("class 7", "class 104")
    assert names["nabirds"] == ("0295", "0296")


def test_folders_under_their_own_names(tmp_path):
    make(tmp_path, "cub").rename(tmp_path / "CUB_200_2011")
    make(tmp_path, "oxford_flowers").rename(tmp_path / "OxfordFlower")
    assert load_task("cub", tmp_path).folder == tmp_path / "CUB_200_2011"
    assert load_task("oxford_flowers", tmp_path / "OxfordFlower").num_classes == 2


def change(part, text):
    return lambda folder: (folder / f"{part}.json").write_text(text)


BAD = {
    "no folder": (
        shutil.rmtree,
        r"no folder cub .* data/cub of github.com/savadikarc/gift, the images from https://data",
    ),
    "no images": (lambda f: shutil.rmtree(f / "images"), r"cub/images: no such folder. Unpack the images of https"),
    "no val.json": (lambda f: (f / "val.json").unlink(), r"val\.json: this list is missing. Take it from data/cub"),
    "not JSON": (change("train", "{"), r"train\.json: not JSON"),
    "a list": (change("train", "[1]"), r"train\.json: no object of paths and class ids"),
    "empty": (change("train", "{}"), r"train\.json: no object"),
    "leaves": (change("train", '{"../x.jpg": "001"}'), r"'\.\./x\.jpg': '001' is not a path in the folder"),
    "no id": (change("train", '{"x.jpg": 1.5}'), "1.5 is not a path in the folder with its class"),
    "two kinds": (change("train", '{"x.jpg": 1, "y.jpg": "2"}'), "some class ids are text, others numbers"),
    "another class": (
        change("test", '{"x.jpg": "003"}'),
        r"test\.json: 'x\.jpg' has class '003', which no image",
    ),
    "too many": (
        change("train", json.dumps({f"{i}/x.jpg": i for i in range(201)})),
        r"train\.json: 201 classes, but cub has 200",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_what_to_do(name, tmp_path):
    breaking, message = BAD[name]
    breaking(make(tmp_path, "cub"))
    with pytest.raises(DataError, match=message):
        task = load_task("cub", tmp_path)
        for split in ("train800", "val200", "test"):
            task.split(split)


def test_without_a_folder_there_is_none(tmp_path, monkeypatch):
    with pytest.raises(PeftlabError, match="'cub' has no synthetic task. Set PEFTLAB_DATA .* FGVC's lists"):
        load_task("cub")
    with pytest.raises(PeftlabError, match="'cub' has its lists already"):
        load_task("cub", tmp_path, budget=10)
    make(tmp_path, "cub")
    monkeypatch.setenv("PEFTLAB_DATA", str(tmp_path))
    assert load_task("cub").num_classes == 2


def test_an_audit_compares_the_test_with_the_published_size(tmp_path):
    folder = make(tmp_path, "stanford_dogs")
    make(tmp_path, "cub", seed=1)
    files = sorted((folder / "Images").rglob("*.jpg"))
    shutil.copy(files[0], files[4])  # a test image of Chihuahuas is a training image now
    report = audit(tmp_path)
    assert report.table["task"].tolist() == ["cub"] * 3 + ["stanford_dogs"] * 3
    assert report.table["split"].tolist() == ["train", "val", "test"] * 2
    assert report.table["expected"].dropna().tolist() == [5_794, 8_580]
    assert report.table["shared"].tolist() == [0, 0, 0, 0, 0, 1]
    assert (
        len(report.problems) == 1 and "1 of 4 images are near-copies of another in train or val" in report.problems[0]
    )
    assert "not FGVC results" in report.summary()
    assert audit(folder).table["task"].unique().tolist() == ["stanford_dogs"]
