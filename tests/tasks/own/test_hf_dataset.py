"""Image sets of Hugging Face's datasets: what is read, and what a set without images or classes is told."""

import sys

import numpy as np
import pytest
from support import coarse_picture

from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.audit import audit
from peftlab.tasks.load import load_task
from peftlab.tasks.own.hf_dataset import _encoded, was_saved
from peftlab.tasks.vtab1k import SPLITS

try:
    import datasets
except ImportError:
    datasets = None

needs_datasets = pytest.mark.skipif(
    datasets is None, reason="datasets is not installed: pip install 'peftlab[datasets]'"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))


def picture(seed, mode="RGB"):
    return coarse_picture(seed, (40, 30), mode)


def made(n, first=0, names=("cat", "dog"), **columns):
    """n images of each class."""
    labels = [i % len(names) for i in range(n * len(names))]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    features |= {name: datasets.Value("int64") for name in columns}
    rows = {"image": [picture(first + i) for i in range(len(labels))], "label": labels}
    return datasets.Dataset.from_dict(rows | columns, features=datasets.Features(features))


def sizes(task):
    return [task.size(split) for split in SPLITS]


@needs_datasets
def test_a_dataset_is_split_by_class():
    data = made(20)
    task = load_task(data)
    assert (task.name, task.group, task.classes) == ("dataset", "yours", ("cat", "dog"))
    assert sizes(task) == [26, 6, 32, 8]
    assert sum(sizes(task)) == 40 + task.size("train800val200")
    for split in SPLITS:
        for pixels, label in zip(task.pixels(split, (30, 40)), task.labels(split), strict=True):
            seed = next(i for i in range(40) if np.array_equal(np.asarray(picture(i)), pixels))
            assert data[seed]["label"] == label, "each image keeps its label"
    assert load_task(made(20)).folder == task.folder, "equal sets are copied once"
    assert load_task(made(20, first=1)).folder != task.folder


@needs_datasets
def test_the_parts_of_a_dataset_dict_are_kept_and_other_columns_and_formats_do_not_matter(tmp_path):
    parts = {"train": made(10, id=list(range(20))), "validation": made(4, 100), "test": made(3, 200)}
    task = load_task(datasets.DatasetDict(parts).with_format("numpy"))
    assert sizes(task) == [20, 8, 28, 6]
    assert load_task(datasets.DatasetDict(train=parts["train"]), budget=10).size("train800val200") == 10


@needs_datasets
def test_a_saved_folder_is_read_by_its_path_and_audited(tmp_path, monkeypatch):
    data = made(6)
    data.save_to_disk(tmp_path / "pets")
    datasets.DatasetDict(train=made(6), test=made(3, 50)).save_to_disk(tmp_path / "both")
    task = load_task(str(tmp_path / "pets"))
    assert (task.name, task.num_classes) == ("pets", 2) and sum(sizes(task)) == 12 + task.size("train800val200")
    assert load_task(tmp_path / "both").size("test") == 6
    report = audit(tmp_path / "both")
    assert report.problems == [] and report.table["images"].tolist() == [12, 6]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PeftlabError, match=r"pip install 'peftlab\[datasets\]'"):
        load_task(tmp_path / "pets")


@needs_datasets
def test_images_in_files_of_their_own_are_read(tmp_path):
    for seed in range(12):
        picture(seed).save(tmp_path / f"{seed}.png")
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])})
    rows = {"photo": [str(tmp_path / f"{i}.png") for i in range(12)], "kind": [i % 2 for i in range(12)]}
    data = datasets.Dataset.from_dict(rows, features=features)
    assert sum(sizes(load_task(data))) == 12 + load_task(data).size("train800val200")
    (tmp_path / "3.png").unlink()
    with pytest.raises(DataError, match=r"row 3: .*3\.png cannot be read \(No such file"):
        load_task(data)


@needs_datasets
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.remove_columns("image"), r"no column of type Image \(label\).*cast_column"),
        (
            lambda d: d.cast_column("label", datasets.Value("int64")),
            "no column of type ClassLabel.*class_encode_column",
        ),
        (lambda d: datasets.concatenate_datasets([d, second()], axis=1), "image and image2 are both Image"),
        (lambda d: datasets.DatasetDict(train=d, dev=d), "part 'dev' is none of train, validation, test"),
        (lambda d: d.to_iterable_dataset(), "a stream"),
        (lambda d: d.filter(lambda row: row["label"] == 0), "1 class, 'cat'; two are needed"),
        (lambda d: datasets.concatenate_datasets([d, unlabelled()]), "row 12: no label"),
        (
            lambda d: datasets.concatenate_datasets([d, damaged()]),
            "row 12: not a readable image.*Replace or remove it",
        ),
    ],
)
def test_a_bad_dataset_is_told_what_to_do(change, message):
    with pytest.raises(DataError, match=message):
        load_task(change(made(6)))


@needs_datasets
def test_what_has_no_path_is_not_to_be_audited():
    with pytest.raises(DataError, match=r"^dataset, row 12: not a readable .*\. 1 more cannot be used$"):
        load_task(datasets.concatenate_datasets([made(6), damaged(), damaged()]))


def second():
    return made(6, 50).rename_column("image", "image2").remove_columns("label")


def unlabelled():
    rows = {"image": [picture(90)], "label": [-1]}
    return datasets.Dataset.from_dict(rows, features=made(1).features)


def damaged():
    rows = {"image": [{"bytes": b"no image", "path": None}], "label": [0]}
    return datasets.Dataset.from_dict(rows, features=made(1).features)


@pytest.mark.parametrize("picture", [None, {"bytes": None, "path": None}])
def test_without_an_image_a_row_is_named(picture):
    with pytest.raises(DataError, match="pets, row 3: no image"):
        _encoded([{"image": picture}], 0, "pets, row 3")


def test_other_files_of_such_names_are_no_saved_set(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    assert not was_saved(tmp_path)
    (tmp_path / "dataset_info.json").write_text("{}")
    assert was_saved(tmp_path)


@needs_datasets
def test_a_damaged_saved_folder_is_named(tmp_path):
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{")
    with pytest.raises(DataError, match="cannot be read by datasets .* Write it again by save_to_disk"):
        load_task(tmp_path)


def test_other_objects_are_no_task(monkeypatch):
    if datasets is None:
        with pytest.raises(PeftlabError, match="install its library"):
            load_task(["a", "b"])
    else:
        with pytest.raises(PeftlabError, match="not an object of type list"):
            load_task(["a", "b"])
