"""The maps of channels are the residual stream where channels are scored and removed."""

import pandas as pd
import pytest
import torch

from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.backbones.stages import run_stages
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.results.published import read_results
from peftlab.tasks.photographs import photographs
from peftlab.views.inside import DrawnScene, two_stage

IMAGES = [DrawnScene("clevr_count", 0), *photographs("cat")]


def some_table(blocks, channels=(5, 2, 9)):
    rows = [
        {"block": block, "channel": channel, "choice": "top" if rank < 3 else "random", "score": 1 / (block + rank)}
        | {"rank": rank, "whole": 0.6, "at_zero": 0.1 * rank, "at_mean": 0.5, "images": 40}
        for block in range(1, blocks + 1)
        for rank, channel in enumerate(channels, 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def made():
    model = attach(load_backbone("test_vit", pretrained=False, img_size=96), "norm", 3)
    return two_stage(model, some_table(len(model.vit.blocks)), IMAGES), model


def test_maps_are_the_stream_after_attention(made):
    explorer, model = made
    vit, grid = model.vit, model.vit.patch_embed.grid_size
    assert explorer.maps.shape == (2, len(vit.blocks), 3, *grid)
    x = torch.cat([image.pixels((96, 96)) for image in IMAGES])
    with torch.no_grad():
        before = run_stages(vit, prepare_for(vit, x), stop=2)  # what the second block reads
        block = vit.blocks[1]
        after = before + block.ls1(block.attn(block.norm1(before)))
    torch.testing.assert_close(explorer.maps[:, 1, 2], after[:, -grid[0] * grid[1] :, 9].unflatten(1, grid))
    cls = next(fact for fact in explorer.facts if fact.label == "activation of CLS")
    torch.testing.assert_close(cls.values[:, 1, 0], after[:, 0, 5])
    assert len(explorer.html("Says.")) < 1e6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table[table["block"] > 1],
        lambda table: table.drop(0),
        lambda table: table.assign(channel=9999),
        lambda table: table.iloc[:0],
    ],
)
def test_a_table_that_does_not_fit_gets_a_sentence(made, spoil):
    model = made[1]
    with pytest.raises(PeftlabError, match="does not fit a model of .* take the rows of one task"):
        two_stage(model, spoil(some_table(len(model.vit.blocks))), IMAGES)


def test_recorded_rows_are_whole_and_agree_with_the_other_table():
    table = read_results("channels")
    assert table.groupby("block").size().tolist() == [8] * 12
    assert table[["at_zero", "at_mean", "whole"]].stack().between(0, 1).all()
    top = table[table["rank"] == 1].set_index("block")
    removal = read_results("removal").query("task == 'clevr_count' and k == 1").set_index("block")
    for choice, column in {"top": "at_zero", "top, at its mean": "at_mean"}.items():
        other = removal[removal["choice"] == choice]
        assert (top["channel"].astype(str) == other["channels"].astype(str).str.split(".").str[0]).all()
        assert (top[column] - other["accuracy"]).abs().max() < 0.01


def test_a_page_says_the_numbers(made, opened):
    page = opened(made[0])
    page.get_by_text("2", exact=True).first.click()
    page.get_by_text("cat", exact=True).click()
    says = page.locator("dl").inner_text()
    assert "20.0 %" in says and "60.0 %" in says and "by its score" in says
    page.locator(".bars button").nth(2).click()
    assert "at random, as the control" in page.locator("dl").inner_text()
