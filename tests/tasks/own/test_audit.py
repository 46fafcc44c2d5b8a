"""The audit of class folders: everything wrong is named at once, before any split is made."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from support import coarse_picture, folder_of

from peftlab.common.errors import DataError
from peftlab.tasks.audit import audit
from peftlab.tasks.load import load_task


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    return folder_of(tmp_path / "photos", {"cat": 6, "dog": 4})


def test_a_clean_folder(photos):
    report = audit(photos)
    assert report.problems == [] and str(report).endswith("1 task, 0 problems.")
    (row,) = report.table.to_dict("records")
    assert (row["task"], row["split"], row["images"], row["classes"], row["declared"]) == ("photos", "all", 10, 2, 2)
    assert (row["smallest"], row["largest"]) == (0.4, 0.6)
    assert [row[name] for name in ("duplicates", "shared", "unreadable", "wrong_mode")] == [0] * 4
    assert not list(photos.parent.glob("photos/*.txt")), "nothing is written"


def test_all_that_is_wrong_is_named_at_once(photos):
    (photos / "cat" / "000.png").write_bytes(b"")
    (photos / "cat" / "001.png").write_bytes((photos / "cat" / "001.png").read_bytes()[:200])
    Image.fromarray(np.ones((9, 9), np.uint16)).save(photos / "dog" / "deep.png")
    (photos / "dog" / "IMG_1.HEIC").write_bytes(b"heic")
    (photos / "dog" / "notes.txt").write_text("mine")
    (photos / "dog" / "._006.png").write_bytes(b"hidden")
    (photos / "empty").mkdir()
    report = audit(photos)
    words = [
        "empty: no images in this class",
        "2 files beside the images are left out (1 of .heic, 1 of .txt; first: dog/",
    ]
    words += ["000.png: not a readable image", "001.png: not a readable image", "deep.png: image mode I;16"]
    assert len(report.problems) == len(words)
    for word in words:
        assert sum(word in problem for problem in report.problems) == 1, word
    row = report.table.iloc[0]
    assert (row["images"], row["unreadable"], row["wrong_mode"]) == (11, 2, 1)


def test_copies_and_their_labels(photos):
    coarse_picture(0, (60, 45)).save(photos / "cat" / "small.png")
    coarse_picture(1, (60, 45)).save(photos / "dog" / "wrong.png")
    report = audit(photos)
    assert report.table["duplicates"].tolist() == [2]
    (problem,) = report.problems
    assert "2 of 12 images are near-copies of another in the same list, 1 of them with another label" in problem
    assert "cat/small.png and" in problem and "One of two labels is probably wrong" in problem
    (photos / "dog" / "wrong.png").unlink()
    assert audit(photos).problems[0].endswith("peftlab keeps them on one side of its split")


def test_copies_across_given_parts(photos):
    split = photos.parent / "split"
    shutil.copytree(photos, split / "train")
    folder_of(split / "test", {"cat": 2, "dog": 2}, first=50)
    coarse_picture(0, (60, 45)).save(split / "test" / "cat" / "copy.png")
    report = audit(split)
    assert report.table["split"].tolist() == ["train", "test"]
    assert report.table["shared"].tolist() == [0, 1] and report.table["duplicates"].tolist() == [0, 0]
    assert "test: 1 of 5 images are near-copies of another in train, 0 of them" in report.problems[0]


def test_classes_with_too_few_images(photos):
    folder_of(photos, {"eel": 1, "fox": 2}, first=50)
    coarse_picture(51, (60, 45)).save(photos / "fox" / "copy.png")
    report = audit(photos)
    assert (
        "2 of 4 classes have fewer than 3 different images, to train, to choose and to test on (first: 'eel', 1)"
        in (report.problems[-1])
    )
    split = photos.parent / "split"
    shutil.copytree(photos, split / "train")
    folder_of(split / "test", {"cat": 2, "gnu": 2}, first=80)
    problems = audit(split).problems
    assert any("1 of 5 classes have fewer than 1 different images in train (first: 'gnu', 0)" in p for p in problems)
    assert any("3 of 5 classes have fewer than 1 different images in test (first: 'dog', 0)" in p for p in problems)


def test_a_csv_with_several_bad_lines(photos):
    file = photos.parent / "mine.csv"
    rows = [f"photos/{p.parent.name}/{p.name},{p.parent.name}" for p in sorted(photos.rglob("*.png"))]
    file.write_text("\n".join(["path,label", *rows, "nowhere.png,cat", "photos/cat/000.png,"]))
    report = audit(file)
    assert report.table["images"].tolist() == [10]
    assert ["line 12" in p for p in report.problems] == [True, False] and "line 13: path or label" in report.problems[
        1
    ]


def test_without_decoding_only_lists_are_read(photos):
    (photos / "cat" / "000.png").write_bytes(b"")
    report = audit(photos, decode=False)
    assert report.problems == [] and report.table["images"].tolist() == [10]
    assert report.table[["duplicates", "shared", "wrong_mode"]].isna().all(axis=None)


def test_a_folder_without_images_is_none(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(DataError, match="a/b: no images in this class's folder"):
        audit(tmp_path / "a")
    (tmp_path / "a" / "b").rmdir()
    with pytest.raises(DataError, match="no task in the VTAB-1k layout here, and no class folders"):
        audit(tmp_path / "a")


def named(folder, name):
    """A file or folder by the bytes of its name, which macOS may refuse."""
    try:
        os.rename(folder, os.path.join(os.fsencode(folder.parent), name))
    except OSError as error:
        pytest.skip(f"this disk has no such names: {error}")


def test_one_class_is_a_problem(photos):
    shutil.rmtree(photos / "dog")
    (problem,) = audit(photos).problems
    assert "photos: 1 class, 'cat'; two are needed" in problem
    with pytest.raises(DataError) as caught:
        load_task(photos)
    assert str(caught.value) == problem


@pytest.mark.parametrize("name", [b"caf\xe9", b" ", b"a\nb", b"a\rb"])
def test_a_class_whose_name_no_list_can_hold_is_a_problem(name, photos):
    named(photos / "dog", name)
    report = audit(photos)
    (problem,) = report.problems
    assert "Rename it" in problem and repr(os.fsdecode(name)) in problem
    assert str(report).encode() and problem.isprintable(), "it can be printed"
    with pytest.raises(DataError) as caught:
        load_task(photos)
    assert str(caught.value) == problem


def test_an_image_under_any_name_can_be_printed(photos):
    (photos / "dog" / "006.png").write_bytes(b"")
    named(photos / "dog" / "006.png", b"caf\xe9.png")
    assert b"caf\\udce9.png: not a readable image" in str(audit(photos)).encode()


def test_linked_folders_are_a_problem_and_linked_classes_and_images_are_read(photos):
    """Nobody walks through links below a class, which may lead anywhere, also back; so nothing is left out unsaid."""
    more = folder_of(photos.parent / "more", {"eel": 6}, first=50)
    (photos / "eel").symlink_to(more / "eel")
    (photos / "cat" / "linked.png").symlink_to(folder_of(more, {"cat": 1}, first=70) / "cat" / "070.png")
    report = audit(photos)
    assert report.problems == [] and report.table["images"].tolist() == [17]
    (photos / "cat" / "deep").mkdir()
    (photos / "cat" / "deep" / "again").symlink_to(photos / "cat")
    (problem,) = audit(photos).problems
    assert "cat/deep/again: a link to a folder" in problem
    with pytest.raises(DataError, match="cat/deep/again: a link to a folder.*not followed"):
        load_task(photos)
