"""A merged model as timm reads it: the same answers in a process without peftlab, or a sentence."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from support import small_vit, tuned

from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import input_size, prepare_for
from peftlab.common.errors import PeftlabError
from peftlab.methods.core.timm_folder import LOADING, export_timm, loaded_alone, loading
from peftlab.tasks.task import read_pixels

CLASSES = ("emu", "cat", "dog")  # in no order but the task's


def embedded(**options):
    return load_backbone(**options)


BACKBONES = {
    "embedded, smaller images": lambda: embedded(img_size=32),
    "registers, layer scale": lambda: embedded(name="peftlab_vit_small", img_size=(28, 42)),
    "timm's own": lambda: embedded(name="vit_tiny_patch16_224", pretrained=False, img_size=32),
    "another shape": lambda: small_vit(init_values=1e-3, mlp_ratio=2.0, reg_tokens=2, no_embed_class=True),
    "DINOv3": lambda: embedded(name="vit_tiny_patch16_dinov3_qkvb", pretrained=False, img_size=32),
    "Swin, smaller images": lambda: embedded(name="swin_tiny_patch4_window7_224", pretrained=False, img_size=64),
    "mean of patches": lambda: small_vit(global_pool="avg", class_token=False),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_timm_computes_the_same(name, tmp_path):
    model = tuned(BACKBONES[name](), "lora")
    folder = export_timm(model.merge(), tmp_path / "model", CLASSES)
    other = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.randn(2, 3, *input_size(model.vit))
    torch.testing.assert_close(other(x), model(x), atol=1e-4, rtol=1e-4)
    assert tuple(other.pretrained_cfg["label_names"]) == CLASSES and other.num_classes == 3
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_three_lines_in_a_new_process_give_our_answer(tmp_path):
    rng, model = np.random.default_rng(0), tuned(embedded(img_size=32), "norm")
    Image.fromarray(rng.integers(0, 256, (50, 80, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    merged = model.merge()
    folder = export_timm(merged, tmp_path / "model", CLASSES)
    ours = merged(prepare_for(merged, read_pixels([tmp_path / "photo.png"], (32, 32))))[0]
    assert loaded_alone(folder, tmp_path / "photo.png") == pytest.approx(ours.tolist(), abs=1e-4)
    assert LOADING.count("\n") == 2


@pytest.mark.parametrize("name", ['a " in it', 'x" if open("PWNED", "w") else "_model', "a \\ and {folder}'s \n é"])
def test_the_name_of_a_folder_is_never_code(name, tmp_path):
    (tmp_path / "photo.png").touch()
    export_timm(tuned(small_vit(), "norm").merge(), tmp_path / name, CLASSES)
    with pytest.raises(PeftlabError, match="UnidentifiedImageError"):  # so that the model was loaded
        loaded_alone(tmp_path / name, tmp_path / "photo.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "photo.png"])


def test_what_a_reader_copies_is_what_was_run():
    assert loading("beetles_model") == LOADING.format(folder="beetles_model")
    assert r'create_model("local-dir:24\" screens_model", pretrained' in loading('24" screens_model')


def test_a_folder_that_timm_cannot_read_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PeftlabError, match="empty: cannot be loaded by timm alone"):
        loaded_alone(tmp_path / "empty", tmp_path / "photo.png")


def test_what_timm_would_compute_otherwise_is_refused_and_not_written(tmp_path):
    vit = tuned(small_vit(), "lora").merge()
    vit.blocks[1].norm1.eps = 0.5
    with pytest.raises(PeftlabError, match="computes otherwise"):
        export_timm(vit, tmp_path / "model", CLASSES)
    unmerged = tuned(small_vit(), "lora").vit
    with pytest.raises(PeftlabError, match="does not take this model's weights"):
        export_timm(unmerged, tmp_path / "model", CLASSES)
    assert not (tmp_path / "model").exists()


def test_the_record_says_how_images_are_read(tmp_path):
    config = json.loads(
        (export_timm(tuned(small_vit(), "norm").merge(), tmp_path / "m", CLASSES) / "config.json").read_text()
    )
    assert config["pretrained_cfg"]["crop_mode"] == "squash" and config["pretrained_cfg"]["mean"] == [0.5] * 3
