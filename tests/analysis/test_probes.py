"""Probes read the frozen features that they name."""

import torch
from support import random_timm

from peftlab.analysis.probes import cls_and_patches, patch_tokens
from peftlab.backbones.identity import as_vit
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.backbones.protocols import get_protocol


@torch.no_grad()
def test_patches_are_the_features_behind_the_prefix(tiny_task):
    vit = load_backbone("test_vit2", pretrained=False, img_size=64)
    tokens = patch_tokens(vit, tiny_task.pixels("test", (64, 64)))
    assert tokens.shape == (16, 4, 4, 64)
    precise = get_protocol("peftlab").with_recipe(precision="fp32")
    found = torch.from_numpy(cls_and_patches(vit, tiny_task, "test", limit=5, protocol=precise))
    assert found.shape == (5, 2 * 64)
    torch.testing.assert_close(found[:, 64:], tokens[:5].mean((1, 2)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_patches_of_a_swin_stand_in_the_grid_of_its_last_stage():
    small = {"img_size": 64, "embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    swin = random_timm("swin_tiny_patch4_window7_224", num_classes=0, **small)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    tokens = patch_tokens(as_vit(swin), pixels)
    assert tokens.shape == (2, 8, 8, 48)
    torch.testing.assert_close(tokens, swin.forward_features(prepare_for(as_vit(swin), pixels)))
