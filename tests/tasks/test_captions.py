"""Images with captions: the readers, the synthetic scenes and what their captions may say."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import peftlab.tasks.captions as captions
from peftlab.captioning.metrics import attribute_accuracy, caption_scores
from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.captions import load_captions
from peftlab.tasks.synthetic import grammar, scenes
from peftlab.tasks.synthetic.clevr import COLOURS, RADII, SHAPES
from peftlab.tasks.synthetic.registry import draw, image_rng

PLACES = st.tuples(*[st.floats(-4, 4, allow_nan=False)] * 2)
SOLIDS = st.builds(
    lambda size, colour, material, shape, centre: {
        "size": size,
        "colour": colour,
        "material": material,
        "shape": shape,
        "centre": [*centre, 0.5],
    },
    st.sampled_from(list(RADII)),
    st.sampled_from(list(COLOURS)),
    st.sampled_from(grammar.MATERIALS),
    st.sampled_from(SHAPES),
    PLACES,
)


# Grammar


@given(SOLIDS, SOLIDS)
def test_every_caption_of_a_scene_is_true(one, other):
    said = grammar.captions([one, other])
    if one["centre"][:2] != other["centre"][:2]:
        for caption in said:
            assert set(grammar.score(caption, [one, other]).values()) == {1.0}, caption
    assert len(said) == 8


@given(SOLIDS, SOLIDS, st.sampled_from(list(grammar.ATTRIBUTES)))
def test_one_wrong_word_is_found(one, other, name):
    """A word that fits neither solid: half of that attribute's statements are wrong, and so the whole."""
    wrong = next(w for w in (*grammar.ATTRIBUTES[name], "none") if w not in (one[name], other[name]))
    if wrong == "none":
        return  # both words of this attribute are in the scene
    score = grammar.score(grammar.captions([one | {name: wrong}, other])[0], [one, other])
    assert score[name] <= 0.5 and not score["everything"]


def test_relations_as_the_camera_sees_them():
    """World x runs to the right, y away from the camera; the axis with the larger distance is named."""
    at = lambda x, y: {"centre": [x, y, 0]}  # noqa: E731
    assert grammar.relation(at(0, 0), at(2, 1)) == "left of"
    assert grammar.relation(at(2, 1), at(0, 0)) == "right of"
    assert grammar.relation(at(0, 0), at(1, 2)) == "in front of"
    assert grammar.relation(at(1, 2), at(0, 0)) == "behind"


@pytest.mark.parametrize("text", ["", "a cube", "a small red metal cube", "a small red metal cube on a red cube"])
def test_texts_outside_the_grammar_are_wrong(text):
    objects = [
        {"size": "small", "colour": "red", "material": "metal", "shape": "cube", "centre": [i, 0, 0]} for i in (0, 1)
    ]
    assert grammar.read(text) is None and set(grammar.score(text, objects).values()) == {0.0}


def test_scenes_show_what_their_captions_say():
    """The named colour is where the solid stands, by the ray caster's own projection."""
    for index in range(6):
        image, said, factors = scenes.draw(image_rng("scenes", index))
        assert image.shape == (64, 64, 3) and len(said) == len(set(said)) == 5
        assert all(grammar.score(caption, factors["objects"])["everything"] for caption in said)


def test_scenes_do_not_depend_on_their_neighbours():
    one, other = (scenes.draw(image_rng("scenes", 3)) for _ in range(2))
    assert (one[0] == other[0]).all() and one[1:] == other[1:]
    assert not np.array_equal(one[0], scenes.draw(image_rng("scenes", 4))[0])
    assert not np.array_equal(one[0], draw("clevr_count", 3)[0])


def test_synthetic_scenes_are_coco(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(captions, "SCENES", {"train": 4, "val": 2, "test": 3})
    task = load_captions()
    assert task.synthetic and task.title == "scenes (synthetic)"
    assert [task.size(split) for split in captions.SPLITS] == [4, 2, 3]
    assert task.pixels("test", (64, 64)).shape == (3, 64, 64, 3)
    for split in captions.SPLITS:
        for said, objects in zip(task.captions(split), task.factors(split), strict=True):
            assert attribute_accuracy(said, [objects] * 5)["everything"] == 1
    image, said, _ = scenes.draw(image_rng("scenes", 4))
    assert task.captions("val")[0] == said and (task.pixels("val", (64, 64), [0])[0].numpy() == image).all()
    pycocotools = pytest.importorskip("pycocotools.coco")
    coco = pycocotools.COCO(tmp_path / "synthetic" / "scenes-v1" / "annotations" / "captions_train.json")
    assert [a["caption"] for a in coco.loadAnns(coco.getAnnIds(imgIds=[2]))] == task.captions("train")[2]


# Readers


@pytest.fixture
def coco(tmp_path):
    """Two images with captions as COCO 2017 has them; change `content` and call `write`."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val2017" / "7.jpg")

    class Coco:
        folder, file = tmp_path, tmp_path / "annotations" / "captions_val2017.json"
        content = {
            "images": [{"id": 7, "file_name": "7.jpg", "height": 8}, {"id": 3, "file_name": "3.jpg"}],
            "annotations": [
                {"image_id": 3, "id": 1, "caption": "a dog"},
                {"image_id": 7, "id": 2, "caption": " a cat\n"},
                {"image_id": 3, "id": 3, "caption": "two dogs"},
            ],
        }

        def write(self):
            self.file.write_text(json.dumps(self.content))
            return load_captions(self.folder)

    return Coco()


def test_coco_is_read(coco):
    task = coco.write()
    assert not task.synthetic and task.captions("val") == [["a cat"], ["a dog", "two dogs"]]
    assert task.split("val")[0][0] == coco.folder / "val2017" / "7.jpg"
    assert task.pixels("val", (4, 4), [0]).shape == (1, 4, 4, 3)
    with pytest.raises(PeftlabError, match="unknown split 'train'. Known: val"):
        task.captions("train")
    with pytest.raises(DataError, match="3.jpg: a list names this file, but there is no such file"):
        task.pixels("val", (4, 4))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["annotations"].append({"image_id": 99, "caption": "x"}),
            r"image ids that it does not list: \[99\]",
        ),
        (lambda c: c["annotations"].append({"image_id": 3, "caption": "  "}), "3.jpg has no caption, or an empty one"),
        (lambda c: c["images"].append({"id": 5, "file_name": "5.jpg"}), "5.jpg has no caption"),
        (lambda c: c["images"].append({"id": 5}), "not COCO captions .KeyError"),
        (lambda c: c.pop("annotations"), "not COCO captions .KeyError: 'annotations'"),
        (lambda c: c["images"][0].update(file_name="../7.jpg"), "'../7.jpg' leads out of"),
        (lambda c: c["images"][0].update(file_name="/etc/passwd"), "'/etc/passwd' leads out of"),
    ],
)
def test_damaged_coco(change, words, coco):
    change(coco.content)
    with pytest.raises(DataError, match=words):
        coco.write().captions("val")


def test_truncated_and_ambiguous_coco(coco):
    coco.file.write_text(json.dumps(coco.content)[:-20])
    with pytest.raises(DataError, match="captions_val2017.json: not COCO captions"):
        load_captions(coco.folder).captions("val")
    (coco.folder / "annotations" / "captions_val2014.json").write_text("{}")
    with pytest.raises(DataError, match="captions_val2014.json, captions_val2017.json could all be 'val'"):
        load_captions(coco.folder)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not an image with captions"),
        ('{"file": "a.jpg", "split": "test"}', "line 2: not an image with captions.*captions"),
        ('{"file": "a.jpg", "captions": [], "split": "test"}', "a.jpg has no caption"),
        ('{"file": "a.jpg", "captions": "a dog", "split": "test"}', "a.jpg has no caption"),
        ('{"file": "a.jpg", "captions": ["x"], "split": "tset"}', "line 2: 'tset'; did you mean 'test'"),
        ('{"file": "../a.jpg", "captions": ["x"], "split": "test"}', "leads out of"),
    ],
)
def test_damaged_jsonl(line, words, tmp_path):
    good = '{"file": "b.jpg", "captions": ["a cat "], "split": "test"}'
    (tmp_path / "captions.jsonl").write_text(good + "\n")
    assert load_captions(tmp_path).captions("test") == [["a cat"]]
    (tmp_path / "captions.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(PeftlabError, match=words):
        load_captions(tmp_path).captions("test")


def test_folder_without_captions(tmp_path):
    with pytest.raises(DataError, match="neither captions.jsonl nor annotations/captions_<split>.json is there"):
        load_captions(tmp_path / "nowhere")
    (tmp_path / "captions.jsonl").touch()
    with pytest.raises(DataError, match="no captions in it"):
        load_captions(tmp_path).captions("test")


def test_fingerprint_follows_captions_and_images(coco, tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="3.jpg: a list names this file, but there is no such file"):
        _ = coco.write().fingerprint
    images = tmp_path / "val2017"
    Image.new("RGB", (8, 8), "red").save(images / "3.jpg")
    before = coco.write().fingerprint
    assert coco.write().fingerprint == before and len(before) == 12
    coco.content["annotations"][0]["caption"] = "a wolf"
    wolf = coco.write().fingerprint
    Image.new("RGB", (8, 8), "blue").save(images / "3.jpg")
    assert len({before, wolf, coco.write().fingerprint}) == 3


def test_real_captions(real_root):
    """Flickr8k's subset, where it lies next to the real tasks."""
    folder = real_root.parent / "captions"
    if not folder.is_dir():
        pytest.skip(f"no real captions at {folder}")
    task = load_captions(folder)
    assert {split: task.size(split) for split in captions.SPLITS} == {"train": 800, "val": 100, "test": 100}
    assert all(len(each) == 5 for split in captions.SPLITS for each in task.captions(split))
    assert task.pixels("test", (56, 56), [0, 99]).shape == (2, 56, 56, 3)


# Metrics


def test_attribute_accuracy_is_a_mean_over_scenes():
    scene = [
        {"size": "small", "colour": "red", "material": "metal", "shape": "cube", "centre": [0, 0, 0]},
        {"size": "large", "colour": "blue", "material": "rubber", "shape": "sphere", "centre": [2, 0, 0]},
    ]
    right = "there is a large blue rubber sphere right of a small red metal cube"
    half = "a small red metal cube left of a large red rubber cylinder"
    found = attribute_accuracy([right, half, "nothing"], [scene] * 3)
    expected = {"size": 2 / 3, "colour": 0.5, "material": 2 / 3, "shape": 0.5, "relation": 2 / 3, "everything": 1 / 3}
    assert found == pytest.approx(expected)


def test_bleu_and_cider():
    """A perfect caption has BLEU 1; CIDEr of copies is 10 times the share of n-gram lengths that exist."""
    pytest.importorskip("pycocoevalcap")
    references = [["A brown dog runs on the grass .", "a dog runs"], ["two children play in the snow", "kids in snow"]]
    perfect = caption_scores(["a brown dog runs on the grass", "Two children play in the snow."], references)
    assert perfect["BLEU-4"] == pytest.approx(1, abs=1e-6) and perfect["CIDEr"] > 3
    wrong = caption_scores(["a red car", "nothing at all to see"], references)
    assert wrong["BLEU-4"] < 1e-3 and wrong["CIDEr"] < perfect["CIDEr"] / 10


def test_bleu_without_its_library(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    with pytest.raises(PeftlabError, match=r"pip install 'peftlab\[multimodal\]'"):
        caption_scores(["a"], [["a"]])
