"""What removing channels costs, how far LayerNorms and tasks moved, and how far scores agree."""

import pytest
import torch
from support import random_timm, tuned

from peftlab.analysis.two_stage import (
    accuracy_without,
    agreement,
    jaccard,
    norm_steps,
    recorded_scores,
    shift_and_gain,
    top_share,
)
from peftlab.backbones.identity import as_vit
from peftlab.backbones.load import load_backbone
from peftlab.backbones.stages import run_stages
from peftlab.results.published import read_results

X = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model():
    return tuned(load_backbone("test_vit", pretrained=False, img_size=32), "norm")


@torch.no_grad()
def stream(vit, tokens, block):
    """The residual stream after a block's attention."""
    return tokens + vit.blocks[block].attn(vit.blocks[block].norm1(tokens))


@torch.no_grad()
def answers(vit, h, block):
    """What the network says, given the residual stream after a block's attention."""
    return run_stages(vit, h + vit.blocks[block].mlp(vit.blocks[block].norm2(h)), start=2 + block).argmax(1)


@pytest.mark.parametrize("values", [0.0, "means"])
@torch.no_grad()
def test_removed_channels_are_gone_from_skip_path_and_mlp(model, values):
    vit, block, chosen = model.vit.eval(), 2, torch.arange(0, 64, 3)
    vit.head.bias -= run_stages(vit, X).mean(0)  # so that answers differ from image to image
    tokens = run_stages(vit, X, stop=1 + block)
    h, kept = stream(vit, tokens, block), tokens.clone()
    values = h.mean(0)[:, chosen] if values == "means" else values
    before = answers(vit, h, block)
    h[..., chosen] = values
    after = answers(vit, h, block)
    assert not torch.equal(before, after)
    assert accuracy_without(vit, tokens, after, block, chosen, values) == 1
    assert accuracy_without(vit, tokens, before, block, []) == 1
    assert accuracy_without(vit, tokens, before, block, chosen, values) == (before == after).double().mean()
    assert torch.equal(tokens, kept) and not vit.blocks[block].norm2._forward_pre_hooks


@torch.no_grad()
def test_norm_steps_count_gamma_and_beta_in_one_unit(model):
    norm = model.vit.blocks[0].norm2
    before = model.backbone.blocks[0].norm2
    norm.weight.copy_(1.1 * before.weight)
    before.bias.copy_(torch.full_like(before.bias, 0.5) * before.weight)
    norm.bias.copy_(2 * before.bias)  # by its own size, which is half of gamma's
    row = norm_steps(model).loc["1.2"]
    assert row.tolist() == pytest.approx([0.1, 1.0, 0.5], abs=1e-6)
    assert len(norm_steps(model)) == 13


def test_jaccard_of_lists_and_tensors():
    table = jaccard({"a": [0, 1, 2], "b": torch.tensor([2, 3]), "c": [7]})
    assert table.loc["a", "b"] == 0.25 and table.loc["a", "c"] == 0 and table.loc["b", "b"] == 1


def test_agreement_compares_halves_and_tasks_block_by_block():
    rising = torch.arange(6.0)
    scores = {
        "a": torch.stack([torch.stack([rising, rising]), torch.stack([rising, -rising])]),
        "b": torch.stack([torch.stack([rising, rising]), torch.stack([rising**2, rising])]),
    }
    table = agreement(scores, k=2).set_index(["pair", "block"])
    assert table["rank"].to_dict() == {
        ("a, a", 1): pytest.approx(1),
        ("a, a", 2): pytest.approx(-1),
        ("b, b", 1): pytest.approx(1),
        ("b, b", 2): pytest.approx(1),
        ("a, b", 1): pytest.approx(1),
        ("a, b", 2): pytest.approx(1),
    }
    assert table.loc[("a, a", 2), "overlap"] == 0 and table.loc[("a, b", 1), "overlap"] == 1
    assert table.loc["a, a", "same"].all() and not table.loc["a, b", "same"].any()


def test_recorded_scores_are_positive_and_not_one_half_twice():
    for first, second in recorded_scores().values():
        assert (first > 0).all() and (second > 0).all() and not torch.equal(first, second)
        assert ((48 / 384 < top_share(first, 48)) & (top_share(first, 48) < 1)).all()


def test_gains_of_stage_one_are_over_the_probe_of_the_same_task():
    found = shift_and_gain().set_index(["task", "epochs"])
    runs = read_results("strength_shift").set_index(["task", "epochs"])["test_accuracy"]
    probe = read_results("strength").query("label == 'linear' and task == 'dtd' and test_accuracy.notna()")
    assert len(found) == len(runs) + 7 and found.xs(0, level="epochs")["gain"].eq(0).all()
    assert found.loc[("dtd", 10), "gain"] == pytest.approx(100 * (runs["dtd", 10] - probe["test_accuracy"].mean()))
    distances = read_results("shift").query("task == 'dtd' and epochs == 10")["distance"]
    assert found.loc[("dtd", 10), "distance"] == pytest.approx(distances.mean())


def test_norm_steps_have_a_row_for_every_norm_of_a_swin():
    small = {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    swin = as_vit(random_timm("swin_tiny_patch4_window7_224", num_classes=0, **small))
    table = norm_steps(tuned(swin, "norm"))
    assert table.index.tolist() == ["patch_embed.norm", "1.1", "1.2", "2.1", "2.2", "2.merging.norm", "final"]
    ratio = table["beta / gamma's size"] / table["beta / its size"]
    norm = swin.blocks[1].norm1
    assert ratio["2.1"] == pytest.approx((norm.bias.norm() / norm.weight.norm()).item())
