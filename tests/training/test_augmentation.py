"""Augmentation: the same for a seed and an epoch, of training images alone, and what its sources say."""

import random

import numpy as np
import pytest
import torch

from peftlab.backbones.load import load_backbone
from peftlab.backbones.protocols import AUGMENTATIONS
from peftlab.methods import attach
from peftlab.training import augmentation as module
from peftlab.training import fit as fitting
from peftlab.training.augmentation import augmented, drawing_from, transform
from peftlab.training.fit import fit

CHANGING = sorted(AUGMENTATIONS.keys() - {"none"})
SMALL = {"epochs": 2, "batch_size": 16, "device": "cpu"}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return load_backbone("test_vit", pretrained=False, img_size=32)


def ramps(images=6, height=32, width=48):
    """Red grows to the right, green downwards; blue is the number of the image."""
    pixels = torch.zeros(images, height, width, 3, dtype=torch.uint8)
    pixels[..., 0] = 5 * torch.arange(width)
    pixels[..., 1] = 7 * torch.arange(height)[:, None]
    pixels[..., 2] = 40 * torch.arange(images)[:, None, None]
    return pixels


@pytest.mark.parametrize("name", CHANGING)
def test_what_becomes_of_an_image_follows_from_seed_epoch_and_number(name):
    pixels, rows = ramps(), torch.tensor([9, 4, 0, 7, 30, 2])
    made = augmented(pixels, rows, name, seed=1, epoch=3)
    assert made.shape == pixels.shape and made.dtype == torch.uint8 and not torch.equal(made, pixels)
    assert torch.equal(made, augmented(pixels, rows, name, seed=1, epoch=3))
    order = torch.tensor([3, 0])
    assert torch.equal(made[order], augmented(pixels[order], rows[order], name, seed=1, epoch=3))  # another batch
    for other in ({"seed": 2, "epoch": 3}, {"seed": 1, "epoch": 4}):
        assert not torch.equal(made, augmented(pixels, rows, name, **other))
    assert not torch.equal(made, augmented(pixels, rows + 1, name, seed=1, epoch=3))


def test_other_random_numbers_are_left_alone():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = [draw() for _ in range(2)]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    found = [draw()]
    with pytest.raises(RuntimeError), drawing_from(1, 2):
        inside = draw()
        raise RuntimeError
    assert [*found, draw()] == expected
    with drawing_from(1, 2):
        assert draw() == inside
    with drawing_from(2, 1):
        assert all(a != b for a, b in zip(draw(), inside, strict=True))


def columns(image):
    """The columns of a ramp that an image begins and ends with, and whether it is flipped."""
    reds = image[..., 0].float().mean(0) / 5
    return min(reds[0], reds[-1]).item(), max(reds[0], reds[-1]).item(), bool(reds[0] > reds[-1])


def test_shift_shows_seven_eighths_and_flips_half():
    found = [columns(image) for image in augmented(ramps(80, 32, 48), torch.arange(80), "shift", 0, 0)]
    for first, last, _ in found:
        assert last - first == pytest.approx(48 * 7 / 8 - 1, abs=1)
    assert min(first for first, _, _ in found) < 1 and max(last for _, last, _ in found) > 46
    assert 0.3 < np.mean([flipped for _, _, flipped in found]) < 0.7


def test_crop_shows_8_to_100_percent():
    made = augmented(ramps(200, 32, 32), torch.arange(200), "crop", 0, 0).float()
    wide = (made[..., 0].mean(1).amax(1) - made[..., 0].mean(1).amin(1)) / 5 / 31
    high = (made[..., 1].mean(2).amax(1) - made[..., 1].mean(2).amin(1)) / 7 / 31
    shares = wide * high
    assert 0.05 < shares.min() < 0.15 and 0.8 < shares.max() <= 1.01


def test_randaugment_is_timms_as_sct_has_it():
    """`vtab.py` of its release: timm's transform, whose first step, the crop, a resize replaces."""
    flip, changes, _ = transform("randaugment", (32, 32)).transforms
    assert type(flip).__name__ == "RandomHorizontalFlip" and flip.p == 0.5
    assert changes.num_layers == 2 and {op.magnitude for op in changes.ops} == {9}
    assert {op.magnitude_std for op in changes.ops} == {0.5}
    assert "PosterizeIncreasing" in {op.name for op in changes.ops}


@pytest.mark.parametrize("options", [{}, {"last_blocks": 1}])
def test_training_images_alone_are_changed_and_nothing_is_computed_once(options, backbone, tiny_task, monkeypatch):
    """A frozen prefix would see the images of the first epoch in all of them."""
    changed, asked, original = [], [], module.augmented

    def count(pixels, rows, *how):
        changed.append(rows)
        asked.append(how)
        return original(pixels, rows, *how)

    monkeypatch.setattr(fitting, "augmented", count)
    monkeypatch.setattr(fitting, "features", lambda *args, **kwargs: pytest.fail("computed once"))
    model = attach(backbone, "norm", 3, **options)
    run = fit(model, tiny_task, augmentation="shift", seed=3, **SMALL)
    assert asked == [("shift", 3, epoch) for epoch in (0, 1) for _ in range(3)]
    assert sorted(torch.cat(changed).tolist()) == sorted(2 * list(range(36)))
    assert run.evaluate("test") == pytest.approx(run.metrics["test_accuracy"]) and len(changed) == 6
    assert run.record["augmentation"] == "shift"


def test_methods_see_the_same_images(backbone, tiny_task, monkeypatch):
    """Also where one of them draws random numbers of its own, as GIST's dropout does."""
    seen = {"lora": [], "gist": []}
    original = module.augmented
    for method, images in seen.items():
        monkeypatch.setattr(fitting, "augmented", lambda *a, to=images: to.append(original(*a)) or to[-1])
        fit(attach(backbone, method, 3), tiny_task, augmentation="crop", **SMALL)
    assert all(torch.equal(a, b) for a, b in zip(*seen.values(), strict=True))
