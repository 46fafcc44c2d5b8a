"""A folder's classes, copies and learning curve."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from peftlab.analysis.own_images import balance, class_counts, learning_curve, more_images, near_copies, what_was_found
from peftlab.tasks.load import load_task


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three classes of coarse noise: 20, 10 and 10 images."""
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    root, seed = tmp_path / "photos", 0
    for name, n in (("ant", 10), ("bee", 20), ("cat", 10)):
        (root / name).mkdir(parents=True)
        for _ in range(n):
            grid = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(grid).resize((80, 60), Image.Resampling.BICUBIC).save(root / name / f"{seed:03}.png")
            seed += 1
    return root


def test_classes_are_counted_and_the_largest_is_the_one_to_beat(photos):
    counts = class_counts(load_task(str(photos)))
    assert counts.index.tolist() == ["bee", "ant", "cat"]
    assert counts.to_numpy().sum() == 40 and counts["test"].sum() == 8 and counts.loc["bee"].sum() == 20
    assert balance(counts).startswith("The largest class (bee) has 2.0 times the images of the smallest (cat).")
    assert "right on 50 % of the test images" in balance(counts)
    assert balance(counts.assign(train=1, choose=1, test=1)).startswith("All classes have about equally many images.")


def test_copies_are_found_also_under_another_label(photos):
    for old, new in (("ant/000.png", "ant/copy.png"), ("bee/012.png", "cat/copy.png")):
        Image.open(photos / old).resize((60, 45)).save(photos / new)
    task = load_task(str(photos))
    groups = near_copies(task)
    assert [len(group) for group in groups] == [2, 2]
    found = what_was_found(task, groups)
    assert found.tolist() == [42, 2, 1, 42, 0]


def test_what_a_budget_leaves_out_is_said(photos):
    task = load_task(str(photos), budget=20)
    found = what_was_found(task, near_copies(task))
    assert found.iloc[0] == 40 and found.iloc[-2:].tolist() == [28, 12]


def test_a_learning_curve_rises_and_its_parts_are_drawn_anew():
    rng = np.random.default_rng(0)
    y = np.arange(160) % 4
    x = np.eye(4)[y] @ rng.standard_normal((4, 20)) + 1.2 * rng.standard_normal((160, 20))
    curve = learning_curve(x[:80], y[:80], x[80:], y[80:])
    assert curve["images"].tolist() == [10] * 3 + [20] * 3 + [40] * 3 + [80]
    means = curve.groupby("images")["linear probe"].mean()
    assert means.iloc[-1] > means.iloc[0] + 0.1 > 0.4
    assert curve[curve["images"] == 10]["linear probe"].nunique() > 1
    pd.testing.assert_frame_equal(curve, learning_curve(x[:80], y[:80], x[80:], y[80:]))


def test_parts_with_an_image_or_two_of_each_class_warn_of_nothing(recwarn):
    """scikit-learn takes so many classes for a regression, and says so in every report on few images."""
    x, y = np.eye(80), np.arange(80) % 60
    learning_curve(x, y, x, y)
    assert [str(w.message) for w in recwarn] == []


def test_parts_of_one_class_have_no_row():
    x, y = np.eye(4), np.array([0, 0, 0, 1])
    curve = learning_curve(x, y, x, y)
    assert curve["images"].iloc[-1] == 4 and (curve.dropna().shape == curve.shape)


def test_what_the_curve_says():
    flat = pd.DataFrame({"images": [50, 100], "linear probe": [0.7, 0.705]})
    assert more_images(flat, 2000).endswith("more images of the same kind would add little.")
    assert "50 test images cannot show whether more would help (standard error 6.4 points)" in more_images(flat, 50)
    assert "too few" in more_images(flat.tail(1), 50)


def test_where_all_is_right_more_images_cannot_be_seen_to_help():
    curve = pd.DataFrame({"images": [130, 259], "draw": 0, "linear probe": [0.979, 1.0]})
    assert more_images(curve, 64).endswith(
        "it is right on all 64 test images, and no more than that can be seen here."
    )


def test_copies_of_test_images_are_left_out_and_counted(photos):
    given = photos.parent / "given"
    for split in ("train", "test"):
        shutil.copytree(photos, given / split)
    for path in sorted((given / "test").rglob("*.png"))[::2]:
        path.unlink()  # so that half of the training images have no copy in the test
    task = load_task(str(given))
    found = what_was_found(task, near_copies(task))
    assert found.tolist() == [60, 20, 0, 40, 20]
