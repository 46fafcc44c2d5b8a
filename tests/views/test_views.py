"""Pictures show what was measured; widgets draw what their static twin draws."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import peftlab.views as views
from peftlab.analysis.attention import attention_maps
from peftlab.analysis.changes import gradient_flow, weight_change
from peftlab.analysis.gist import token_cosine, token_exchange
from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, attach
from peftlab.methods.core.base import FAMILIES
from peftlab.results.ledger import read_ledger
from peftlab.training.fit import fit
from peftlab.views.style import FAMILY_COLORS, family_color, method_style


@pytest.fixture(params=["test_vit", "test_vit2", "test_vit3"])
def vit(request):
    torch.manual_seed(0)
    return load_backbone(request.param, pretrained=False, img_size=64)


def test_attention_asks_for_prefix_tokens(vit):
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    assert isinstance(views.attention(vit, pixels, query=0), Axes)
    with pytest.raises(PeftlabError, match="prefix token"):
        views.attention(vit, pixels, query=vit.num_prefix_tokens)
    if not vit.has_class_token:
        with pytest.raises(PeftlabError, match="no query 'cls'"):
            views.attention(vit, pixels)


def test_a_change_map_leaves_untouched_layers_blank(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "lora", 3)
    fit(model, tiny_task, epochs=1, device="cpu")
    ax, change = views.change_map(model), weight_change(model)
    shown = ax.images[0].get_array()
    assert shown.mask.all(0).tolist() == [column != "attn.qkv" for column in change]
    assert np.asarray(shown[:, 1]) == pytest.approx(100 * change["attn.qkv"].to_numpy())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["norm1", "qkv", "proj", "norm2", "fc1", "fc2"]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_looked_at(method, tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), method, 3)
    flow = gradient_flow(model, tiny_task, images=4)
    assert (flow.to_numpy() > 0).any() == (method != "linear")
    shown = views.gradient_map(model, tiny_task).images[0].get_array()
    assert shown.shape == flow.shape and (np.ma.getmaskarray(shown) == (flow == 0).to_numpy()).all()
    maps = attention_maps(model.vit, torch.randn(2, 3, 32, 32), layer=-1)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))
    assert maps.shape[-1] == 1 + 4 + {"vpt": 5, "gist": 1}.get(method, 0)
    assert isinstance(views.attention(model, torch.zeros(1, 32, 32, 3, dtype=torch.uint8)), Axes)


def test_blocks_are_drawn_with_what_is_shared():
    vit = load_backbone("test_vit2", pretrained=False, img_size=32)
    models = [attach(vit, method, 3) for method in sorted(METHODS)]
    figure = views.blocks(models)
    titles = [ax.get_title(loc="left") for ax in figure.axes[: len(models)]]
    assert [title.split(":")[0] for title in titles] == [model.method.title for model in models]
    lora = models[sorted(METHODS).index("lora")]
    assert f"LoRA: {lora.method_parameters // 8:,} in this block" in titles
    ax = views.block(attach(vit, "fact", 3))
    assert "U, V shared by all blocks" in [text.get_text() for text in ax.texts]
    ax = views.block(attach(vit, "gift", 3, targets=("o", "fc1")))
    assert "generator_fc1, generator_o shared by all blocks" in [text.get_text() for text in ax.texts]
    assert "also ls1; also ls2" in [text.get_text() for text in views.block(attach(vit, "full", 3)).texts]


@pytest.fixture
def gist_run(tiny_task):
    torch.manual_seed(0)
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    return fit(attach(vit, "gist", 3, base_method="lora"), tiny_task, epochs=2, batch_size=12, device="cpu")


def test_gist_views(gist_run, tiny_task):
    model, pixels = gist_run.model, tiny_task.pixels("test", (32, 32), range(5))
    table = token_exchange(model, pixels)
    drawn = {line.get_label(): list(line.get_ydata()) for line in views.gist.exchange(model, pixels).lines}
    assert drawn == {
        "CLS to gist": list(table["CLS to gist"]),
        "gist to CLS": list(table["gist to CLS"]),
        "spread evenly": list(table["uniform"]),
    }
    (line,) = views.gist.cosine({"trained": model}, pixels).lines
    assert list(line.get_ydata()) == list(token_cosine(model, pixels)["cosine"])
    left, right = views.gist.branches(gist_run).axes
    assert list(left.lines[2].get_ydata()) == list(100 * gist_run.curves["agreement"])
    assert list(right.lines[0].get_ydata()) == list(gist_run.curves["kl_cls_gist"])

    for ax in (
        views.gist.token_plane(model, tiny_task, images=10),
        views.attention(model, pixels, query="gist", layer=2, head=0),
        views.attention(model, pixels, query="gist", layer="rollout"),
    ):
        assert isinstance(ax, Axes)
    assert not any(block._forward_hooks for block in list(model.vit.blocks)[:-1])
    rows = views.gist.attention_rows({"a": model, "b": model}, pixels)
    assert len(rows.axes) == 2 * 2 * 5 and rows.axes[5].get_ylabel() == "a\ngist"

    gist_run.evaluate("test")
    one = read_ledger().assign(variant="all")
    assert "(synthetic)" in views.gist.ablation(one).get_title()


def test_kl_shapes_are_zero_where_both_agree():
    forward, backward, both = views.gist.kl_shapes(0.7).lines[:3]
    for line in (forward, backward, both):
        x, y = line.get_xdata(), line.get_ydata()
        assert y.min() == pytest.approx(0, abs=1e-6) and x[y.argmin()] == pytest.approx(0.7, abs=0.003)
    assert forward.get_ydata()[0] > 2 * backward.get_ydata()[0]


def test_a_query_that_is_not_there_is_refused(vit):
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    with pytest.raises(PeftlabError, match="no query 'gist'"):
        views.attention(vit, pixels, query="gist")
    with pytest.raises(PeftlabError, match="no query 'gits'"):
        views.attention(vit, pixels, query="gits")


def test_task_pictures(tiny_task):
    assert isinstance(views.samples(tiny_task, columns=3, rows=1), Figure)
    assert isinstance(views.class_balance(tiny_task), Axes)


def test_synthetic_tasks_carry_their_tag_in_every_picture(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "linear", 3)
    run = fit(model, tiny_task, epochs=2, device="cpu")
    run.evaluate("test")
    titles = [
        views.parameters_accuracy(read_ledger(), chance=1 / 3).get_title(),
        views.accuracies(read_ledger(), {"linear": "selective"}, chance=1 / 3).get_title(),
        views.curves([run]).get_title(),
        views.class_balance(tiny_task).get_title(),
        views.samples(tiny_task).get_suptitle(),
    ]
    assert all("(synthetic)" in title for title in titles), titles


def test_no_two_methods_look_alike():
    styles = [method_style(name) for name in METHODS]
    assert len(set(styles)) == len(METHODS) and method_style("gist lora") == method_style("gist")
    assert {color for color, _ in styles} > {family_color(family) for family in FAMILIES if family in FAMILY_COLORS}


def test_explorer_shows_a_static_twin_and_redraws(monkeypatch):
    drawn = []

    def draw(layer, query):
        drawn.append((layer, query))
        return plt.figure()

    assert views.explore(draw, "Lines.", layer=range(3), query=["cls", "gist"]) == {}
    assert drawn == [(0, "cls")]
    monkeypatch.setenv("PEFTLAB_HEADLESS", "0")
    controls = views.explore(draw, "Lines.", layer=range(3), query=["cls", "gist"])
    controls["layer"].value = 2
    controls["query"].value = "gist"
    assert drawn == [(0, "cls")] * 2 + [(2, "cls"), (2, "gist")]
    assert not plt.get_fignums()  # every figure shown is closed again
