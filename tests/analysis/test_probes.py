"""Probes read the frozen features that they name."""

import numpy as np
import torch
from support import random_timm

from peftlab.analysis.probes import cls_and_patches, knn_accuracy, linear_probe_accuracy, patch_tokens
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


def test_probes_know_no_unit():
    """Of a channel for the linear probe, of an image for nearest neighbours, which ask for the angle alone."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 4
    x = np.eye(4)[y] @ rng.standard_normal((4, 8)) + rng.standard_normal((120, 8))
    parts = lambda x: (x[:80], y[:80], x[80:], y[80:])  # noqa: E731
    channels, images = 10.0 ** np.arange(-4, 4), 10.0 ** rng.uniform(-2, 2, (120, 1))
    assert linear_probe_accuracy(*parts((x + 7) * channels)) == linear_probe_accuracy(*parts(x)) > 0.4
    assert knn_accuracy(*parts(x * images)) == knn_accuracy(*parts(x)) > 0.4
