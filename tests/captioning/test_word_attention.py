"""Attention of words at solids: places are where the pixels are, and the contrast finds a word that looks."""

import numpy as np
import pytest
import torch

from peftlab.backbones.load import load_backbone
from peftlab.captioning import Captioner, load_language_model
from peftlab.captioning.word_attention import at_objects, object_places
from peftlab.tasks.captions import load_captions
from peftlab.tasks.synthetic import grammar

SCENES = 3


@pytest.fixture(scope="module")
def places():
    return object_places("test", SCENES, 4)


def test_places_are_where_the_colour_of_each_solid_is(places):
    """The scene drawn anew is the one of the file: the cells of a solid differ from the floor."""
    task = load_captions("scenes")
    assert places.shape == (SCENES, 2, 16)
    torch.testing.assert_close(places.sum(-1), torch.ones(SCENES, 2))
    grey = task.pixels("test", (64, 64), range(SCENES)).float()
    colourful = (grey.amax(-1) - grey.amin(-1)).unflatten(2, (4, 16)).unflatten(1, (4, 16)).mean((2, 4)).flatten(1)
    for scene, (factors, cells) in enumerate(zip(task.factors("test"), places, strict=False)):
        for solid, place in zip(factors, cells, strict=True):
            if solid["colour"] != "gray":
                assert (colourful[scene] * place).sum() > 2 * colourful[scene].median()


@pytest.fixture
def looking(monkeypatch):
    """A captioner whose words attend to the solid that they name, first and last cell of its 2 x 2."""
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    model = Captioner(vit, load_language_model(), grid=2)

    def attention(patches, tokens):
        weights = torch.full((len(tokens), 2, 4 + tokens.shape[1], 4 + tokens.shape[1]), 1e-6)
        weights[..., :10, 1] = 1.0  # up to the first solid's shape, at the first image token
        weights[..., 10:, 4] = 1.0  # behind it, at the last one
        return [weights]

    monkeypatch.setattr(model, "attention", attention)
    return model


def test_words_that_look_at_their_solid_are_found(looking):
    solids = [
        {"size": "small", "colour": "red", "material": "metal", "shape": "cube", "centre": (0, 0)},
        {"size": "large", "colour": "blue", "material": "rubber", "shape": "sphere", "centre": (3, 0)},
    ]
    assert grammar.captions(solids)[0].startswith("a small red")
    places = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 1.0]]])
    patches = torch.zeros(1, 4, looking.connector[2].in_features)
    row = at_objects(looking, patches, [solids], places).iloc[0]
    assert (row["scene"], row["block"]) == (0, 1)
    assert np.allclose([row["own"], row["other"]], [4, 0], atol=1e-3)
    turned = at_objects(looking, patches, [solids], places.flip(1)).iloc[0]
    assert np.allclose([turned["own"], turned["other"]], [0, 4], atol=1e-3)
