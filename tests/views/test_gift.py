"""Pictures of GIFT: what the generator computes, outlines over images, how well maps fit objects."""

import numpy as np
import pandas as pd
import pytest
import torch

from peftlab import views
from peftlab.analysis.segmentation import training_effect
from peftlab.backbones.load import load_backbone
from peftlab.methods import attach


def segmentation():
    """A table as results/segmentation.csv, of two blocks: trained models are above the untrained ones."""
    rows = []
    for method, maps in (("gift", 96), ("gift_linear", 16)):
        for block in (4, 8):
            row = {"recipe": "centred", "block": block, "seed": 0, "maps": maps, "limit": 0.9}
            for seed in range(3):
                own = row | {"source": method, "seed": seed}
                rows.append(own | {"state": "untrained", "best": 0.5 + 0.01 * seed})
                rows.append(own | {"state": "trained", "best": 0.6 + 0.02 * seed})
            for control in (f"PCA, {maps} maps", f"random directions, {maps} maps", "k-means 3"):
                rows.append(row | {"source": control, "state": "untrained", "best": 0.4})
    return pd.DataFrame([*rows, rows[1] | {"recipe": "published", "best": 0.0}])


def test_anatomy_has_a_panel_for_each_step():
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "gift", 3)
    titles = [ax.get_title().split("\n") for ax in views.gift.anatomy(model).axes[:5]]
    shapes = {"W": "64 x 64", "tokens U": "64 x 16", "clusters C": "64 x 96", "attention A": "64 x 96"}
    assert {title[0]: title[-1] for title in titles} == shapes | {"change": "64 x 64"}
    assert not model.vit.blocks[0].shared["generator_o"].blocks[0].attn._forward_hooks


def test_a_change_is_one_row_and_the_rest():
    change = torch.tensor([[3.0, 5.0], [5.0, 3.0]])  # the row 4, 4 twice, the rest 1 or -1: 64 and 4 of 68
    figure = views.gift.change_parts(change)
    whole, row, rest = [ax.images[0].get_array() for ax in figure.axes[:3]]
    assert row.tolist() == [[4, 4], [4, 4]] and whole.tolist() == (row + rest).tolist()
    assert [ax.get_title() for ax in figure.axes[1:3]] == ["= one row, repeated: 94%", "+ the rest: 6%"]
    assert len({ax.images[0].get_clim() for ax in figure.axes[:3]}) == 1  # one scale


def test_answers_kept_carry_their_number_and_interval():
    figure = views.gift.answers({"one": {"row": 0.5, "none": 0.25}, "other": {"row": 1.0, "none": 0.0}}, images=64)
    for ax, widths in zip(figure.axes, ([50, 25], [100, 0]), strict=True):
        assert [bar.get_width() for bar in ax.patches] == widths
        for line, width in zip(ax.lines, widths, strict=True):
            low, high = line.get_xdata()
            assert low - 1e-9 <= width <= high + 1e-9 and high > low
    assert [text.get_text() for text in figure.axes[0].texts] == ["50%", "25%"]


def test_outlines_enclose_what_exceeds_one_half():
    maps = torch.zeros(2, 4, 4)
    maps[0, :2, :2] = maps[1, 2:, 2:] = 1
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    figure = views.gift.outlined({"a": maps, "b": 3 * maps + 1}, pixels)  # stretched: scale and offset do not matter
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "", ""]
    for ax, corner in zip(figure.axes, (0, 0, 16, 16), strict=True):
        (path,) = ax.collections[-1].get_paths()
        assert path.vertices.min() == pytest.approx(max(corner - 0.5, 0), abs=1)
        assert path.vertices.max() == pytest.approx(min(corner + 15.5, 31), abs=1)
        assert np.asarray(ax.images[0].get_array()).shape == (32, 32)  # grey


def test_iou_by_block_shows_every_seed_and_the_means():
    figure = views.gift.overlap(segmentation())
    for ax, form in zip(figure.axes, ("v1: GIFT, 96 maps", "v2: GIFT (linear), 16 maps"), strict=True):
        assert ax.get_title() == form
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels[:3] == ["trained, mean 0.62", "untrained, mean 0.51", "k-means 3, mean 0.40"]
        assert sorted(len(line.get_xdata()) for line in ax.lines) == [2] * 6 + [6, 6]  # means and the limit; seeds
        named = [line for line in ax.lines if "mean" in str(line.get_label())]
        assert len({line.get_color() for line in named}) == 5


def test_the_effect_of_training_has_its_interval():
    ax = views.gift.training_effect(training_effect(segmentation()))
    markers = [line for line in ax.lines if line.get_marker() != "None"]
    assert [line.get_ydata().tolist() for line in markers] == [pytest.approx([0.11, 0.11])] * 2
    assert len({(line.get_color(), line.get_marker()) for line in markers}) == 2
    for low, high in (segment[:, 1] for bars in ax.collections for segment in bars.get_segments()):
        assert low < 0.11 < high
