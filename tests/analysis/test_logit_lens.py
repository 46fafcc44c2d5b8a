"""The logit lens reads the residual stream as the head would, for every method."""

import pytest
import torch
from support import CLASSES, small_vit, tuned

from peftlab.analysis.logit_lens import appears, block_features, block_logits, lens_table, settled, top_classes
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, create_method
from peftlab.results.statistics import accuracy_interval

CASES = {name: create_method(name) for name in sorted(METHODS)} | {
    "gist, prompts": create_method("gist", base_method="vpt", prompts=2, deep=False),
    "vpt, shallow": create_method("vpt", deep=False),
}


def images(vit):
    return torch.randn(2, 3, *vit.patch_embed.img_size, generator=torch.Generator().manual_seed(3))


def idle(model, first):
    """Blocks from a number on do nothing; their hooks, which take a method's tokens away, still run."""
    for block in model.vit.blocks[first:]:
        block.forward = lambda x: x
    return model


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_lens_of_a_block_is_the_model_whose_later_blocks_do_nothing(name):
    vit = load_backbone()
    model, x = tuned(vit, CASES[name]), images(vit)
    logits = block_logits(model, x)
    assert logits.shape == (6, 2, CLASSES)
    torch.testing.assert_close(logits[-1], model(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[2], idle(model, 3)(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["gist, prompts", "vpt, shallow"])
@torch.no_grad()
def test_a_mean_over_patches_leaves_the_methods_tokens_out(name):
    vit = small_vit(global_pool="avg", class_token=False)
    model, x = tuned(vit, CASES[name]), images(vit)
    torch.testing.assert_close(block_logits(model, x)[0], idle(model, 1)(x), atol=1e-5, rtol=1e-5)


def test_features_are_what_the_head_reads():
    model = tuned(load_backbone(), "lora")
    x = images(model.vit)
    with torch.no_grad():
        torch.testing.assert_close(model.vit.head(block_features(model, x)), block_logits(model.vit, x))
    with pytest.raises(PeftlabError, match="no head"):
        block_logits(load_backbone(), x)


def one_hot(answers):
    """Logits [blocks, images, 3] that answer so, with probability e / (e + 2)."""
    return torch.nn.functional.one_hot(torch.tensor(answers), CLASSES).float()


def test_an_answer_appears_where_it_stays():
    logits = one_hot([[0, 1, 2], [1, 1, 0], [0, 1, 2], [0, 1, 0]])
    assert appears(logits).tolist() == [3, 1, 4]
    assert settled(logits).float().mean(1).tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])


def test_the_table_counts_answers():
    table = lens_table(one_hot([[0, 1, 2], [1, 1, 0]]), torch.tensor([0, 1, 0]))
    assert table["block"].tolist() == [1, 2] and table["images"].eq(3).all()
    assert table["accuracy"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert table["agreement"].tolist() == pytest.approx([1 / 3, 1])
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx(accuracy_interval(2 / 3, 3))
    assert table.loc[0, ["agreement low", "agreement high"]].tolist() == pytest.approx(accuracy_interval(1 / 3, 3))
    e = torch.e
    assert table["probability"][0] == pytest.approx((2 * e + 1) / 3 / (e + 2), rel=1e-5)


def test_top_classes_of_one_image():
    model = tuned(load_backbone(), "gist")
    model.classes = ("cat", "dog", "bird")
    pixels = torch.randint(0, 256, (1, 64, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    table = top_classes(model, pixels)
    with torch.no_grad():
        probabilities = model(prepare_for(model.vit, pixels)).softmax(-1)[0]
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6]
    final = model.classes[int(probabilities.argmax())]
    assert table["class"][6] == final and table["probability"][6] == pytest.approx(
        probabilities.max().item(), rel=1e-4
    )
    assert table[f"of {final}"][6] == table["probability"][6]
    assert (table["probability"] >= table[f"of {final}"]).all()
