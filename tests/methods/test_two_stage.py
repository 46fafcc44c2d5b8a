"""Two stages: exact scores, honest selection, maps that touch nothing else, a fit that goes on where it stopped."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from support import attention_core, random_timm, shallow, small_vit, tuned
from timm.models.vision_transformer import ResPostBlock
from torch import nn

from peftlab.backbones.identity import as_vit
from peftlab.backbones.stages import run_stages
from peftlab.common.errors import NotMergeable, PeftlabError
from peftlab.methods import attach, create_method, load_adapter
from peftlab.methods.core.importance import CRITERIA, PLACEMENTS, channel_scores, choose, of_images, places, removal
from peftlab.methods.two_stage import ChannelMap
from peftlab.results.ledger import read_ledger
from peftlab.training.fit import fit
from peftlab.training.spec import first_stage

CLASSES = 3


@pytest.fixture
def x():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 1, 2, 0, 1, 0])


def with_head(backbone):
    """A ViT as stage 1 leaves it: random norms and a random head."""
    return tuned(backbone, "norm").vit


def split(x, y, size):
    return list(zip(x.split(size), y.split(size), strict=True))


# --- scores ---


@pytest.mark.parametrize("placement", ["residual", "mlp", "qv"])
def test_scores_are_what_their_formula_says(placement, x):
    """Every image alone, by autograd on the activation itself."""
    vit = with_head(small_vit(reg_tokens=2))
    found = channel_scores(vit, [(x, LABELS)], placement, prefix=False)
    D, prefix, expected = 48, 3, []
    for block in range(3):
        each = []
        for image, label in zip(x, LABELS, strict=True):
            h = []

            def grab(i, u, h=h, block=block):
                return u

            z = vit._pos_embed(vit.patch_embed(image[None]))
            for i, b in enumerate(vit.blocks):
                qkv = b.attn.qkv(b.norm1(z))
                if placement == "qv" and i == block:
                    h.append(qkv := qkv.detach().requires_grad_())
                q, k, v = qkv.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
                mixed = ((q @ k.transpose(-2, -1) / 24**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
                z = z + b.attn.proj(mixed)
                if placement == "residual" and i == block:
                    h.append(z := z.detach().requires_grad_())
                m = b.mlp(b.norm2(z))
                if placement == "mlp" and i == block:
                    h.append(m := m.detach().requires_grad_())
                z = z + m
            loss = F.cross_entropy(vit.head(vit.norm(z)[:, 0]), label[None])
            g = torch.autograd.grad(loss, h[0])[0]
            each.append((h[0] * g)[0, prefix:].sum(0).abs().detach())
        mean = torch.stack(each).mean(0)
        expected += [mean[:D], mean[2 * D :]] if placement == "qv" else [mean]
    torch.testing.assert_close(found, torch.stack(expected).double(), atol=1e-6, rtol=1e-3)


def test_the_stream_is_found_where_norms_come_after(x):
    """timm's ResPostBlock: its second norm reads what the MLP gives, and the MLP reads the stream."""
    vit, x, y = with_head(small_vit(block_fn=ResPostBlock)), x[:1], LABELS[:1]
    found, removed = channel_scores(vit, [(x, y)]), removal(vit, x, y, block=1)
    z = vit._pos_embed(vit.patch_embed(x))
    for i, block in enumerate(vit.blocks):

        def loss(h, i=i, block=block):
            out = h + block.norm2(block.mlp(h))
            return F.cross_entropy(run_stages(vit, out, start=2 + i), y)

        h = (z + block.norm1(block.attn(z))).detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(h), h)
        torch.testing.assert_close(found[i], (h * g)[0].sum(0).abs().double(), atol=1e-6, rtol=1e-3)
        if i == 1:
            cut = h.detach().clone()
            cut[..., 7] = 0
            torch.testing.assert_close(removed[7], (loss(cut) - loss(h)).abs().detach())
        z = block(z)


def test_scores_are_exact_where_the_loss_is_linear():
    """Removing a channel from a linear loss changes it by exactly |sum h g|; the other criteria by their formulas."""
    generator = torch.Generator().manual_seed(0)
    h, g = (torch.randn(5, 7, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    loss = (h * g).sum((1, 2))
    for channel in range(4):
        removed = h.clone()
        removed[..., channel] = 0
        truth = ((removed * g).sum((1, 2)) - loss).abs()
        torch.testing.assert_close(of_images("taylor", h, g)[:, channel], truth)
        torch.testing.assert_close(of_images("squared", h, g)[:, channel], truth**2)
    torch.testing.assert_close(of_images("gradient", h, g), g.sum(1).abs())
    assert not torch.allclose(of_images("taylor", h, g), (h * g).abs().sum(1))  # tokens first, then the absolute value


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("balanced", [False, True])
def test_scores_do_not_depend_on_the_batch_size(criterion, balanced, x):
    vit = with_head(small_vit())
    each = [channel_scores(vit, split(x, LABELS, n), criterion=criterion, balanced=balanced) for n in (1, 4, 6)]
    for other in each[1:]:
        torch.testing.assert_close(other, each[0], rtol=1e-4, atol=1e-7)
    assert each[0].shape == (3, 48) and each[0].dtype == torch.float64


def test_variants(x):
    vit = with_head(small_vit())
    one = torch.stack([channel_scores(vit, [(x[i : i + 1], LABELS[i : i + 1])]) for i in range(6)])
    torch.testing.assert_close(channel_scores(vit, [(x, LABELS)]), one.mean(0), rtol=1e-4, atol=1e-7)
    classes = torch.stack([one[LABELS == k].mean(0) for k in range(3)])
    torch.testing.assert_close(
        channel_scores(vit, [(x, LABELS)], balanced=True), classes.mean(0), rtol=1e-4, atol=1e-7
    )
    assert not torch.allclose(classes.mean(0), one.mean(0))
    patches = channel_scores(vit, [(x, LABELS)], prefix=False)
    assert not torch.allclose(patches, one.mean(0))
    assert not patches[-1].any() and one[:, -1].any()  # the head reads CLS: patches are without effect after attention
    h = []
    vit.blocks[1].norm2.register_forward_pre_hook(lambda module, args: h.append(args[0].detach()))
    vit(x)
    salience = torch.stack([h[0][LABELS == k].flatten(0, 1).norm(dim=0) for k in range(3)]).mean(0)
    torch.testing.assert_close(
        channel_scores(vit, [(x, LABELS)], criterion="l2")[1], salience.double(), rtol=1e-4, atol=1e-6
    )


@torch.no_grad()
def salience_by_hand(vit, x, labels, placement):
    """SCT's rule in numpy, as its code has it: features of patches; for each class the l2 norm; the mean of these."""
    features, z = [], vit._pos_embed(vit.patch_embed(x))
    for block in vit.blocks:
        qkv = block.attn.qkv(block.norm1(z))
        z = z + block.attn.proj(attention_core(block, qkv))
        stream = z
        z = z + block.mlp(block.norm2(z))
        D = z.shape[-1]
        features += {"residual": [stream], "mlp": [z], "qv": [qkv[..., :D], qkv[..., -D:]]}[placement]
    scores = []
    for h in features:
        patches, y = h[:, vit.num_prefix_tokens :].double().numpy(), labels.numpy()
        norms = [np.sqrt((patches[y == label].reshape(-1, D) ** 2).sum(0)) for label in np.unique(y)]
        scores.append(np.mean(norms, axis=0))
    return torch.from_numpy(np.stack(scores))


@pytest.mark.parametrize("tokens", [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("prefix", [True, False])
def test_sct_is_scts_rule(placement, tokens, prefix, x):
    """On the plain backbone, which has no head; whatever the size of the batches, with prefix tokens or not."""
    vit, labels = small_vit(**tokens), torch.tensor([7, 1, 2, 7, 1, 7])
    expected = salience_by_hand(vit, x, labels, placement)
    for size in (1, 4, 6):
        found = channel_scores(vit, split(x, labels, size), placement, "sct", prefix=prefix)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in vit.modules())
    assert not any(p.requires_grad for p in vit.parameters())


def test_l2_is_ours_and_sct_is_scts(x):
    """They agree without prefix tokens, but for the MLP, where SCT scores what leaves the block."""
    vit = with_head(small_vit())
    for placement in PLACEMENTS:
        sct, ours, with_cls = (
            channel_scores(vit, [(x, LABELS)], placement, criterion, prefix=prefix)
            for criterion, prefix in (("sct", True), ("l2", False), ("l2", True))
        )
        assert torch.equal(sct, ours) == (placement != "mlp") and not torch.allclose(ours, with_cls)


def test_fit_chooses_by_scts_rule_on_the_plain_backbone(tiny_task):
    """As SCT does: no alignment, so what is scored is the backbone as it was pre-trained."""
    from peftlab.backbones.preprocess import prepare
    from peftlab.backbones.protocols import get_protocol

    options = {"criterion": "sct", "align": False, "init": "normal", "placement": "mlp", "channels": 5}
    model = attach(small_vit(), "two_stage", 3, **options)
    fit(model, tiny_task, **SETTINGS)
    pixels = tiny_task.pixels("train800val200", (32, 32))
    x = prepare(pixels, model.vit, get_protocol("peftlab").preprocessing, torch.device("cpu"))
    expected = salience_by_hand(small_vit(), x, torch.from_numpy(tiny_task.labels("train800val200")), "mlp")
    for block, row in zip(model.vit.blocks, expected, strict=True):
        assert set(block.mlp.after.indices.tolist()) == set(row.topk(5).indices.tolist())


def test_scoring_leaves_nothing_behind(x):
    for vit in (with_head(small_vit()), attach(small_vit(), "linear", CLASSES).vit):
        before = {name: t.clone() for name, t in vit.state_dict().items()}
        scores = channel_scores(vit, [(x, LABELS)])  # the second has no trained tensor before the head
        assert scores.gt(0).all()
        assert all(torch.equal(t, before[name]) for name, t in vit.state_dict().items())
        assert all(p.grad is None for p in vit.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in vit.modules())
    with pytest.raises((RuntimeError, AssertionError)):
        channel_scores(vit, [(x[..., :7, :7], LABELS)])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in vit.modules())
    with pytest.raises(PeftlabError, match="unknown criterion 'tailor'; did you mean 'taylor'"):
        channel_scores(vit, [], criterion="tailor")
    with pytest.raises(PeftlabError, match="unknown placement 'resdual'; did you mean 'residual'"):
        places(vit, "resdual")


# --- against brute force ---


@pytest.mark.parametrize(("placement", "block"), [("residual", 0), ("mlp", 1)])
def test_small_steps_are_ranked_as_brute_force_ranks_them(placement, block):
    """All channels of one layer of the embedded backbone's first three blocks, each scaled to 0.99 in turn."""
    torch.manual_seed(0)
    vit = attach(shallow(img_size=32), "linear", CLASSES).vit.double()  # else differences drown in rounding
    x, y = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    scores, truth = channel_scores(vit, [(x, y)], placement)[block], removal(vit, x, y, block, placement, step=0.01)
    assert spearmanr(scores, truth).statistic > 0.95
    torch.testing.assert_close(truth, 0.01 * scores, rtol=0.2, atol=1e-6)


def test_removal_changes_the_skip_path_too(x):
    """The stream's channel is gone for LN2 and for everything behind it; hooks are gone as well."""
    vit = with_head(small_vit())
    found = removal(vit, x, LABELS, block=1)
    z = vit._pos_embed(vit.patch_embed(x))
    z = vit.blocks[0](z)
    b = vit.blocks[1]
    z = z + b.attn(b.norm1(z))
    for channel in (0, 7):
        cut = z.clone()
        cut[..., channel] = 0
        losses = []
        for start in (z, cut):
            out = vit.blocks[2](start + b.mlp(b.norm2(start)))
            losses.append(F.cross_entropy(vit.head(vit.norm(out)[:, 0]), LABELS, reduction="none"))
        torch.testing.assert_close(found[channel], (losses[1] - losses[0]).abs().mean().detach())
    assert not any(m._forward_pre_hooks for m in vit.modules())


# --- selection ---


def test_exactly_k_are_chosen_and_ties_go_to_the_lower_index():
    scores = torch.tensor([[1.0, 3, 3, 3, 2], [5, 5, 5, 5, 5]])
    assert [c.tolist() for c in choose(scores, 2)] == [[1, 2], [0, 1]]
    assert [c.tolist() for c in choose(scores, 2, order="bottom")] == [[0, 4], [0, 1]]
    ties = torch.ones(4, 1000)
    assert all(c.tolist() == list(range(96)) for c in choose(ties, 96))


def test_a_global_budget_compares_layers_after_normalising_them():
    scores = torch.tensor([[100.0, 100, 100, 100], [1, 0, 0, 0]])  # large, but all alike
    chosen = choose(scores, 1, budget="global")
    assert [c.tolist() for c in chosen] == [[0], [0]] and sum(map(len, choose(scores, 2, budget="global"))) == 4
    assert [c.tolist() for c in choose(torch.tensor([[1.0, 1, 1, 1], [9, 8, 0, 0]]), 1, budget="global")] == [
        [],
        [0, 1],
    ]


# --- the module ---


@pytest.mark.parametrize("init", ["zero", "normal"])
def test_untouched_channels_pass_bit_for_bit(init):
    torch.manual_seed(0)
    chosen = torch.tensor([1, 4, 5])
    module, x = ChannelMap(chosen, init), torch.randn(2, 7, 9)
    nn.init.normal_(module.u)
    y, rest = module(x), [i for i in range(9) if i not in chosen]
    assert torch.equal(y[..., rest], x[..., rest])
    torch.testing.assert_close(y[..., chosen], x[..., chosen] + x[..., chosen] @ module.U.T + module.u)
    assert bool(module.U.any()) == (init == "normal") and module.U.shape == (3, 3)
    assert torch.autograd.gradcheck(module.double(), (x.double().requires_grad_(),))


@pytest.mark.parametrize("placement", ["residual", "mlp", "qv"])
def test_equation(placement, x):
    model = tuned(small_vit(), "two_stage", placement=placement, channels=5)
    vit = model.vit

    def changed(m, u):
        u = u.clone()
        u[..., m.indices] = u[..., m.indices] + u[..., m.indices] @ m.U.T + m.u
        return u

    z = vit._pos_embed(vit.patch_embed(x))
    for block in vit.blocks:
        attn = block.attn
        linear = attn.qkv.base if placement == "qv" else attn.qkv
        qkv = linear(block.norm1(z))
        if placement == "qv":
            for m in attn.qkv.after:
                qkv = changed(m, qkv)
            assert [m.indices.tolist() for m in attn.qkv.after] == [list(range(5)), list(range(96, 101))]
        q, k, v = qkv.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        z = z + attn.proj(((q @ k.transpose(-2, -1) / 24**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))
        z = changed(block.channels, z) if placement == "residual" else z
        m = (
            block.mlp(block.norm2(z))
            if placement != "mlp"
            else changed(block.mlp.after, block.mlp.base(block.norm2(z)))
        )
        z = z + m
    torch.testing.assert_close(vit.forward_features(x), vit.norm(z), atol=1e-4, rtol=1e-4)


def test_only_a_map_on_the_stream_cannot_be_merged(x):
    with pytest.raises(NotMergeable, match="two_stage cannot be merged: U also acts on the skip path"):
        attach(small_vit(), "two_stage", CLASSES).merge()
    for placement in ("mlp", "qv"):
        model = tuned(small_vit(), "two_stage", placement=placement)
        torch.testing.assert_close(model.merge()(x), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "placement", "options"),
    [
        ("two_stage", "qv", {"qkv_bias": False}),
        ("two_stage", "mlp", {"proj_bias": False}),
        ("sct", "mlp", {"proj_bias": False}),
    ],
)
def test_a_map_before_which_no_bias_stands_is_not_merged(name, placement, options):
    with pytest.raises(NotMergeable, match=f"{name}: .* has no bias, into which the map's u could be merged"):
        tuned(small_vit(**options), name, placement=placement).merge()


def test_nor_on_an_eva_without_biases():
    small = {"img_size": 48, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 0}
    vit = as_vit(random_timm("vit_small_patch16_dinov3", **small))
    with pytest.raises(NotMergeable, match=r"two_stage: .* has no bias"):
        tuned(vit, "two_stage", placement="qv").merge()


@torch.no_grad()
def test_pooled_features_start_bit_for_bit_without_a_cls_token(x):
    """There the tokens of an image lie transposed in memory, and sums of another layout round otherwise."""
    vit = small_vit(class_token=False, global_pool="avg")
    for p in vit.parameters():
        p.add_(torch.randn_like(p), alpha=0.1)
    model = attach(vit, "two_stage", CLASSES)
    assert not run_stages(vit, x, stop=2).is_contiguous()
    assert torch.equal(run_stages(model.vit, x, stop=-1), run_stages(vit, x, stop=-1))


# --- both stages in one call ---


SETTINGS = {"epochs": 2, "batch_size": 12, "device": "cpu"}


def test_fit_runs_both_stages_and_the_ledger_has_both(tiny_task):
    model = attach(small_vit(), "two_stage", 3, channels=6)
    run = fit(model, tiny_task, **SETTINGS)
    table = read_ledger().set_index("method")
    assert set(table.index) == {"norm", "two_stage"} and table.loc["two_stage", "before"] == run.before.folder.name
    assert run.record["parameters"] == 7 * 2 * 48 + 3 * (36 + 6) == model.method.count(model.backbone)
    assert run.model.method == create_method("two_stage", channels=6)
    assert 0 <= run.before.evaluate("test") <= 1 and run.before.record["method"] == "norm"


def test_stage_two_starts_exactly_at_stage_ones_model(tiny_task, x, monkeypatch):
    import peftlab.training.fit as training

    model, logits = attach(small_vit(), "two_stage", 3), {}
    train = training.train_classifier

    def spy(run):
        if run.model.method.name == "two_stage":
            logits["start"] = run.model.eval()(x)
            logits["trained"] = {n for n, p in run.model.vit.named_parameters() if p.requires_grad}
        return train(run)

    monkeypatch.setattr(training, "train_classifier", spy)
    run = fit(model, tiny_task, **SETTINGS)
    assert torch.equal(logits["start"], run.before.model(x))
    parts = {f"blocks.{i}.channels.{p}" for i in range(3) for p in "Uu"}
    assert logits["trained"] == parts | {"head.weight", "head.bias"}
    for name, p in run.before.model.vit.named_parameters():
        if "norm" in name:
            assert torch.equal(p, model.vit.get_parameter(name))  # the norms stayed frozen
    assert all(p.requires_grad for n, p in model.vit.named_parameters() if "norm" in n)


@pytest.mark.parametrize("last_blocks", [None, 2])
def test_the_chosen_channels_are_the_top_ones_of_stage_ones_model(last_blocks, tiny_task):
    from peftlab.backbones.preprocess import prepare
    from peftlab.backbones.protocols import get_protocol

    model = attach(small_vit(), "two_stage", 3, channels=4, last_blocks=last_blocks)
    run = fit(model, tiny_task, **SETTINGS)
    pixels = tiny_task.pixels("train800val200", (32, 32))
    x = prepare(pixels, model.vit, get_protocol("peftlab").preprocessing, torch.device("cpu"))
    scores = channel_scores(run.before.model.vit, [(x, torch.from_numpy(tiny_task.labels("train800val200")))])
    tuned_blocks = list(model.vit.blocks)[-(last_blocks or 3) :]
    for block, row in zip(tuned_blocks, scores[-len(tuned_blocks) :], strict=True):
        assert set(block.channels.indices.tolist()) == set(row.topk(4).indices.tolist())


@pytest.mark.parametrize("options", [{"criterion": "random"}, {"init": "normal"}])
def test_what_is_drawn_follows_the_seed(options, x):
    """The channels of the control, and SCT's start."""

    def begun(seed):
        model = attach(small_vit(), "two_stage", 3, channels=6, **options)
        model.method.begin(model.vit, with_head(small_vit()), [(x, LABELS)], seed)
        return [t for block in model.vit.blocks for t in (block.channels.indices, block.channels.U)]

    first, again, other = begun(0), begun(0), begun(1)
    same, differs = ([torch.equal(a, b) for a, b in zip(first, each, strict=True)] for each in (again, other))
    assert all(same) and not all(differs)


def test_fit_draws_with_the_seed_of_the_run(tiny_task, x):
    drawn, expected = (attach(small_vit(), "two_stage", 3, channels=6, criterion="random") for _ in range(2))
    fit(drawn, tiny_task, seed=7, **SETTINGS)
    expected.method.begin(expected.vit, with_head(small_vit()), [(x, LABELS)], 7)
    for block, by_hand in zip(drawn.vit.blocks, expected.vit.blocks, strict=True):
        assert torch.equal(block.channels.indices, by_hand.channels.indices)


def test_scores_are_those_of_the_model_at_rest(x):
    vit = with_head(small_vit(drop_path_rate=0.5))
    at_rest = channel_scores(vit.eval(), [(x, LABELS)])
    assert torch.equal(channel_scores(vit.train(), [(x, LABELS)]), at_rest)


def test_a_first_stage_begins_with_the_head_of_the_second_and_is_evaluated_at_its_end(tiny_task):
    model = attach(small_vit(), "two_stage", 3, channels=4, seed=3)
    assert torch.equal(first_stage(model).vit.head.weight, model.vit.head.weight)
    run = fit(model, tiny_task, evaluate_each_epoch=["test"], **SETTINGS)
    assert "test_accuracy" in run.curves and "test_accuracy" not in run.before.curves


@pytest.mark.parametrize("options", [{}, {"budget": "global"}, {"placement": "qv"}, {"align": False}])
def test_saved_models_come_back(options, tiny_task, x):
    model = attach(small_vit(), "two_stage", 3, channels=6, **options)
    run = fit(model, tiny_task, **SETTINGS)
    assert torch.equal(load_adapter(model.backbone, run.folder)(x), model(x))
    assert (sum(model.method.sizes) == 3 * 6) == (options.get("budget") == "global")
    assert run.before.record["method"] == ("linear" if options.get("align") is False else "norm")


@pytest.mark.parametrize("options", [{}, {"budget": "global"}])
def test_a_finished_run_is_reused(options, tiny_task, x, monkeypatch):
    """The model that is passed in becomes the trained one, its first stage is found, and nothing is trained."""
    import peftlab.training.fit as training

    first = fit(attach(small_vit(), "two_stage", 3, channels=6, **options), tiny_task, **SETTINGS)
    monkeypatch.setattr(training, "train_classifier", lambda run: pytest.fail("trained again"))
    model = attach(small_vit(), "two_stage", 3, channels=6, **options)
    again = fit(model, tiny_task, reuse=True, **SETTINGS)
    assert again.folder == first.folder and again.before.folder == first.before.folder
    assert torch.equal(model(x), first.model(x)) and torch.equal(again.before.model(x), first.before.model(x))


def test_a_failing_second_stage_can_be_tried_again(tiny_task, monkeypatch):
    import peftlab.training.fit as training

    model, train = attach(small_vit(), "two_stage", 3, budget="global"), training.train_classifier

    def fail(run):
        return train(run) if run.model.method.name == "norm" else 1 / 0

    monkeypatch.setattr(training, "train_classifier", fail)
    with pytest.raises(ZeroDivisionError):
        fit(model, tiny_task, **SETTINGS)
    assert all(p.requires_grad for n, p in model.vit.named_parameters() if "norm" in n)
    assert model.method == create_method("two_stage", budget="global")  # the same call is the same run
    monkeypatch.setattr(training, "train_classifier", train)
    run = fit(model, tiny_task, **SETTINGS)
    assert run.record["parameters"] == model.method.count(model.backbone) and sum(model.method.sizes) == 3 * 6


@pytest.mark.parametrize("stage", [1, 2])
def test_an_interrupted_fit_goes_on_within_and_between_stages(stage, tiny_task, tmp_path, monkeypatch):
    import peftlab.training.loop as training

    def run(folder):
        return fit(attach(small_vit(), "two_stage", 3), tiny_task, runs=tmp_path / folder, **SETTINGS)

    whole, calls, save = run("whole"), [], training.save_state

    def interrupted(*args):
        save(*args)
        calls.append(1)
        if len(calls) == {1: 1, 2: 3}[stage]:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.setattr(training, "save_state", save)
    epochs = []
    monkeypatch.setattr(training, "save_state", lambda *args: (save(*args), epochs.append(1)))
    again = run("parts")
    assert len(epochs) == {1: 3, 2: 1}[stage]  # nothing is done twice
    for (name, a), b in zip(again.model.vit.state_dict().items(), whole.model.vit.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_shared_budget_can_be_shared_out_again(x):
    """From a model that has its sizes already, as a loaded one does: as many channels as at first."""
    once = create_method("two_stage", budget="global", sizes=(1, 6, 11))
    again, _ = once.begin(attach(small_vit(), once, CLASSES).vit, with_head(small_vit()), [(x, LABELS)])
    first = create_method("two_stage", budget="global")
    fresh, _ = first.begin(attach(small_vit(), first, CLASSES).vit, with_head(small_vit()), [(x, LABELS)])
    assert again == fresh and sum(again.sizes) == 3 * 6


def test_variants_share_their_first_stage(tiny_task):
    for options in ({}, {"criterion": "random"}, {"order": "bottom"}, {"channels": 3}):
        fit(attach(small_vit(), "two_stage", 3, **options), tiny_task, **SETTINGS)
    assert read_ledger()["method"].value_counts().to_dict() == {"two_stage": 4, "norm": 1}


def test_gist_does_not_wrap_two_stages():
    with pytest.raises(PeftlabError, match="gist cannot be put around 'two_stage'"):
        create_method("gist", base_method="two_stage")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"channels": 49}, "channels is 49.*the width, 48"),
        ({"criterion": "tailor"}, "unknown criterion 'tailor'; did you mean 'taylor'"),
        ({"placement": "residuals"}, "unknown placement 'residuals'; did you mean 'residual'"),
        ({"budget": "both"}, "unknown budget 'both'"),
        ({"sizes": (6, 6, 6)}, r"sizes \(6, 6, 6\) .* budget='global'"),
        ({"sizes": (9, 9), "budget": "global"}, r"sizes \(9, 9\) .* 3 places"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(PeftlabError, match=message):
        attach(small_vit(), "two_stage", CLASSES, **options)


@pytest.mark.parametrize("name", ["two_stage", "parallel"])
def test_blocks_of_another_kind_are_named(name):
    from timm.models.vision_transformer import ResPostBlock

    with pytest.raises(PeftlabError, match=f"{name} needs timm's plain Block, but this backbone has ResPostBlock"):
        attach(small_vit(block_fn=ResPostBlock), name, CLASSES)
