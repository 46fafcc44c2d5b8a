"""What a process loads is written down as it is loaded, under the names that the ledger has."""

import pytest
import torch

from peftlab.backbones.identity import fingerprint
from peftlab.backbones.load import load_backbone
from peftlab.captioning.load import load_language_model
from peftlab.common.errors import DataError
from peftlab.common.used import VARIABLE, note_use, read_used
from peftlab.tasks.captions import load_captions
from peftlab.tasks.load import load_task


@pytest.fixture
def noted(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "used.jsonl"))
    return tmp_path / "used.jsonl"


def test_a_backbone_is_noted_once_whatever_its_size_and_random_weights_are_others(noted):
    mini = load_backbone()
    load_backbone(img_size=32)
    random = load_backbone(pretrained=False)
    name = "peftlab_vit_mini"
    assert read_used(noted) == [
        ("backbone", name, fingerprint(mini)),
        ("backbone", f"{name} (random weights)", fingerprint(random)),
    ]


def test_an_architecture_without_weights_is_not_noted(noted):
    with torch.device("meta"):
        load_backbone(pretrained=False)
    assert read_used(noted) == []


def test_images_captions_and_words_are_noted(noted, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    for name, grey in (("light", 250), ("dark", 10)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.effect_noise((20, 20), grey / 2 + i).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "captioned").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "captioned" / "a.png")
    (tmp_path / "captioned" / "captions.jsonl").write_text('{"file": "a.png", "captions": ["a"], "split": "test"}\n')
    lm = load_language_model()
    captioned, task = load_captions(tmp_path / "captioned"), load_task(str(tmp_path / "photos"))
    assert read_used(noted) == [
        ("language model", "peftlab_lm_tiny", fingerprint(lm)),
        ("captions", "captioned", captioned.fingerprint),
        ("task", "photos", task.fingerprint),
    ]


def test_what_cannot_be_fingerprinted_is_left_out(noted):
    def missing():
        raise DataError("an image is missing")

    note_use("task", "damaged", missing)
    note_use("task", "dtd", lambda: "1")
    assert read_used(noted) == [("task", "dtd", "1")]


def test_nothing_is_computed_where_nobody_asks(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    note_use("task", "dtd", lambda: pytest.fail("computed"))
    assert read_used(tmp_path / "used.jsonl") == []
