"""Confidence, mistakes and the patches that matter."""

import copy

import pytest
import torch
from support import random_timm, small_swin, small_vit

from peftlab.analysis.answers import (
    calibration,
    calibration_error,
    confused,
    looked_at,
    mistakes,
    patch_importance,
    verdict,
)
from peftlab.backbones.preprocess import prepare_for
from peftlab.methods import METHODS, attach


def answers(confidence, right):
    """Probabilities of two classes, all labels 0."""
    p = torch.tensor([[c, 1 - c] if r else [1 - c, c] for c, r in zip(confidence, right, strict=True)])
    return p, torch.zeros(len(p), dtype=torch.long)


def test_calibration_of_who_says_what_is_true():
    p, labels = answers([0.75] * 400, [True] * 300 + [False] * 100)
    table = calibration(p, labels)
    assert len(table) == 1 and table["images"].item() == 400
    assert calibration_error(table) == pytest.approx(0, abs=1e-4)
    assert "on average that fits" in verdict(table)


def test_who_is_too_sure_is_told_so():
    table = calibration(*answers([0.95] * 100, [True] * 60 + [False] * 40))
    assert calibration_error(table) == pytest.approx(0.35, abs=1e-4) and verdict(table).endswith("it is too sure.")
    assert verdict(calibration(*answers([0.6] * 50, [True] * 50))).endswith("it is not sure enough.")


def test_few_images_do_not_say_that_it_is_unsure():
    """64 of 64 right at 97 %: two errors were to be expected, none is no wonder; of 2,000 images it would be."""
    few, many = (calibration(*answers([0.97] * n, [True] * n)) for n in (64, 2000))
    assert verdict(few).endswith("right on 100 %: with 64 images such a difference may be chance (up to 4.3 points).")
    assert verdict(many).endswith("it is not sure enough.")


def test_bins_are_of_confidence_and_certainty_has_one():
    table = calibration(*answers([0.55, 0.65, 0.66, 1.0], [True] * 4))
    assert table["images"].tolist() == [1, 2, 1] and table["confidence"].iloc[-1] == 1


def test_the_surest_mistakes_come_first():
    p, labels = answers([0.6, 0.9, 0.8, 0.7], [False, False, True, False])
    table = mistakes(p, labels, 2)
    assert table["image"].tolist() == [1, 3] and (table["said"] == 1).all() and (table["label"] == 0).all()
    text = "3 of 4 answers are wrong; most often cat is taken for dog (3); cat is right least often (25 %; mean over"
    assert confused(p, labels, ("cat", "dog")).startswith(text)
    assert confused(p[2:3], labels[2:3], ("cat", "dog")) == "No answer is wrong."


def test_importance_is_what_shrinking_a_patch_changes():
    """The loss with one patch's token 1 % smaller, patch by patch, against one backward pass."""
    torch.manual_seed(1)
    vit = attach(small_vit(), "linear", 3).vit
    vit.head.weight.data.normal_(0, 1)
    pixels, label = torch.randint(256, (1, 32, 32, 3), dtype=torch.uint8), torch.tensor([1])
    maps = patch_importance(vit, pixels, label, block=1)
    x, vit = prepare_for(vit, pixels).double(), copy.deepcopy(vit).double()
    assert maps.shape == (1, 4, 4) and maps.sum().item() == pytest.approx(1)

    def loss(token):
        def shrink(module, args):
            h = args[0].clone()
            h[:, token] *= 0.999
            return (h,)

        block = vit.blocks[1]
        keep, block.forward = block.forward, lambda x: _block(block, x, shrink)
        with torch.no_grad():
            value = torch.nn.functional.cross_entropy(vit(x), label)
        block.forward = keep
        return value.item()

    def _block(block, x, change):
        x = x + block.ls1(block.attn(block.norm1(x)))
        (x,) = change(block, (x,))  # the residual stream after attention, as its reader and the skip see it
        return x + block.ls2(block.mlp(block.norm2(x)))

    whole = loss(slice(0, 0))
    changes = torch.tensor([abs(loss(1 + patch) - whole) for patch in range(16)])
    assert (changes / changes.sum()).tolist() == pytest.approx(maps.flatten().tolist(), rel=0.02, abs=1e-4)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_importance_is_of_patches_whatever_tokens_a_method_adds(method):
    torch.manual_seed(0)
    vit = attach(small_vit(), method, 3).vit
    vit.head.weight.data.normal_(0, 1)
    pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    maps = patch_importance(vit, pixels, torch.tensor([1, 2]), block=1)
    assert maps.shape == (2, 4, 4) and maps.sum((1, 2)).tolist() == pytest.approx([1, 1])


def test_what_a_backbone_cannot_show_is_left_out():
    """Without a CLS token there is no attention of it; a ViT of windows has no sequence of all patches."""
    pixels, labels = torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.tensor([0, 1])
    backbones = {
        "with CLS": random_timm("test_vit", img_size=64),
        "without": random_timm("vit_wee_patch16_reg1_gap_256", img_size=64),
        "Swin": small_swin(),
    }
    rows = {}
    for name, vit in backbones.items():
        model = attach(vit, "lora", 2)
        rows[name] = list(looked_at(model.backbone, model, pixels, labels, 0))
    assert rows == {
        "with CLS": ["attention, frozen", "attention, lora", "importance"],
        "without": ["importance"],
        "Swin": [],
    }
