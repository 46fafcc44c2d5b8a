"""Words on a page attend as the captioner says, and go through the adapters it gives them."""

import dataclasses

import numpy as np
import pytest
import torch

from peftlab.backbones.load import load_backbone
from peftlab.captioning import Captioner, load_captions, load_language_model, load_scenes_captioner
from peftlab.captioning.word_attention import at_objects, object_places
from peftlab.common.errors import PeftlabError
from peftlab.tasks.synthetic import grammar
from peftlab.views.inside import captioning

ROWS = (4, 9, 10)


@pytest.fixture(scope="module")
def made():
    vit, lm = load_backbone("peftlab_vit_mini"), load_language_model()
    models = {"off": Captioner(vit, lm, grid=4, standardise=True), "on": load_scenes_captioner(vit, lm)}
    scenes = load_captions()
    return captioning(models, scenes, ROWS), models, scenes


def test_maps_are_the_captioners_attention(made):
    explorer, models, scenes = made
    words = grammar.captions(scenes.factors("test")[4])[0].split()
    assert explorer.choices[1].values[0][: len(words)] == words
    tokens, _ = models["on"].encode([" ".join(words)])
    patches = models["on"].encode_images(scenes, "test", 5)[4:]
    with torch.no_grad():
        weights = models["on"].attention(patches, tokens)[2][0]  # block 3: heads, positions, positions
    assert explorer.maps.shape == (3, 2, 4, weights.shape[0], len(words) + 16, 4, 4)
    torch.testing.assert_close(
        explorer.maps[0, 1, 2, :, 5].flatten(-2), weights[:, 17 + 5, 1:17], atol=1e-4, rtol=1e-3
    )
    own_cell = explorer.maps[0, 1, 2, :, len(words) + 3].flatten(-2)  # the fourth image token sees four
    assert (own_cell[:, 4:] == 0).all() and (own_cell[:, :4] > 0).all()
    assert len(explorer.html("Says.")) < 1e6


def test_looks_are_those_of_the_analysis(made):
    explorer, models, scenes = made
    patches, facts = models["on"].encode_images(scenes, "test", 11), scenes.factors("test")[:11]
    table = at_objects(models["on"], patches, facts, object_places("test", 11, 4))
    own, other = (np.nanmean(explorer.facts[i].values[:, 1], axis=-1) for i in (1, 2))
    for i, row in enumerate(ROWS):
        expected = table[table["scene"] == row]
        assert own[i] == pytest.approx(expected["own"].to_numpy(), abs=1e-3)
        assert other[i] == pytest.approx(expected["other"].to_numpy(), abs=1e-3)


def test_tokens_go_through_the_adapter_of_their_domain(made):
    off, on = made[0].facts[0].values
    assert set(off) == {"no adapter"}
    assert on == ["the adapter of text"] * 12 + ["the adapter of image"] * 16


def test_what_does_not_fit_gets_a_sentence(made):
    _, models, scenes = made
    vit, lm = models["on"].frozen
    with pytest.raises(PeftlabError, match="the captions have 13, 11 words; take equal ones"):
        captioning(models, scenes, (0, 1))
    with pytest.raises(PeftlabError, match="fine reads 64 image tokens, but on 16"):
        captioning({"on": models["on"], "fine": Captioner(vit, lm, grid=8)}, scenes, ROWS)
    with pytest.raises(PeftlabError, match="scenes: nobody knows what its captions name"):
        captioning(models, dataclasses.replace(scenes, synthetic=False), ROWS)


def test_words_and_cells_are_chosen_on_a_page(made, opened):
    page = opened(made[0])
    page.get_by_text("purple", exact=True).click()
    says = page.locator("dl").inner_text()
    share = made[0].maps[0, 1, 3, :, 2].mean(0).sum().item()
    assert "the adapter of text" in says and f"{100 * share:.0f}" in says
    page.locator(".frame").click(position={"x": 10, "y": 10})
    assert "the adapter of image" in page.locator("dl").inner_text()
    page.get_by_text("scene 11", exact=True).click()
    assert page.get_by_text("cylinder", exact=True).is_visible()
