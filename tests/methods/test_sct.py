"""SCT: its equation, and a choice of channels by the images of the task that needs no stage before."""

import numpy as np
import pytest
import torch
from support import attention_core, small_vit, tuned

from peftlab.analysis.costs import trained_stages
from peftlab.backbones.preprocess import prepare
from peftlab.backbones.protocols import get_protocol
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach, create_method, load_adapter
from peftlab.results.ledger import read_ledger
from peftlab.training.fit import fit

CLASSES = 3
SETTINGS = {"epochs": 2, "batch_size": 12, "device": "cpu"}
placements = pytest.mark.parametrize("placement", ["residual", "mlp"])


@pytest.fixture
def x():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def lively_vit():
    """A small ViT whose every block writes much, so blocks, and places within one, have other salient channels."""
    vit, random = small_vit(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in vit.blocks.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=random))
    return vit


def maps(model):
    """The maps of a model, whatever their placement."""
    residual = model.vit.peftlab_method == "sct" and hasattr(model.vit.blocks[-1], "channels")
    return [block.channels if residual else block.mlp.after for block in model.vit.blocks]


@placements
def test_equation(placement, x):
    """Written out as in the paper: the chosen channels pass a linear layer with a skip connection."""
    model = tuned(lively_vit(), "sct", placement=placement, channels=5)
    chosen, plain = torch.tensor([1, 7, 8, 30, 47]), model.backbone
    for m in maps(model):
        m.indices.copy_(chosen)

    def changed(m, u):
        parts = list(u.unbind(-1))
        for row, channel in enumerate(chosen.tolist()):
            products = [m.U[row, k] * u[..., other] for k, other in enumerate(chosen.tolist())]
            parts[channel] = u[..., channel] + sum(products) + m.u[row]
        return torch.stack(parts, -1)

    z = plain._pos_embed(plain.patch_embed(x))
    for block, m in zip(plain.blocks, maps(model), strict=True):
        z = z + block.attn(block.norm1(z))
        z = changed(m, z) if placement == "residual" else z
        y = block.mlp(block.norm2(z))
        z = z + (changed(m, y) if placement == "mlp" else y)
    torch.testing.assert_close(model.vit.forward_features(x), plain.norm(z), atol=1e-4, rtol=1e-4)
    if placement == "mlp":
        torch.testing.assert_close(model.merge()(x), model(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def salience(vit, x, labels, placement):
    """Mean over classes of each channel's l2 norm over the patches of the class, [blocks, D], in numpy."""
    z, scores = vit._pos_embed(vit.patch_embed(x)), []
    for block in vit.blocks:
        z = z + block.attn.proj(attention_core(block, block.attn.qkv(block.norm1(z))))
        h = z
        z = z + block.mlp(block.norm2(z))
        patches = (h if placement == "residual" else z)[:, vit.num_prefix_tokens :].double().numpy()
        norms = [np.sqrt((patches[labels == label] ** 2).sum((0, 1))) for label in np.unique(labels)]
        scores.append(np.mean(norms, axis=0))
    return torch.from_numpy(np.stack(scores))


@placements
@pytest.mark.parametrize("last_blocks", [None, 2])
def test_fit_chooses_the_salient_channels_of_the_plain_backbone(placement, last_blocks, tiny_task, x):
    model = attach(lively_vit(), "sct", 3, placement=placement, channels=5, last_blocks=last_blocks)
    run = fit(model, tiny_task, **SETTINGS)
    pixels = tiny_task.pixels("train800val200", (32, 32))
    images = prepare(pixels, lively_vit(), get_protocol("peftlab").preprocessing, torch.device("cpu"))
    expected = salience(lively_vit(), images, tiny_task.labels("train800val200"), placement)
    changed = model.vit.blocks[-(last_blocks or 3) :]
    found = [(block.channels if placement == "residual" else block.mlp.after).indices for block in changed]
    chosen = [sorted(row.topk(5).indices.tolist()) for row in expected]
    assert [indices.tolist() for indices in found] == chosen[-len(changed) :]
    assert len({*map(tuple, chosen), tuple(range(5))}) == 4  # they say which block they are of
    assert torch.equal(load_adapter(model.backbone, run.folder)(x), model(x))


def test_it_is_one_stage(tiny_task):
    """No head is trained before, nothing stays frozen that is counted, and it ends as two_stage's scores do."""
    model = attach(small_vit(), "sct", 3, channels=4)
    assert model.method.first() is None
    run = fit(model, tiny_task, **SETTINGS)
    assert read_ledger()["method"].tolist() == ["sct"] and run.before is None
    assert run.record["parameters"] == 3 * (16 + 4) == model.method.count(model.backbone)
    with pytest.raises(PeftlabError, match="sct has one stage; first_lr and first_epochs are for methods with two"):
        fit(attach(small_vit(), "sct", 3), tiny_task, first_lr=0.1, **SETTINGS)
    after_a_probe = {"align": False, "criterion": "sct", "init": "normal", "channels": 4}
    other = fit(attach(small_vit(), "two_stage", 3, **after_a_probe), tiny_task, **SETTINGS)
    for mine, theirs in zip(model.vit.blocks, other.model.vit.blocks, strict=True):
        assert torch.equal(mine.channels.indices, theirs.channels.indices)


def test_images_are_computed_only_for_methods_that_choose_by_them(tiny_task, monkeypatch):
    import peftlab.training.fit as training

    asked = []
    monkeypatch.setattr(training, "pixel_batches", lambda *args: asked.append(1) or [torch.zeros(36, 3, 32, 32)])
    fit(attach(small_vit(), "lora", 3), tiny_task, **SETTINGS)
    assert asked == []


def test_gist_around_it_chooses_too(tiny_task):
    model = attach(small_vit(), "gist", 3, base_method="sct", channels=5)
    fit(model, tiny_task, **SETTINGS)
    alone = attach(small_vit(), "sct", 3, channels=5)
    fit(alone, tiny_task, **SETTINGS)
    for mine, theirs in zip(model.vit.blocks, alone.vit.blocks, strict=True):
        assert torch.equal(mine.channels.indices, theirs.channels.indices)


def test_the_cost_card_counts_one_stage(x):
    model = attach(small_vit(), "sct", CLASSES)
    assert trained_stages(model, x, torch.tensor([0, 1, 2, 0])) == [model]
    assert all(m.indices.tolist() != list(range(6)) for m in maps(model))


def test_impossible_options_are_named():
    with pytest.raises(PeftlabError, match="channels is 49.*the width, 48"):
        attach(small_vit(), "sct", CLASSES, channels=49)
    with pytest.raises(PeftlabError, match="unknown placement 'residuals'; did you mean 'residual'"):
        create_method("sct", placement="residuals")
