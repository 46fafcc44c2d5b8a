"""A reader's own images as a task: what is read, how it is split, and what a bad folder is told."""

import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support import coarse_picture, folder_of, make_task

from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.audit import audit
from peftlab.tasks.load import load_task
from peftlab.tasks.own.entries import SIDE, near_copies, plain
from peftlab.tasks.own.image_folder import image_folder
from peftlab.tasks.own.split import copies, thumbnail
from peftlab.tasks.vtab1k import SPLITS


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))


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


def test_a_rare_class_does_not_make_the_test_larger(tmp_path):
    task = load_task(folder_of(tmp_path / "a", {"rare": 3, "usual": 50}))
    assert sizes(task) == [33, 9, 42, 11]
    assert [np.bincount(task.labels(split))[0] for split in SPLITS] == [1, 1, 2, 1]


def test_many_copies_of_one_picture_do_not_make_the_test_larger(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 10, "y": 20})
    one = Image.open(root / "x" / "000.png")
    for number in range(20):
        one.resize((40 + number, 30)).save(root / "x" / f"copy{number}.png")
    task = load_task(root)
    assert np.bincount(task.labels("test")).tolist() == [6, 4], "a fifth of 30, none of them the 21 copies"
    root = folder_of(tmp_path / "b", {"x": 3, "y": 20})
    for number in range(20):
        one.resize((40 + number, 30)).save(root / "x" / f"copy{number}.png")
    assert load_task(root).size("train800") > 0, "each part has one of three pictures"


def test_pictures_under_two_labels_count_for_both(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 20})
    shutil.copytree(root / "x", root / "y")
    task = load_task(root)
    assert task.size("test") == 8 and len(contents(task, "test")) == 4


def test_the_first_images_are_of_all_classes(tmp_path):
    task = load_task(str(folder_of(tmp_path / "a", {"x": 30, "y": 30})))
    assert set(task.labels("train800")[:10]) == {0, 1}


def test_a_folder_is_split_alike_each_time_and_anew_where_it_changed(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 20, "y": 20})
    first, again = load_task(str(root)), load_task(str(root))
    assert first.folder == again.folder and first.fingerprint == again.fingerprint
    coarse_picture(99).save(root / "x" / "one_more.png")
    assert load_task(str(root)).fingerprint != first.fingerprint


def test_another_seed_is_another_split(tmp_path):
    """Of the same copies; the lists of the first stay."""
    root = folder_of(tmp_path / "a", {"x": 12, "y": 12})
    first, other, again = (contents(image_folder(root, seed=seed), "test") for seed in (0, 1, 0))
    assert first == again != other


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
    coarse_picture(100, (80, 60)).save(tmp_path / "a" / "train" / "y" / "copy.jpg")
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
    odd = coarse_picture(50, mode="RGBA" if mode == "RGBA" else "RGB").convert(mode)
    odd.save(root / "x" / f"odd{'.tif' if mode == 'CMYK' else '.png'}")
    task = load_task(str(root))
    for split in SPLITS:
        task.pixels(split, (32, 32))
    assert sum(sizes(task)) == 21 + task.size("train800val200")


def test_what_is_transparent_is_white():
    clear = coarse_picture(0, mode="RGBA")
    clear.putalpha(0)
    assert np.asarray(plain(clear, Path("clear.png"))).min() == 255


def test_small_files_are_copied_as_they_are_and_large_ones_made_smaller(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    large = coarse_picture(50, (1200, 900))
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
        patch.setattr("peftlab.tasks.own.entries.copies", lambda thumbnails: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_task(str(root))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert sum(sizes(load_task(str(root)))) == 18


def test_a_huge_image_and_a_truncated_one_are_named(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    data = io.BytesIO()
    coarse_picture(50, (300, 300)).save(data, "JPEG")
    (root / "y" / "cut.jpg").write_bytes(data.getvalue()[:600])
    with pytest.raises(DataError, match=r"cut\.jpg: not a readable image"):
        load_task(str(root))


def test_all_unreadable_images_are_counted(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    for name in ("000.png", "003.png"):
        (root / "x" / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"000\.png: not a readable .*1 more cannot be used; .* data audit .*/a$"):
        load_task(str(root))


def test_what_is_no_image_is_left_alone(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    (root / "x" / "notes.txt").write_text("mine")
    (root / "x" / "._000.png").write_bytes(b"what macOS writes beside 000.png")
    (root / "x" / ".ipynb_checkpoints").mkdir()
    coarse_picture(50).save(root / "x" / ".ipynb_checkpoints" / "000.png")
    assert sum(sizes(load_task(str(root)))) == 10 + load_task(root).size("train800val200")


def test_train_alone_is_split_as_other_folders(tmp_path):
    folder_of(tmp_path / "a" / "train", {"x": 10, "y": 10})
    task = load_task(tmp_path / "a")
    assert task.size("train800val200") + task.size("test") == 20 and task.size("test") >= 4


@pytest.mark.parametrize("budget", [4, 7, 31])
def test_any_budget_keeps_each_class(budget, tmp_path):
    """31 of 32 leave one image over, fewer than there are classes."""
    root = folder_of(tmp_path / "a", {"x": 30, "y": 10})
    task = load_task(root, budget=budget)
    assert task.size("train800val200") == budget
    assert np.bincount(task.labels("train800"), minlength=2).min() >= 1
    with pytest.raises(DataError, match="budget is 3, too few for two images of each class. Raise it to 4 or more"):
        load_task(root, budget=3)
    with pytest.raises(PeftlabError, match="budget is 0, but must be at least 1"):
        load_task(root, budget=0)


def test_a_budget_keeps_the_shares_of_train_and_val(tmp_path):
    for number, (name, n) in enumerate({"train": 15, "val": 5, "test": 3}.items()):
        folder_of(tmp_path / "a" / name, {"x": n, "y": n}, first=100 * number)
    task = load_task(tmp_path / "a", budget=20)
    assert abs(task.size("val200") - 5) <= 1 and sizes(task)[2:] == [20, 6]
    assert contents(task, "val200") <= {path.read_bytes() for path in (tmp_path / "a" / "val").rglob("*.png")}


def test_where_val_is_given_each_class_needs_training_images(tmp_path):
    for number, name in enumerate(("train", "val", "test")):
        folder_of(tmp_path / "a" / name, {"x": 5, "y": 5}, first=100 * number)
    for file in (tmp_path / "a" / "train" / "y").iterdir():
        file.rename(tmp_path / "a" / "val" / "y" / file.name)
    (tmp_path / "a" / "train" / "y").rmdir()
    with pytest.raises(
        DataError, match="class 'y' has no image to train on.* Put some into train, or remove the class"
    ):
        load_task(tmp_path / "a")


def test_a_val_of_nothing_but_copies_of_test_images_is_drawn_anew(tmp_path):
    for number, name in enumerate(("train", "test")):
        folder_of(tmp_path / "a" / name, {"x": 10, "y": 10}, first=100 * number)
    shutil.copytree(tmp_path / "a" / "test", tmp_path / "a" / "val")
    assert sizes(load_task(tmp_path / "a")) == [16, 4, 20, 20]


def test_copies_found_while_reading_are_kept(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 6, "y": 6})
    Image.open(root / "x" / "000.png").resize((60, 45)).save(root / "y" / "copy.png")
    task = load_task(root)
    numbers, names = near_copies(task), sorted((task.folder / "images").iterdir())
    images = np.array([thumbnail(Image.open(name)) for name in names])
    assert numbers.tolist() == copies(images).tolist() and len(set(numbers)) == 12
    assert near_copies(load_task(make_task(tmp_path / "birds"))) is None


@pytest.mark.parametrize(("distance", "one"), [(0.2, True), (0.45, False)])
def test_how_alike_copies_are(distance, one):
    """Two patterns of equal size whose unit vectors lie so far apart."""
    a, b = np.random.default_rng(0).standard_normal((2, 16, 16, 3))
    a, b = (each - each.mean((0, 1)) for each in (a, b))
    b -= (a * b).sum() / (a * a).sum() * a
    a, b = (each / np.linalg.norm(each) for each in (a, b))
    cosine = 1 - distance**2 / 2
    pair = np.stack([a, cosine * a + (1 - cosine**2) ** 0.5 * b])
    pixels = (128 + 25 * pair / pair.std()).round().clip(0, 255).astype(np.uint8)
    assert (len(set(copies(pixels))) == 1) == one


def test_a_folder_in_the_vtab_layout_is_known_by_its_path(tmp_path):
    known, own = make_task(tmp_path / "dtd"), make_task(tmp_path / "birds", seed=1)
    task = load_task(str(known))
    assert (task.name, task.group, task.classes, task.folder) == ("dtd", "natural", ("even", "odd"), known)
    task = load_task(own)
    assert (task.name, task.group, task.classes) == ("birds", "yours", ("even", "odd")) and sizes(task) == [4, 2, 6, 2]
    (own / "classes.txt").unlink()
    assert load_task(own).classes == ("class 0", "class 1")
    with pytest.raises(PeftlabError, match="birds' has its lists already"):
        load_task(own, budget=4)
    with pytest.raises(DataError, match=r"holds tasks with lists of their own, not classes. Name one: .*/birds"):
        load_task(tmp_path)
    (own / "val200.txt").unlink()
    with pytest.raises(DataError, match="val200.txt: this split is missing"):
        load_task(own).split("val200")


def test_a_lone_list_of_another_kind_is_no_layout(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    (root / "test.txt").write_text("x/000.png 0\n")
    assert load_task(root).classes == ("x", "y")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})

    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\). Make it readable for you"):
            load_task(root)
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
            audit(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_class_that_may_not_be_read_is_named(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    (root / "x").chmod(0)
    for read in (load_task, audit):
        with pytest.raises(DataError, match=r"a/x: cannot be read \(Permission denied\). Make it readable for you"):
            read(root)
    (root / "x").chmod(0o700)


def as_parquet(root):
    """Tables in place of the images."""
    for image in sorted(root.rglob("*.png")):
        image.rename(image.with_suffix(".parquet"))


BAD = {
    "absent": (lambda root: root.rename(root.with_name("b")), "no such folder or CSV file"),
    "loose": (lambda root: [p.rename(root / f"{p.parent.name}{p.name}") for p in root.rglob("*.png")], "no images in"),
    "empty class": (lambda root: (root / "z").mkdir(), r"a/z: no images in this class's folder"),
    "a clone of the Hub": (lambda root: as_parquet(root), r"0\.parquet: a Parquet table.*save_to_disk"),
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


@pytest.mark.parametrize(
    ("budget", "message"), [(None, "class 'z' has 2 different images left"), (5, "budget is 5, too few")]
)
def test_what_cannot_be_split_is_named_with_its_folder(budget, message, tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5, "z": 3 if budget else 2})
    with pytest.raises(DataError, match=f"^{root}: {message}"):
        load_task(root, budget=budget)


@pytest.mark.parametrize("name", ["./nosuch", "../nosuch", "nosuch/", "./photos.csv"])
def test_a_path_that_leads_nowhere_is_not_taken_for_the_name_of_a_task(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match="no such folder or CSV file") as caught:
        load_task(name)
    assert "Known:" not in str(caught.value)


@pytest.mark.parametrize("name", [b"c\xe4t", b"c\nt", b"c\x1b[31mt"])
def test_names_are_plain_text_in_utf_8(name, tmp_path):
    """Others no table could print, and a terminal would obey some."""
    root = folder_of(tmp_path / "a", {"x": 1, "y": 1})
    shutil.copytree(root, odd := tmp_path / os.fsdecode(name))
    with pytest.raises(DataError, match="the name of the folder or file is not UTF-8, or has a control character"):
        load_task(odd)
    with pytest.raises(DataError, match="the name of the folder or file is not UTF-8"):
        audit(odd)
    (root / "y").rename(root / os.fsdecode(name))
    with pytest.raises(DataError, match="the class name 'c.*t' is blank, not UTF-8, or has a control character"):
        load_task(root)


def test_one_class_is_none(tmp_path):
    with pytest.raises(DataError, match="1 class, 'x'; two are needed"):
        load_task(str(folder_of(tmp_path / "a", {"x": 5})))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column label and no column path"),
        ("path,class\nx.png,1\n", "no column label"),
        ("path,label\nx.png,\n", "line 2: path or label is empty"),
        ("path,label,split\nx.png,a,dev\n", "line 2: split 'dev' is none of train, val, test"),
        ("path,label,split\na.csv,a,train\na.csv,a,\n", "some lines name a split"),
        ("path,label\na.csv,cat, black\n", r"a\.csv, line 2: more cells than columns \(' black'\)\. Put what holds"),
        ("path,label\na.csv,a\na.csv,b\n", r"line 3: .*a\.csv has the label 'b' here and 'a' in line 2\. Keep one"),
        ("path,label\nx.png,a\ny.png,b\n", "line 2: .*x.png: no such file"),
    ],
)
def test_a_bad_csv_is_told_what_to_do(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_task(str(tmp_path / "a.csv"))


AS_CSV = "save it as CSV UTF-8 with commas"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"path,label\nx.png,{'a' * 200_000}\n".encode(), rf"line 2: .*field limit.*{AS_CSV}"),
        (b'path,label\nx.png,"a\ny.png,b\n', rf"line 3: not a table .*unexpected end of data.*{AS_CSV}"),
        ("path,label\nx.png,Bär\n".encode("latin-1"), rf"a\.csv: not a text file in UTF-8 .*{AS_CSV}$"),
        ("path,label\nx.png,a\n".encode("utf-16"), rf"a\.csv: not a text file in UTF-8 .*{AS_CSV}$"),
        (b"path;label\r\nx.png;a\r\n", rf"no column label and no column path .*'path;label'.*{AS_CSV}$"),
        (b"path,label,label\nx.png,a,b\n", "column label stands there twice"),
    ],
    ids=["a long field", "an open quote", "Latin-1", "UTF-16", "semicolons", "label twice"],
)
def test_a_file_that_is_no_csv_is_told_how_to_save_it(content, message, tmp_path):
    (tmp_path / "x.png").touch()
    (tmp_path / "a.csv").write_bytes(content)
    for read in (load_task, audit):
        with pytest.raises(DataError, match=f"(?i){message}") as caught:
            read(tmp_path / "a.csv")
        assert "Fetch the task" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_csv_keeps_what_stands_in_quotes_and_lines_end_only_where_they_do(tmp_path):
    """A name may hold U+2028, at which Python's splitlines ends a line, and in quotes a line break."""
    folder_of(tmp_path / "images", {"all": 20})
    (tmp_path / "images" / "all" / "000.png").rename(tmp_path / "images" / "all" / "0\n00.png")
    labels = "tall", "wide\u2028low"
    lines = [f"images/all/{i:03d}.png,{labels[i % 2]}\r\n" for i in range(1, 20)]
    file = tmp_path / "mine.csv"
    text = 'path,label\r\n"images/all/0\n00.png",tall\r\n' + "".join(lines)
    file.write_bytes(text.encode())
    task = load_task(file)
    assert task.classes == labels
    assert task.size("train800val200") + task.size("test") == 20


def test_folders_keep_what_follows_a_point_in_their_name(tmp_path):
    """v1.0 and v1.1 as one task v1 would write one report over the other."""
    for name in ("v1.0", "v1.1"):
        folder_of(tmp_path / name, {"x": 5, "y": 5})
        assert load_task(tmp_path / name).name == audit(tmp_path / name).table["task"][0] == name
    rows = "".join(f"v1.0/{p.parent.name}/{p.name},{p.parent.name}\n" for p in (tmp_path / "v1.0").rglob("*.png"))
    (tmp_path / "v1.2.csv").write_text(f"path,label\n{rows}")
    assert load_task(tmp_path / "v1.2.csv").name == audit(tmp_path / "v1.2.csv").table["task"][0] == "v1.2"


def copied(tmp_path):
    return sorted((tmp_path / "cache" / "folders").glob("*/*/images/*"))


def test_images_are_copied_once_whatever_the_budget_and_when_they_are_touched(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 30, "y": 30})
    task = load_task(root)
    few = load_task(root, budget=20)
    for path in root.rglob("*.png"):
        os.utime(path)
    again = load_task(root)
    assert len(copied(tmp_path)) == 60
    assert (few.size("train800val200"), few.size("test")) == (20, 12) and sizes(again) == sizes(task) == [
        38,
        10,
        48,
        12,
    ]
    assert again.fingerprint == task.fingerprint != few.fingerprint
    assert near_copies(few).tolist() == near_copies(task).tolist() and len(near_copies(few)) == 60
    (root / "x" / "000.png").rename(root / "y" / "000.png")
    assert load_task(root).fingerprint != task.fingerprint, "another label is another task"


def test_a_refused_folder_leaves_nothing_in_the_cache(tmp_path):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 2})
    with pytest.raises(DataError, match="class 'y' has 2 different images left"):
        load_task(root)
    (root / "y" / "cut.png").write_bytes(b"")
    with pytest.raises(DataError, match="cut.png: not a readable image"):
        load_task(root)
    assert list((tmp_path / "cache" / "folders").iterdir()) == []


def test_a_disk_too_small_is_said_before_anything_is_copied(tmp_path, monkeypatch):
    root = folder_of(tmp_path / "a", {"x": 5, "y": 5})
    coarse_picture(50, (2400, 1800)).save(root / "x" / "large.bmp")  # 13 MB, of which a small JPEG is kept
    needed = sum(min(path.stat().st_size, 200_000) for path in root.glob("*/*"))
    monkeypatch.setattr("peftlab.tasks.own.entries._copy", None)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(PeftlabError, match=r"kB needed, the disk has .*kB free.*PEFTLAB_CACHE"):
        load_task(root)
    assert list((tmp_path / "cache" / "folders").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=needed))
    assert load_task(root).num_classes == 2
