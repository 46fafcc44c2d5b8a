"""Where in an image the loss depends on a block, and how far choices of channels agree."""

import torch
from support import tuned

from peftlab.analysis.two_stage import jaccard, spatial_importance
from peftlab.backbones.load import load_backbone


def test_behind_the_last_attention_only_cls_matters():
    model = tuned(load_backbone("test_vit", pretrained=False, img_size=32), "linear")
    pixels = torch.randint(0, 256, (3, 32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    maps = spatial_importance(model.vit, pixels, torch.tensor([0, 1, 2]))
    assert len(maps) == 6 and all(each.shape == (3, 2, 2) for each in maps)
    assert (maps[0] > 0).all() and not maps[-1].any()
    alone = spatial_importance(model.vit, pixels[1:2], torch.tensor([1]))
    torch.testing.assert_close(alone[2], maps[2][1:2])  # of an image's own loss, whatever the batch


def test_jaccard_of_lists_and_tensors():
    table = jaccard({"a": [0, 1, 2], "b": torch.tensor([2, 3]), "c": [7]})
    assert table.loc["a", "b"] == 0.25 and table.loc["a", "c"] == 0 and table.loc["b", "b"] == 1
