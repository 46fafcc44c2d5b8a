"""Pictures return what they promise; attention is exact; widgets draw what their static twin draws."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import peftlab.views as views
from peftlab.backbones import load_backbone
from peftlab.errors import PeftlabError
from peftlab.methods import attach
from peftlab.training import fit


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(params=["test_vit", "test_vit2", "test_vit3"])
def vit(request):
    torch.manual_seed(0)
    return load_backbone(request.param, pretrained=False, img_size=64)


def test_attention_rows_sum_to_one_and_equal_timms_own(vit):
    x, seen = torch.randn(2, 3, 64, 64), []
    assert vit.blocks[1].attn.fused_attn  # the fused kernel is what the maps must agree with
    maps = views.attention_maps(vit, x, layer=1)
    tokens = vit.num_prefix_tokens + 16
    assert maps.shape == (2, vit.blocks[1].attn.num_heads, tokens, tokens)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))

    attn = vit.blocks[1].attn
    attn.fused_attn = False
    hook = attn.attn_drop.register_forward_hook(lambda module, args, output: seen.append(output))
    vit.forward_features(x)
    hook.remove()
    torch.testing.assert_close(maps, seen[0], atol=1e-6, rtol=1e-5)


def test_attention_leaves_no_hook_even_after_a_failure(vit):
    with pytest.raises((RuntimeError, AssertionError)):
        views.attention_maps(vit, torch.randn(1, 5, 7, 7))
    assert not vit.blocks[-1].attn.qkv._forward_hooks


def test_attention_asks_for_prefix_tokens(vit):
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    assert isinstance(views.attention(vit, pixels, query=0), Axes)
    with pytest.raises(PeftlabError, match="prefix token"):
        views.attention(vit, pixels, query=vit.num_prefix_tokens)
    if not vit.has_class_token:
        with pytest.raises(PeftlabError, match="no query 'cls'"):
            views.attention(vit, pixels)


def test_weight_change_shows_exactly_what_a_method_touches(tiny_task):
    torch.manual_seed(0)
    backbone = load_backbone("test_vit", pretrained=False, img_size=32)
    touched = {"linear": [], "norm": ["norm1", "norm2"], "lora": ["attn.qkv"], "full": list(views.change.PLACES)}
    for method, places in touched.items():
        model = attach(backbone, method, 3)
        fit(model, tiny_task, epochs=1, device="cpu")
        columns = [
            place for place, c in zip(views.change.PLACES, views.weight_change(model).T, strict=True) if c.any()
        ]
        assert columns == places
        assert isinstance(views.change_map(model), Axes)


def test_gradient_flow_agrees_with_backward(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "bitfit", 3)
    flow = views.gradient_flow(model, tiny_task, images=8)
    assert flow.shape == (6, len(views.change.PLACES)) and (flow > 0).all()
    assert all(p.grad is None for p in model.parameters())  # looking does not train


def test_task_pictures(tiny_task):
    assert isinstance(views.samples(tiny_task, columns=3, rows=1), Figure)
    assert isinstance(views.class_balance(tiny_task), Axes)
    vit = load_backbone("test_vit", pretrained=False, img_size=64)
    assert views.patch_tokens(vit, tiny_task.pixels("test", (64, 64))).shape == (16, 4, 4, 64)
    assert isinstance(views.patch_pca(vit, tiny_task, images=3), Figure)
    labels = tiny_task.labels("test")
    assert isinstance(views.feature_plane(np.random.rand(16, 5), labels, tiny_task.classes), Axes)


def test_rendered_tasks_carry_their_tag_in_every_picture(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "linear", 3)
    run = fit(model, tiny_task, epochs=2, device="cpu")
    run.evaluate("test")
    from peftlab.ledger import read_ledger

    titles = [
        views.parameters_accuracy(read_ledger(), chance=1 / 3).get_title(),
        views.curves([run]).get_title(),
        views.class_balance(tiny_task).get_title(),
        views.samples(tiny_task).get_suptitle(),
    ]
    assert all("(rendered)" in title for title in titles), titles


def test_explorer_shows_a_static_twin_and_redraws(monkeypatch):
    drawn = []

    def draw(layer, query):
        drawn.append((layer, query))
        return plt.figure()

    assert views.explore(draw, layer=range(3), query=["cls", "gist"]) == {}
    assert drawn == [(0, "cls")]
    monkeypatch.setenv("PEFTLAB_HEADLESS", "0")
    controls = views.explore(draw, layer=range(3), query=["cls", "gist"])
    controls["layer"].value = 2
    controls["query"].value = "gist"
    assert drawn == [(0, "cls")] * 2 + [(2, "cls"), (2, "gist")]
    assert not plt.get_fignums()  # every figure shown is closed again
