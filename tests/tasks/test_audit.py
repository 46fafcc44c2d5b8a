"""The audit finds each defect, goes on after it, and says where it is."""

import shutil

import numpy as np
import pytest
from PIL import Image
from support import make_task

from peftlab.common.errors import DataError
from peftlab.tasks.audit import audit, find_tasks


@pytest.fixture
def folder(tmp_path):
    return make_task(tmp_path / "dtd")


def row(report, split):
    rows = report.table[report.table["split"] == split]
    assert len(rows) == 1
    return rows.iloc[0]


def test_clean_task(folder):
    report = audit(folder)
    assert report.problems == []
    assert report.table["split"].tolist() == ["train800", "val200", "train800val200", "test"]
    assert report.table["images"].tolist() == [4, 2, 6, 2] and report.table["expected"].tolist() == [
        800,
        200,
        1000,
        1880,
    ]
    assert (report.table[["duplicates", "shared", "unreadable", "wrong_mode"]] == 0).all(axis=None)
    assert (report.table[["classes", "declared"]] == 2).all(axis=None)
    assert (report.table[["smallest", "largest"]] == 0.5).all(axis=None)
    assert len(report.differing) == 4 and "not VTAB-1k results" in str(report)


def test_class_shares(folder):
    (folder / "test.txt").write_text("images/test/000000.png 1\n" * 3 + "images/test/000001.png 0\n")
    test = row(audit(folder), "test")
    assert test["smallest"] == 0.25 and test["largest"] == 0.75


def test_root_with_several_tasks_and_other_folders(tmp_path):
    make_task(tmp_path / "dtd")
    make_task(tmp_path / "birds", seed=1)
    (tmp_path / "svhn").mkdir()
    (tmp_path / "notes").mkdir()
    assert [p.name for p in find_tasks(tmp_path)] == ["birds", "dtd", "svhn"]
    report = audit(tmp_path)
    assert report.table["task"].unique().tolist() == ["birds", "dtd", "svhn"]
    assert report.table["expected"].isna().tolist() == [True] * 4 + [False] * 8
    assert len(report.problems) == 4 and all("svhn" in p and "this split is missing" in p for p in report.problems)


def test_nothing_to_audit(tmp_path):
    for folder, words in {tmp_path: "no task in the VTAB-1k layout", tmp_path / "nowhere": "no such folder"}.items():
        with pytest.raises(DataError, match=words):
            audit(folder)


def test_duplicates_within_a_list(folder):
    shutil.copy(folder / "images/test/000000.png", folder / "images/test/000001.png")
    report = audit(folder)
    assert row(report, "test")["duplicates"] == 1 and row(report, "test")["shared"] == 0
    assert len(report.problems) == 1
    assert (
        "test.txt: 1 of 2 images have the very pixels of another in the same list, 1 of them with another label"
        in (report.problems[0])
    )


@pytest.mark.parametrize("image", ["train800/000003.png", "val200/000001.png"])
def test_duplicates_across_splits_are_found_by_pixels_not_by_bytes(image, folder):
    Image.open(folder / "images" / image).save(folder / "images/test/000001.png", compress_level=0)
    report = audit(folder)
    assert row(report, "test")["shared"] == 1 and row(report, "test")["duplicates"] == 0
    assert row(report, "train800val200")["shared"] == 1 and row(report, "train800")["shared"] == 0
    assert any(f"images/test/000001.png and images/{image}" in p for p in report.problems)


def test_unreadable_images_are_all_named(folder):
    (folder / "images/test/000000.png").write_bytes(b"no image")
    (folder / "images/test/000001.png").unlink()
    report = audit(folder)
    assert row(report, "test")["unreadable"] == 2 and row(report, "test")["wrong_mode"] == 0
    assert [("000000.png: not a readable" in p, "000001.png: a list names" in p) for p in report.problems] == [
        (True, False),
        (False, True),
    ]


def test_wrong_modes(folder):
    Image.new("RGBA", (8, 8)).save(folder / "images/test/000000.png")
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(folder / "images/test/000001.png")
    report = audit(folder)
    assert row(report, "test")["wrong_mode"] == 2 and row(report, "test")["unreadable"] == 0
    assert "image mode RGBA" in report.problems[0] and "image mode I;16" in report.problems[1]


def test_bad_lines_are_all_named_and_the_good_ones_kept(folder):
    lines = "images/test/000000.png 0\nnonsense\nx.png --1\nimages/test/000001.png 2\n../../secret.png 1\n"
    (folder / "test.txt").write_text(lines)
    report = audit(folder)
    assert row(report, "test")["images"] == 1
    wanted = [
        "line 2: 'nonsense'",
        "line 3: 'x.png --1'",
        "line 4: label 2 is out of",
        "line 5: '../../secret.png' leaves",
    ]
    assert len(report.problems) == 4
    assert all(part in problem for part, problem in zip(wanted, report.problems, strict=True))


def test_missing_and_empty_lists(folder):
    (folder / "val200.txt").unlink()
    (folder / "test.txt").write_text("\n")
    report = audit(folder)
    assert row(report, "val200")["images"] == row(report, "test")["images"] == 0
    assert "val200.txt: this split is missing" in report.problems[0]
    assert "test.txt: the list is empty" in report.problems[1]
    assert "train800val200.txt: not train800 and val200 together: 0 of" in report.problems[2]


@pytest.mark.parametrize("decode", [True, False])
def test_union_with_another_label(folder, decode):
    text = (folder / "train800val200.txt").read_text()
    (folder / "train800val200.txt").write_text(text.replace("000005.png 1", "000005.png 0"))
    problems = audit(folder, decode=decode).problems
    assert len(problems) == 1 and "1 of their" in problems[0] and "1 are in neither" in problems[0]


def test_union_with_another_image(folder):
    Image.new("RGB", (16, 16)).save(folder / "images/train800val200/000005.png")
    assert len(audit(folder).problems) == 1
    assert audit(folder, decode=False).problems == []


def test_too_many_class_names(folder):
    (folder / "classes.txt").write_text("".join(f"c{i}\n" for i in range(48)))
    report = audit(folder)
    assert "48 class names" in report.problems[0] and row(report, "test")["declared"] == 47


def test_without_decoding_only_missing_files_are_found(folder):
    (folder / "images/test/000000.png").write_bytes(b"no image")
    (folder / "images/test/000001.png").unlink()
    report = audit(folder, decode=False)
    assert row(report, "test")["unreadable"] == 1
    assert len(report.problems) == 1 and "000001.png: in a list, but no such file" in report.problems[0]
    assert report.table[["duplicates", "shared", "wrong_mode"]].isna().all(axis=None)


def test_text_is_readable_and_long_lists_are_cut(folder):
    shutil.rmtree(folder / "images")
    (folder / "test.txt").write_text("".join(f"images/test/{i}.png 0\n" for i in range(30)))
    text = str(audit(folder))
    assert "duplicates" in text and "train800val200" in text and "1 task, 42 problems." in text
    assert text.endswith("... and 22 more, see Audit.problems")
