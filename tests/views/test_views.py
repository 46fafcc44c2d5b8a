"""Pictures show what was measured; widgets draw what their static twin draws."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from support import small_swin, tuned

import peftlab.views as views
from peftlab.analysis.attention import attention_maps, patch_attention
from peftlab.analysis.changes import gradient_flow, weight_change
from peftlab.analysis.clusters import cluster_maps
from peftlab.analysis.gist import token_cosine, token_exchange
from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, attach
from peftlab.methods.core.base import FAMILIES
from peftlab.results.ledger import read_ledger
from peftlab.results.published import read_results
from peftlab.results.statistics import accuracy_interval
from peftlab.training.fit import fit
from peftlab.views.block_diagram import NEW
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


def test_change_maps_leave_untouched_layers_grey_and_share_a_scale(tiny_task):
    models = [attach(load_backbone("test_vit", pretrained=False, img_size=32), name, 3) for name in ("lora", "full")]
    for model in models:
        fit(model, tiny_task, epochs=1, device="cpu")
    lora, full, _ = views.change_maps(models).axes
    change = weight_change(models[0])
    shown = lora.images[0].get_array()
    assert shown.mask.all(0).tolist() == [column != "attn.qkv" for column in change]
    assert np.asarray(shown[:, 1]) == pytest.approx(100 * change["attn.qkv"].to_numpy())
    assert lora.images[0].get_clim() == full.images[0].get_clim()
    assert [label.get_text() for label in lora.get_xticklabels()] == ["norm1", "qkv", "proj", "norm2", "fc1", "fc2"]
    assert f"up to {100 * change.to_numpy().max():.1f} %" in lora.get_title()


def test_two_models_of_one_method_have_a_panel_each(tiny_task):
    backbone = load_backbone("test_vit", pretrained=False, img_size=32)
    models = [tuned(backbone, "lora", rank=rank) for rank in (2, 4)]
    for figure in (views.change_maps(models), views.gradient_maps(models, tiny_task)):
        assert [ax.get_title().startswith("LoRA") for ax in figure.axes[:2]] == [True, True] and len(figure.axes) == 3


def test_a_swin_of_which_all_is_tuned_is_drawn():
    notes = [text.get_text() for text in views.block(attach(small_swin(), "full", 3)).texts]
    assert sum("also attn" in note for note in notes) == 1


@pytest.mark.parametrize("one", [{"columns": 1}, {"columns": 1, "rows": 1}])
def test_grids_of_one_picture(one, tiny_task):
    if "rows" not in one:
        views.blocks([attach(load_backbone("test_vit", pretrained=False, img_size=32), "lora", 3)], **one)
    else:
        views.samples(tiny_task, **one)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_looked_at(method, tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), method, 3)
    flow = gradient_flow(model, tiny_task, images=4)
    assert (flow.to_numpy() > 0).any() == (method != "linear")
    shown = views.gradient_maps([model], tiny_task).axes[0].images[0].get_array()
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


@pytest.mark.parametrize("method", ["gist", "vpt"])
def test_a_new_token_is_drawn_behind_cls_where_it_enters(method):
    ax = views.block(attach(load_backbone("test_vit", pretrained=False, img_size=32), method, 3), index=0)
    column = sorted((patch for patch in ax.patches if patch.get_x() == 0.25), key=lambda token: -token.get_y())
    assert [token.get_facecolor() == to_rgba(NEW) for token in column] == [False, True, False, False, False]
    assert len({token.get_y() for token in column}) == len(column)


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
        "CLS to gist": list(100 * table["CLS to gist"]),
        "gist to CLS": list(100 * table["gist to CLS"]),
        "spread evenly": list(100 * table["uniform"]),
    }
    (line,) = views.gist.cosine({"trained": model}, pixels).lines
    assert list(line.get_ydata()) == list(token_cosine(model, pixels)["cosine"])
    left, right = views.gist.branches(gist_run.curves).axes
    assert list(left.lines[2].get_ydata()) == list(100 * gist_run.curves["agreement"])
    assert list(right.lines[0].get_ydata()) == list(gist_run.curves["kl_cls_gist"])
    for layer, head in ((2, 0), ("rollout", None)):
        assert isinstance(views.attention(model, pixels, query="gist", layer=layer, head=head), Axes)
    assert not any(block._forward_hooks for block in list(model.vit.blocks)[:-1])


def test_attention_grid_says_how_much_lies_on_the_object(gist_run, tiny_task):
    model, pixels = gist_run.model, tiny_task.pixels("test", (32, 32), range(2))
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, :, 16:], masks[1, :5] = True, True  # the second one cuts patches
    figure = views.attention_grid({"CLS": (model, "cls"), "gist": (model, "gist")}, pixels, masks)
    maps = patch_attention(model, pixels, "gist")
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))
    assert len(figure.axes) == 2 * 3 and figure.axes[2].get_title() == "gist"
    assert figure.axes[2].get_xlabel() == f"{maps[0, :, 1].sum():.0%} on it"
    assert figure.axes[5].get_xlabel() == f"{5 / 16 * maps[1, 0].sum():.0%} on it"
    assert figure.axes[0].get_xlabel() == "object: 50% of the image"


def test_shares_of_attention_stand_beside_their_controls():
    rows = read_results("attention").query("`trained on` == 'clevr_count' and images == 'drawn scenes'")
    ax = views.gist.shares(rows)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels.count("gist before training") == 1 and "CLS, LoRA alone" in labels
    assert f"gist {100 * rows['share'].iloc[0]:.0f} %" in ax.get_title()


def test_gist_by_epoch_holds_the_last_epoch_against_the_best_on_test():
    run = {"task": "dtd", "group": "natural", "synthetic": False, "lr": 0.01, "val200_accuracy": 0.5}
    curves = {
        "adapter": [(0.5, 0.7, 0.6), (0.5, 0.5, 0.6)],
        "gist adapter": [(0.6, 0.7, 0.65), (0.6, 0.7, 0.65)],
    }
    rows = [
        run | {"label": label, "seed": seed, "epoch": epoch, "test_accuracy": value}
        for label, seeds in curves.items()
        for seed, values in enumerate(seeds)
        for epoch, value in enumerate(values, 1)
    ]
    (ax,) = views.gist.by_epoch(pd.DataFrame(rows), {"adapter": "gist adapter"}).axes
    assert ax.get_title() == "dtd: last +5.0, best +5.0"
    first, second, best, mean = (line.get_xydata().tolist() for line in ax.lines[:4])
    assert first == [[1, 50], [2, 70], [3, 60]] and best == [[2, 70], [3, 60]] and mean == [[1, 50], [2, 60], [3, 60]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["adapter", "gist adapter"]


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


def test_a_layer_and_a_head_that_are_not_there_are_refused():
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    pixels, blocks = torch.zeros(2, 32, 32, 3, dtype=torch.uint8), len(vit.blocks)
    model, masks = attach(vit, "lora", 2), torch.ones(2, 32, 32, dtype=torch.bool)
    span = f"but must be at least -{blocks} and below {blocks}"
    for layer in (blocks, -blocks - 1):
        with pytest.raises(PeftlabError, match=f"layer is {layer}, {span}"):
            views.attention(vit, pixels, query=0, layer=layer)
        with pytest.raises(PeftlabError, match=f"layer is {layer}, {span}"):
            cluster_maps(attach(vit, "gift", 2), pixels, layer)
        with pytest.raises(PeftlabError, match=f"layer is {layer}, {span}"):
            views.attention_grid({"CLS": (vit, 0)}, pixels, masks, layer=layer)
    with pytest.raises(PeftlabError, match=f"index is {blocks}, {span}"):
        views.block(model, index=blocks)
    with pytest.raises(PeftlabError, match="layer is 99, but must be"):
        views.gift.anatomy(attach(vit, "gift", 2), 99)
    heads = vit.blocks[0].attn.num_heads
    with pytest.raises(PeftlabError, match=f"head is {heads}, but must be at least -{heads} and below {heads}"):
        views.attention(vit, pixels, query=0, head=heads)
    with pytest.raises(PeftlabError, match="rollout is of the mean over heads, so it takes no head, not head 1"):
        views.attention(vit, pixels, query=0, layer="rollout", head=1)
    with pytest.raises(PeftlabError, match="one Axes takes one image, not 2; leave ax out"):
        views.attention(vit, pixels, query=0, ax=plt.subplots()[1])


def test_task_pictures(tiny_task):
    assert isinstance(views.samples(tiny_task, columns=3, rows=1), Figure)
    assert isinstance(views.class_balance(tiny_task), Axes)


def test_synthetic_tasks_carry_their_tag_in_every_picture(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "linear", 3)
    run = fit(model, tiny_task, epochs=2, device="cpu")
    run.evaluate("test")
    titles = [
        views.parameters_accuracy(pd.concat([read_ledger(), read_ledger().assign(method="lora")])).get_title(),
        views.class_balance(tiny_task).get_title(),
        views.samples(tiny_task).get_suptitle(),
    ]
    assert all("(synthetic)" in title for title in titles), titles


def test_learning_curves_are_drawn_in_percent():
    ax = views.curves({"lora": pd.DataFrame({"epoch": [1, 2], "accuracy": [0.5, 0.75]})})
    assert ax.lines[0].get_ydata().tolist() == [50, 75] and ax.get_ylabel() == "training accuracy (%)"


def test_accuracies_stand_in_wilsons_intervals():
    runs = pd.DataFrame({"method": ["linear", "lora"], "parameters": [0, 36_864], "test_accuracy": [0.5, 0.9]})
    ax = views.parameters_accuracy(runs.assign(test_images=100, task="dtd", synthetic=False))
    for bars, accuracy, parameters in zip(ax.containers, (0.5, 0.9), (0, 36_864), strict=True):
        line, _, (bar,) = bars
        assert (*line.get_xdata(), *line.get_ydata()) == (parameters, pytest.approx(100 * accuracy))
        (segment,) = bar.get_segments()
        assert segment[:, 1].tolist() == pytest.approx([100 * end for end in accuracy_interval(accuracy, 100)])
    assert ax.get_title() == "dtd\nlora: +40 points above the linear probe"


def test_names_over_accuracies_touch_no_other_name_bar_or_title():
    rows = read_results("strength").query("train_split == 'train800val200'")
    rows = rows[rows["label"].isin(["linear", "norm", "bitfit", "lora", "full"])]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")  # as in 02_trained_tensors
    for ax, task in zip(axes, ("dtd", "eurosat", "clevr_count"), strict=True):
        views.parameters_accuracy(rows[rows["task"] == task], ax=ax)
    figure.canvas.draw()
    for ax in axes:
        names = [text.get_window_extent() for text in ax.texts]
        bars = [ax.transData.transform_path(bars[2][0].get_paths()[0]).get_extents() for bars in ax.containers]
        for i, name in enumerate(names):
            others = [*names[:i], *names[i + 1 :], *bars[:i], *bars[i + 1 :], ax.title.get_window_extent()]
            assert not any(name.overlaps(other) for other in others), (ax.get_title(), ax.texts[i].get_text())


def test_no_two_methods_look_alike():
    styles = [method_style(name) for name in METHODS]
    assert len(set(styles)) == len(METHODS) and method_style("gist lora") == method_style("gist")
    assert {color for color, _ in styles} > {family_color(family) for family in FAMILIES if family in FAMILY_COLORS}


def test_dots_are_shares_of_the_weights():
    panels = views.trained_shares({"linear": 0.0, "lora": 0.013, "full": 1.0}).axes
    assert [int(ax.collections[0].get_array().sum()) for ax in panels] == [0, 9, 625]  # 8.1 dots are shown as 9
    assert panels[2].get_title() == "full: 100 %"


def test_costs_are_shares_of_full_fine_tuning():
    card = read_results("strength_costs").set_index("method").loc[["full", "lora"]]
    figure = views.costs(card[["family", "parameters", "step_ms"]])
    ratio = card["step_ms"]["lora"] / card["step_ms"]["full"]
    assert figure.axes[1].texts[1].get_text() == f"{100 * ratio:.2g}" and len(figure.axes) == 2
    with pytest.raises(PeftlabError, match="no row 'full'"):
        views.costs(card.drop("full"))


def test_a_figure_is_shown_once_with_its_sentence(monkeypatch):
    shown = []
    monkeypatch.setattr("peftlab.views.figures.display", lambda figure, metadata: shown.append((figure, metadata)))
    figure, axes = plt.subplots(1, 2)
    for drawn in (figure, axes[0], axes):
        views.show(drawn, "It rises.")
    assert shown == [(figure, {"image/png": {"alt": "It rises."}})] * 3 and not plt.get_fignums()


def test_an_explorer_keeps_pictures_for_a_page_and_redraws_where_there_is_a_kernel(monkeypatch):
    drawn, shown = [], []
    monkeypatch.setattr("peftlab.views.figures.display", lambda data, **how: shown.append(data))

    def draw(layer, query):
        drawn.append((layer, query))
        return plt.figure()

    assert views.explore(draw, "Lines.", layer=range(3), query=["cls", "gist"]) == {}
    assert len(shown) == 1 and set(drawn) == {(layer, query) for layer in range(3) for query in ("cls", "gist")}
    drawn.clear()
    assert views.explore(draw, "Lines.", layer=range(3), query=list(range(9))) == {}
    assert set(drawn) == {(0, 0), (1, 0), (2, 0)}  # of more than a page keeps, those of the first choice
    drawn.clear()
    monkeypatch.setenv("PEFTLAB_HEADLESS", "0")
    controls = views.explore(draw, "Lines.", layer=range(3), query=["cls", "gist"])
    controls["layer"].value = 2
    controls["query"].value = "gist"
    assert drawn == [(0, "cls"), (2, "cls"), (2, "gist")]
    assert not plt.get_fignums()  # every figure shown is closed again
