"""The clusters on a page are those of the analysis; what a source lacks is missing; the best is the best."""

import pytest
import torch

from peftlab.analysis.clusters import cluster_maps, highlight
from peftlab.analysis.segmentation import iou
from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.tasks.photographs import photographs
from peftlab.views.inside import DrawnScene, gift
from peftlab.views.inside.clusters import BEST, NAMES, RANDOM, bright, choose

IMAGES = [*photographs("cat"), DrawnScene("clevr_count", 0)]


def tuned(method, size=96, **options):
    """A model whose generator has moved."""
    model = attach(load_backbone("test_vit", pretrained=False, img_size=size), method, 3, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def made():
    models = {"v1": tuned("gift", clusters=24), "v2": tuned("gift_linear", rank=16)}
    return gift(models, IMAGES), models


def test_sizes_and_labels(made):
    explorer, models = made
    sources = list(explorer.choices[1].values)
    assert sources == [
        "v1 trained",
        "v1 before training",
        "v2 trained",
        "v2 before training",
        "k-means 3",
        "96 random directions",
    ]
    blocks, grid = len(models["v1"].vit.blocks), models["v1"].vit.patch_embed.grid_size
    assert explorer.maps.shape == (len(IMAGES), len(sources), blocks, BEST + RANDOM, *grid)
    missing = explorer.maps.isnan().flatten(-2).all(-1)
    assert missing[:, 4, :, 3:].all() and missing.sum() == missing[:, 4, :, 3:].sum()
    assert len(explorer.html("Says.")) < 1e6


def test_numbers_are_those_of_the_analysis(made):
    explorer, models = made
    ious, whole, numbers = (torch.as_tensor(fact.values) for fact in explorer.facts)
    masks = [image.mask((96, 96)) for image in IMAGES]
    for source, model in ((0, models["v1"]), (2, models["v2"])):
        for i, image in enumerate(IMAGES):
            maps = cluster_maps(model, image.pixels((96, 96)), layer=1)
            every = iou(highlight(maps, (96, 96))[0] > 0, masks[i])[0]
            chosen = numbers[i, source, 1].long() - 1
            assert ious[i, source, 1, 0] == every.max()
            torch.testing.assert_close(ious[i, source, 1], every[chosen])
            torch.testing.assert_close(explorer.maps[i, source, 1], bright(maps[0, chosen]))
    assert whole.tolist() == pytest.approx([mask.float().mean().item() for mask in masks])


def test_the_best_come_first_and_others_are_drawn():
    ious = torch.rand(3, 40)
    for row, chosen in zip(ious, choose(ious), strict=True):
        assert len(set(chosen.tolist())) == len(NAMES)
        assert row[chosen[:BEST]].tolist() == sorted(row.tolist(), reverse=True)[:BEST]
    assert choose(ious[:, :2]).tolist() == ious[:, :2].argsort(1, descending=True).tolist()


def test_models_that_do_not_fit_get_a_sentence():
    with pytest.raises(
        PeftlabError, match=r"b reads images of \(112, 112\) pixels, but the first model of \(96, 96\)"
    ):
        gift({"a": tuned("gift"), "b": tuned("gift", 112)}, IMAGES)
    with pytest.raises(PeftlabError, match="generates no change of attn.proj in block 0"):
        gift({"a": attach(load_backbone("test_vit", pretrained=False, img_size=96), "lora", 3)}, IMAGES)


def test_a_page_says_the_numbers(made, opened):
    page = opened(made[0])
    page.get_by_label("maps of", exact=True).select_option(label="v2 trained")
    page.get_by_text("3rd", exact=True).click()
    page.get_by_text("scene 1", exact=True).click()
    blocks = made[0].maps.shape[2]
    expected = 100 * made[0].facts[0].values[1, 2, blocks - 1, 2].item()
    says = page.locator("dl").inner_text()
    assert f"{expected:.1f} %" in says
    page.get_by_label("maps of", exact=True).select_option(label="k-means 3")
    page.get_by_text("random 1", exact=True).click()
    assert "k-means has three clusters only." in page.locator("dl").inner_text()
