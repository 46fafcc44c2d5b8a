"""Synthetic tasks: same seed same bytes, the VTAB layout, labels that match what is drawn, atomic drawing."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from peftlab.common.errors import DataError
from peftlab.tasks import once
from peftlab.tasks.load import load_task
from peftlab.tasks.synthetic import clevr, drawing, dsprites, smallnorb
from peftlab.tasks.synthetic.drawing import synthetic_task
from peftlab.tasks.synthetic.raycast import Camera, Scene, masks, render
from peftlab.tasks.synthetic.registry import SYNTHETIC, draw
from peftlab.tasks.synthetic.solids import Solid, first_hits


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no bar in the log."""
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path))
    monkeypatch.setenv("PEFTLAB_HEADLESS", "1")
    return tmp_path


@pytest.fixture
def small(cache, monkeypatch):
    """Tasks of 12 images instead of 1,500."""
    monkeypatch.setattr(drawing, "SIZES", {"train800": 6, "val200": 2, "test": 4})
    return cache


# --- what is drawn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYNTHETIC)
def test_an_image_depends_on_its_index_alone(name):
    indices = [0, 7, 1203]
    first = [draw(name, i) for i in indices]
    again = [draw(name, i) for i in reversed(indices)][::-1]
    for (one, label, factors), (two, *rest) in zip(first, again, strict=True):
        assert one.tobytes() == two.tobytes() and [label, factors] == rest
        assert one.dtype == np.uint8 and one.shape[:2] == (64, 64) and one.std() > 1
        assert 0 <= label < len(SYNTHETIC[name].classes)
        json.dumps(factors)
    assert len({image.tobytes() for image, *_ in first}) == len(indices)


@pytest.mark.parametrize("name", sorted(set(SYNTHETIC) - {"dsprites_loc", "dsprites_ori"}))
def test_labels_are_balanced_by_construction(name):
    classes = len(SYNTHETIC[name].classes)
    assert sorted(draw(name, i)[1] for i in range(classes)) == list(range(classes))


def test_dsprites_images_are_all_different_and_roughly_balanced():
    for name in ("dsprites_loc", "dsprites_ori"):
        images, labels, factors = zip(*(draw(name, i) for i in range(1500)), strict=True)
        assert len({image.tobytes() for image in images}) == 1500
        assert len({tuple(f.values()) for f in factors}) == 1500
        assert np.bincount(labels, minlength=16).min() > 50
        assert set(np.unique(images)) == {0, 255}


def test_the_sprite_lies_where_its_label_says():
    for i in range(200):
        image, label, factors = draw("dsprites_loc", i)
        columns = np.nonzero(image)[1]
        if factors["shape"] != 2:  # a heart's centre of mass is not its middle
            assert abs(columns.mean() - (15.5 + 32 * factors["x"] / 31)) < 0.3
            assert label == round((columns.mean() - 15.5) / 32 * 31) // 2
        assert 0 < columns.min() and columns.max() < 63  # nothing is cut off


def test_the_sprite_turns_by_its_orientation():
    for turn in range(0, 20):  # ellipses repeat after half a turn
        rows, columns = np.nonzero(dsprites.sprite("ellipse", 1, dsprites.ANGLES[turn], 0.5, 0.5))
        x, y = columns - columns.mean(), rows - rows.mean()
        long_axis = 0.5 * np.arctan2(2 * (x * y).mean(), (x * x).mean() - (y * y).mean()) + np.pi / 2
        difference = (long_axis - dsprites.ANGLES[turn] + np.pi / 2) % np.pi - np.pi / 2
        assert abs(difference) < np.radians(3)
    labels = {(f["orientation"], label) for _, label, f in (draw("dsprites_ori", i) for i in range(500))}
    assert {(turn, int(turn * 16 / 40)) for turn in range(40)} == labels
    ends = [dsprites.sprite("heart", 1, dsprites.ANGLES[turn], 0.5, 0.5) for turn in (0, 39)]
    assert np.array_equal(*ends)  # first and last angle are the same, as in the published data


def test_the_mask_shows_as_many_objects_as_the_label_says():
    for count in range(3, 11):
        world, camera, factors = clevr.scene(np.random.default_rng(count), count)
        shown = masks(world, camera, 64)
        assert shown.shape == (count, 64, 64) and len(factors) == count
        assert shown.sum((1, 2)).min() >= clevr.SMALLEST / 2 and shown.sum(0).max() == 1
        assert not shown[:, [0, -1]].any() and not shown[..., [0, -1]].any()  # nothing is cut off
        assert render(world, camera, 64).shape == (64, 64, 3)
        image, label, factors = draw("clevr_count", count - 3)
        assert label == count - 3 and len(factors["objects"]) == count


def test_the_nearest_object_lies_in_the_class_of_its_distance():
    for i in range(12):
        _, label, factors = draw("clevr_dist", i)
        assert label == np.digitize(factors["nearest"], clevr.CUTS)
        assert 3 <= len(factors["objects"]) <= 10


def test_toys_and_camera_turn_with_the_label():
    for i in range(18):
        _, label, factors = draw("smallnorb_azi", i)
        assert factors["azimuth"] == 20 * label
        assert draw("smallnorb_ele", i)[2]["elevation"] == 30 + 5 * (i % 9)


@pytest.mark.parametrize("category", smallnorb.TOYS)
def test_toys_stand_on_the_ground_and_inside_the_frame(category):
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    for instance in range(2 * smallnorb.INSTANCES):
        for azimuth, elevation in ((0, 30), (0, 70), (100, 30), (260, 70)):
            toy = smallnorb.toy(category, instance, azimuth, 0.7)
            lowest = min((solid.centre + (solid.half * corners) @ solid.turn.T)[:, 2].min() for solid in toy)
            assert abs(lowest) < 0.03
            camera = smallnorb.camera(category, elevation)
            hit = first_hits(toy, camera.eye, camera.rays(64, 64))[1].reshape(64, 64) >= 0
            assert 200 < hit.sum() < 2500 and not np.concatenate([hit[0], hit[-1], hit[:, 0], hit[:, -1]]).any()


def test_test_images_show_other_toys_than_training_images():
    assert smallnorb.FIRST_TEST == drawing.SIZES["train800"] + drawing.SIZES["val200"]
    instances = [{draw("smallnorb_azi", i)[2]["instance"] for i in (*range(s, s + 10),)} for s in (0, 990, 1000, 1490)]
    assert max(instances[0] | instances[1]) < smallnorb.INSTANCES <= min(instances[2] | instances[3])


def test_render_places_a_solid_and_its_shadow():
    ball = Solid("sphere", np.array([0.0, 0, 1]), np.ones(3), np.array([1.0, 0, 0]), np.eye(3), id=7)
    camera = Camera(np.array([0.0, 0, 20]), np.array([0.0, 1e-6, 0]), np.radians(20))
    scene = Scene((ball,), np.array([-30.0, 0, 30]), np.full(3, 0.5))
    image, (shown,) = render(scene, camera, 40), masks(scene, camera, 40)
    rows, columns = np.nonzero(shown)
    assert abs(rows.mean() - 19.5) < 0.6 and abs(columns.mean() - 19.5) < 0.6
    radius = 20 * (1 / np.sqrt(19**2 - 1)) / np.tan(np.radians(10))  # of the ball's outline, in pixels
    assert abs(len(rows) - np.pi * radius**2) < 12
    shaded, open_floor = image[18:22, 28:32, 1], image[18:22, 8:12, 1]  # the lamp stands on the left
    assert columns.max() < 28 and columns.min() > 11 and shaded.max() < 0.7 * open_floor.min()


@pytest.mark.parametrize("shape", ["sphere", "cube", "cylinder"])
def test_depth_and_size_of_each_shape(shape):
    solid = Solid(shape, np.array([0.0, 0, 1]), np.array([0.5, 0.8, 1.0]), np.ones(3), np.eye(3))
    camera = Camera(np.array([0.0, 0, 1000]), np.array([0.0, 1e-6, 0]), np.radians(0.2))
    (shown,) = masks(Scene((solid,), np.array([0.0, 0, 99]), np.ones(3)), camera, 100)
    area = shown.sum() * (2 * 1000 * np.tan(np.radians(0.1)) / 100) ** 2
    assert area == pytest.approx({"cube": 1.6}.get(shape, np.pi * 0.4), rel=0.04)


# --- the folder ----------------------------------------------------------------------------------------------------


def test_layout_sizes_and_lists(cache):
    task = load_task("dsprites_loc", root="synthetic")
    assert task.synthetic and task.title == "dsprites_loc (synthetic)" and task.num_classes == 16
    assert task.folder == cache / "synthetic" / "dsprites_loc-v1"
    sizes = {split: len(task.labels(split)) for split in ("train800", "val200", "train800val200", "test")}
    assert sizes == {"train800": 800, "val200": 200, "train800val200": 1000, "test": 500}
    train, val, both, test = (task.split(split)[0] for split in sizes)
    assert both == train + val and not set(both) & set(test)
    assert len(list(task.folder.rglob("*.png"))) == 1500
    factors = json.loads((task.folder / "factors.json").read_text())
    assert len(factors) == 1500
    for split in ("train800val200", "test"):
        for path, label in zip(*task.split(split), strict=True):
            assert factors[path.relative_to(task.folder).as_posix()]["x"] // 2 == label
    assert Image.open(train[0]).mode == "L"


@pytest.mark.parametrize("name", SYNTHETIC)
def test_every_task_reads_through_load_task(name, small):
    task, spec = load_task(name, root="synthetic"), SYNTHETIC[name]
    assert (task.name, task.group, task.classes) == (name, spec.group, spec.classes)
    assert tuple((task.folder / "classes.txt").read_text().split("\n")[:-1]) == spec.classes
    assert task.pixels("train800val200", (32, 32)).shape == (8, 32, 32, 3)
    index = drawing.SIZES["train800"] + drawing.SIZES["val200"]  # of the first test image
    image, label, _ = draw(name, index)
    path, labels = task.split("test")
    assert np.array_equal(np.asarray(Image.open(path[0])), image) and labels[0] == label


def test_three_groups_are_there():
    assert {spec.group for spec in SYNTHETIC.values()} == {"natural", "specialized", "structured"}
    assert len(SYNTHETIC) == 8 and all(spec.about for spec in SYNTHETIC.values())


def test_the_second_call_reads(small, monkeypatch):
    first = synthetic_task("textures")
    monkeypatch.setattr(drawing, "_write", lambda *_: pytest.fail("drawn twice"))
    assert synthetic_task("textures") == first


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing_behind(small, monkeypatch, error):
    def broken(name, index):
        if index == 7:
            raise error
        return draw(name, index)

    monkeypatch.setattr(drawing, "draw", broken)
    with pytest.raises(error):
        synthetic_task("digits")
    assert not (small / "synthetic").exists()
    monkeypatch.setattr(drawing, "draw", draw)
    assert len(synthetic_task("digits").labels("test")) == 4
    assert [p.name for p in (small / "synthetic").iterdir()] == ["digits-v1"]


def test_what_a_killed_process_left_is_swept_later(small, monkeypatch):
    left = small / "synthetic" / ".digits-v1.part-dead"
    left.mkdir(parents=True)
    synthetic_task("digits")
    assert left.is_dir()  # may be another process at work
    monkeypatch.setattr(once, "STALE", -1)
    with monkeypatch.context() as patch:
        patch.setitem(SYNTHETIC, "digits", replace(SYNTHETIC["digits"], version=2))
        synthetic_task("digits")
    assert left.is_dir()  # another folder's
    (small / "synthetic" / "digits-v1").rename(small / "elsewhere")
    synthetic_task("digits")
    assert not left.exists()


def test_two_at_once_agree(small, monkeypatch):
    gate, tasks, both = threading.Barrier(2, timeout=20), [], []

    def together(name, index):
        if index == 0:
            gate.wait()  # both have found no folder
            both.append(index)
        return draw(name, index)

    monkeypatch.setattr(drawing, "draw", together)
    threads = [threading.Thread(target=lambda: tasks.append(synthetic_task("digits"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(both) == 2 and len(tasks) == 2 and tasks[0] == tasks[1]
    assert [p.name for p in (small / "synthetic").iterdir()] == ["digits-v1"]


def test_a_cache_that_cannot_be_written_names_the_fix(small):
    (small / "synthetic").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="PEFTLAB_CACHE"):
        synthetic_task("digits")


# --- can it be learned? --------------------------------------------------------------------------------------------


def _gradients(image):
    """Histograms of unsigned gradient directions in 8x8 cells: what a first convolution could see."""
    grey = image.astype(float).mean(-1)
    down, right = np.gradient(grey)
    strength, bins = np.hypot(down, right), (np.arctan2(down, right) % np.pi / np.pi * 8).astype(int) % 8
    cells = [(strength * (bins == k)).reshape(8, 8, 8, 8).sum((1, 3)).ravel() for k in range(8)]
    return np.sqrt(np.concatenate(cells) / (strength.sum() + 1e-9))


def _small_pixels(image):
    return np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)).astype(float).ravel()


@pytest.mark.parametrize(
    "name, features, at_least",
    [("digits", _gradients, 0.5), ("textures", _gradients, 0.4), ("dsprites_loc", _small_pixels, 0.3)],
)
def test_simple_features_beat_chance(name, features, at_least):
    rows = [draw(name, i) for i in (*range(300), *range(1000, 1080))]
    x, y = np.stack([features(image) for image, *_ in rows]), np.array([label for _, label, _ in rows])
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=300)).fit(x[:300], y[:300])
    assert probe.score(x[300:], y[300:]) > at_least
