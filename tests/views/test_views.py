"""Pictures return what they promise; attention is exact; widgets draw what their static twin draws."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import peftlab.views as views
from peftlab.analysis import clusters as segmentation
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, attach
from peftlab.results.ledger import read_ledger
from peftlab.training.evaluate import first_images
from peftlab.training.fit import fit


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
        change = views.weight_change(model)
        assert [place for place in change if change[place].any()] == places
        assert isinstance(views.change_map(model), Axes)


def test_gradient_flow_agrees_with_backward(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "bitfit", 3)
    flow = views.gradient_flow(model, tiny_task, images=8)
    assert flow.shape == (6, len(views.change.PLACES)) and (flow > 0).all(axis=None)
    assert all(p.grad is None for p in model.parameters())  # looking does not train


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_looked_at(method, tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), method, 3)
    flow = views.gradient_flow(model, tiny_task, images=4)
    assert (flow.to_numpy() > 0).any() == (method != "linear")
    assert isinstance(views.gradient_map(model, tiny_task), Axes)
    maps = views.attention_maps(model.vit, torch.randn(2, 3, 32, 32), layer=-1)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))
    assert maps.shape[-1] == 1 + 4 + {"vpt": 5, "gist": 1}.get(method, 0)
    assert isinstance(views.attention(model, torch.zeros(1, 32, 32, 3, dtype=torch.uint8)), Axes)


CHANGES = {
    "linear": set(),
    "norm": {("norm1", "tuned"), ("norm2", "tuned")},
    "lora": {("attn.qkv", "beside")},
    "ia3": {("attn.qkv", "after"), ("mlp.fc2", "before")},
    "adapter": {("attn.proj", "after"), ("mlp", "after")},
    "adaptformer": {("mlp", "beside")},
    "convpass": {("attn", "beside"), ("mlp", "beside")},
    "vpt": {("", "prompts")},
    "gift": {("attn.proj", "beside")},
    "two_stage": {("norm1", "tuned"), ("norm2", "tuned"), ("", "channels")},
    "fact": {(place, "beside") for place in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")},
}


@pytest.mark.parametrize("method", CHANGES)
def test_a_block_is_read_off_the_model(method):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), method, 3)
    changes = views.block_changes(model)
    assert set(changes) == CHANGES[method]
    listed = [name for names in changes.values() for name in names]
    assert sorted(listed) == sorted(n for n, p in model.vit.blocks[-1].named_parameters() if p.requires_grad)


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


def test_gradients_of_shared_factors_have_a_column_of_their_own(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "gift_linear", 3)
    flow = views.gradient_flow(model, tiny_task, images=8)
    assert flow["shared"].gt(0).tolist() == [True] + [False] * 5  # they stand in the first block


def test_gift_views(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "gift", 3)
    pixels = tiny_task.pixels("test", (32, 32), range(5))
    sources = {"GIFT": segmentation.cluster_maps(model, pixels), "frozen": torch.rand(5, 3, 2, 2)}
    titles = [ax.get_title() for ax in views.gift.anatomy(model).axes]
    shapes = {"W": "64 x 64", "tokens U": "64 x 16", "clusters C": "64 x 96", "attention A": "64 x 96"}
    assert titles[:5] == [f"{name}\n{shape}" for name, shape in shapes.items()] + ["change\n64 x 64"]
    assert views.gift.clusters(model).get_title() == "block 6, C 64 x 96"
    assert not model.vit.blocks[0].shared["generator_o"].blocks[0].attn._forward_hooks

    figure = views.gift.overlays(sources, pixels, cluster=1)
    assert len(figure.axes) == 3 * 5 and figure.axes[5].get_ylabel() == "GIFT\ncluster 1"
    figure, busiest = views.gift.gallery(sources["GIFT"], pixels, clusters=2), views.gift.busiest(sources["GIFT"], 2)
    assert [figure.axes[i].get_ylabel() for i in (5, 10)] == [f"cluster {c}" for c in busiest]
    figure = views.gift.segments(sources, pixels, colours=4)
    assert figure.axes[10].get_ylabel().startswith("frozen\n") and len(figure.axes) == 3 * 5
    shown = figure.axes[5].images[0].get_array()
    won = segmentation.winners(sources["GIFT"])
    assert ((shown == 1) == (won[0] == busiest[0]).numpy()).all() and 0 <= shown.min() and shown.max() <= 4

    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, :16, :16] = True
    table = segmentation.iou_table(sources, [mask] * 5)
    labels = [text.get_text() for text in views.gift.overlap(table).get_yticklabels()]
    assert labels == ["GIFT", "frozen", "the objects themselves"]


def test_the_busiest_cluster_wins_most_patches():
    maps = torch.zeros(1, 4, 2, 3)
    maps[0, 2, 0] = maps[0, 1, 1, :2] = maps[0, 3, 1, 2] = 1  # wins three, two and one patch
    assert views.gift.busiest(maps, 3).tolist() == [2, 1, 3]


def test_an_overlay_is_the_recipes_mixture():
    ax, image = plt.subplots()[1], np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    heat = np.linspace(0, 1, 16).reshape(4, 4)
    views.gift.overlay(ax, image, heat)
    mixed = 0.6 * plt.get_cmap("inferno")(heat)[..., :3] + 0.4 * image / 255
    drawn = np.asarray(ax.images[0].get_array())
    assert drawn == pytest.approx((mixed - mixed.min()) / (mixed.max() - mixed.min()))


def test_two_stage_views(tiny_task):
    run = fit(attach(load_backbone("test_vit", pretrained=False, img_size=32), "norm", 3), tiny_task, epochs=1)
    model, scores = run.model, torch.rand(6, 64)
    ax = views.two_stage.importance_map(scores)
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(scores.log10().numpy())
    shown = views.two_stage.importance_map(scores, ordered=True).images[0].get_array()
    assert (np.diff(shown) <= 0).all()

    pixels, labels = tiny_task.pixels("test", (32, 32), range(4)), tiny_task.labels("test")[:4]
    figure = views.two_stage.spatial_maps(model.vit, pixels, labels, blocks=(0, -2))
    assert len(figure.axes) == 3 * 4 and [figure.axes[i].get_ylabel() for i in (4, 8)] == ["block 1", "block 5"]

    table = views.two_stage.jaccard({"a": [0, 1, 2], "b": [2, 3], "c": [7]})
    assert table.loc["a", "b"] == 0.25 and table.loc["a", "c"] == 0 and table.loc["b", "b"] == 1
    drawn = views.two_stage.overlap({"a": torch.tensor([0, 1]), "b": torch.tensor([1, 2])}, 4)
    assert drawn.get_title() == "chance: 0.33"  # 2 of 4: 1 in common, 3 in all

    change = views.two_stage.norm_change(model)
    assert list(change.index) == [*(f"{i}.{j}" for i in range(1, 7) for j in (1, 2)), "final"]
    norm = model.vit.blocks[2].norm1.weight
    assert change.loc["3.1", "gamma"] == pytest.approx(((norm - 1).norm() / 8).item(), rel=1e-4)  # gamma was 1
    for ax in (
        views.two_stage.norm_changes(model),
        views.two_stage.against_removal(scores[0], scores[0] ** 2),
        views.two_stage.shift({"frozen": torch.rand(6), "tuned": torch.rand(6)}),
    ):
        assert isinstance(ax, Axes)
    assert "rank correlation 1.000" in views.two_stage.against_removal(scores[0], scores[0] ** 2).get_title()


@pytest.fixture
def gist_run(tiny_task):
    torch.manual_seed(0)
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    return fit(attach(vit, "gist", 3, base_method="lora"), tiny_task, epochs=2, batch_size=12, device="cpu")


def test_gist_views(gist_run, tiny_task):
    model, pixels = gist_run.model, tiny_task.pixels("test", (32, 32), range(5))
    cls, gist = views.gist.token_pair(model, pixels)
    assert cls.shape == gist.shape == (6, 5, 64)
    features = model.vit.forward_features(first_images(tiny_task, model.vit, 5, "test"))
    torch.testing.assert_close(model.vit.norm(cls[-1]), features[:, 0])
    torch.testing.assert_close(model.vit.norm(gist[-1]), model.vit.norm(model.vit.blocks[0].gist.output))
    cosine = views.gist.token_cosine(model, pixels)
    expected = torch.nn.functional.cosine_similarity(cls[2], gist[2], dim=-1)
    assert cosine.loc[3, "cosine"] == pytest.approx(expected.mean().item(), rel=1e-5)

    table = views.gist.token_exchange(model, pixels)
    weights = views.attention_maps(model.vit, first_images(tiny_task, model.vit, 5, "test"), 4)
    assert table.loc[5, "CLS to gist"] == pytest.approx(weights[:, :, 0, 1].mean().item(), rel=1e-4)
    assert table.loc[5, "gist to CLS"] == pytest.approx(weights[:, :, 1, 0].mean().item(), rel=1e-4)
    assert table["uniform"].eq(1 / (1 + 1 + 4)).all()

    for ax in (
        views.gist.exchange(model, pixels),
        views.gist.cosine({"trained": model}, pixels),
        *views.gist.branches(gist_run),
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


def test_rollout_rows_sum_to_one_and_equal_the_product(vit):
    pixels = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    rolled = views.rollout(vit, pixels)
    torch.testing.assert_close(rolled.sum(-1), torch.ones_like(rolled[..., 0]))
    x, identity = prepare_for(vit, pixels), torch.eye(rolled.shape[-1])
    product = identity
    for layer in range(len(vit.blocks)):
        product = (views.attention_maps(vit, x, layer).mean(1) + identity) / 2 @ product
    torch.testing.assert_close(rolled[:, 0], product)


def test_task_pictures(tiny_task):
    assert isinstance(views.samples(tiny_task, columns=3, rows=1), Figure)
    assert isinstance(views.class_balance(tiny_task), Axes)
    vit = load_backbone("test_vit", pretrained=False, img_size=64)
    assert views.patch_tokens(vit, tiny_task.pixels("test", (64, 64))).shape == (16, 4, 4, 64)
    assert isinstance(views.patch_pca(vit, tiny_task, images=3), Figure)
    labels = tiny_task.labels("test")
    assert isinstance(views.feature_plane(np.random.rand(16, 5), labels, tiny_task.classes), Axes)


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
