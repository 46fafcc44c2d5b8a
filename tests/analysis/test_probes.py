"""Probes read the frozen features that they name."""

import torch

from peftlab.analysis.probes import cls_and_patches, patch_tokens
from peftlab.backbones.load import load_backbone
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
