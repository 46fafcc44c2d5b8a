"""GIST: where the token stands, what the loss is, and that it survives every base method."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support import agree, by_hand, small_vit, tuned
from timm.models.vision_transformer import VisionTransformer

from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, attach, create_method, load_adapter
from peftlab.methods.gist import kl
from peftlab.training.fit import fit
from peftlab.training.loop import parameter_groups

CLASSES = 3


@pytest.fixture
def x():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 1, 2, 0])


def logits(seed, scale=2.0, n=6, dtype=torch.float64):
    return scale * torch.randn(n, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- the token ---


def test_the_token_is_second_of_198():
    vit = VisionTransformer(224, 16, embed_dim=24, depth=2, num_heads=2, num_classes=0).requires_grad_(False)
    model, seen = attach(vit, "gist", CLASSES, base_method="linear"), []
    for block in model.vit.blocks:
        block.norm1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    out = model.vit.forward_features(torch.randn(2, 3, 224, 224))
    assert [s.shape[1] for s in seen] == [198, 198] and out.shape[1] == 197
    token = model.vit.blocks[0].gist.token
    assert token.shape == (1, 1, 24) and torch.equal(seen[0][:, 1], token[0].expand(2, -1))  # no position embedding
    assert -0.5 <= token.min() < -0.3 and 0.3 < token.max() <= 0.5


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 4}, {"class_token": False, "global_pool": "avg"}])
@pytest.mark.parametrize("base_method", ["linear", "vpt"])
def test_gist_equation(options, base_method, x):
    """A plain ViT over [cls, gist, registers, prompts, patches]; patches alone are pooled where the backbone pools."""
    backbone = small_vit(**options)
    model = tuned(backbone, "gist", base_method=base_method)
    prefix, at = backbone.num_prefix_tokens, int(backbone.has_class_token)
    gist = model.vit.blocks[0].gist.token.expand(4, -1, -1)

    def enter(i, z):
        if i == 0:
            z = torch.cat([z[:, :at], gist, z[:, at:]], 1)
        if base_method == "vpt":
            prompts = model.vit.blocks[i].prompts.tokens.expand(4, -1, -1)
            z = torch.cat([z[:, : prefix + 1], prompts, z[:, prefix + 1 :]], 1)
        return z

    def leave(i, z):
        return torch.cat([z[:, : prefix + 1], z[:, prefix + 1 + 5 :]], 1) if base_method == "vpt" else z

    z = by_hand(model, x, enter=enter, leave=leave)
    agree(model, torch.cat([z[:, :at], z[:, at + 1 :]], 1), x)
    model(x)
    torch.testing.assert_close(
        model.method.gist_logits(model.vit), model.vit.head(backbone.fc_norm(z[:, at])), atol=1e-4, rtol=1e-4
    )


def test_tokens_stand_in_order():
    """[cls, gist, registers, prompts, patches]: attention would not mind another order, but its pictures would."""
    model, seen = attach(small_vit(reg_tokens=4), "gist", CLASSES, base_method="vpt"), []
    first = model.vit.blocks[0]
    first.norm1.register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    x = torch.randn(1, 3, 32, 32)
    model(x)
    plain = model.vit._pos_embed(model.vit.patch_embed(x))[0]
    expected = [plain[:1], first.gist.token[0], plain[1:5], first.prompts.tokens, plain[5:]]
    assert torch.equal(seen[0], torch.cat(expected))


def test_dropout_differs_between_images_and_only_in_training(x):
    model = attach(small_vit(), "gist", CLASSES, base_method="linear", dropout=0.8)
    gist = model.vit.blocks[0].gist
    tokens = torch.zeros(4, 17, 48)
    assert torch.equal(gist.enter(None, (tokens,))[0][:, 1], gist.token[0].expand(4, -1))
    model.train()
    inside = gist.enter(None, (tokens,))[0][:, 1]
    assert not torch.equal(inside[0], inside[1]) and 0.7 < (inside == 0).float().mean() < 0.9
    torch.testing.assert_close(inside[inside != 0], (gist.token[0] / (1 - 0.8)).expand(4, -1)[inside != 0])
    assert create_method("gist").dropout == 0.1  # as released


def test_the_token_is_decayed_as_a_matrix():
    model = attach(small_vit(), "gist", CLASSES, base_method="linear")
    decayed, spared = parameter_groups(model, 0.1)
    assert any(p is model.vit.blocks[0].gist.token for p in decayed["params"])
    assert all(p is not model.vit.blocks[0].gist.token for p in spared["params"])


# --- the loss ---


def terms(cls, gist, **options):
    """The loss of a method whose two branches gave these logits."""
    method = create_method("gist", base_method="linear", **options)
    object.__setattr__(method, "gist_logits", lambda vit: gist)
    return method.loss(small_vit(), cls, torch.arange(len(cls)) % CLASSES)


def test_equal_logits_cost_one_and_a_half_cross_entropies():
    cls = logits(0, dtype=torch.float32)
    found = terms(cls, cls.clone())
    torch.testing.assert_close(found["loss"], 1.5 * F.cross_entropy(cls, torch.arange(6) % CLASSES))
    assert found["kl_cls_gist"] == found["kl_gist_cls"] == 0 and found["agreement"] == 1


def test_loss_is_the_released_one():
    """Written as the paper's code has it: softmax with T = 3, batchmean, no factor of T squared."""
    cls, gist, y = logits(0, dtype=torch.float32), logits(1, dtype=torch.float32), torch.arange(6) % CLASSES
    p, q = (cls / 3).softmax(-1), (gist / 3).softmax(-1)
    forward, backward = ((p * (p / q).log()).sum(1).mean(), (q * (q / p).log()).sum(1).mean())
    expected = F.cross_entropy(cls, y) + 0.5 * F.cross_entropy(gist, y) + 0.75 * forward + 0.75 * backward
    found = terms(cls, gist)
    torch.testing.assert_close(found["loss"], expected)
    torch.testing.assert_close(found["kl_cls_gist"], forward)
    torch.testing.assert_close(found["kl_gist_cls"], backward)
    assert found["kl_cls_gist"] != found["kl_gist_cls"]
    assert found["gist_accuracy"] == (gist.argmax(1) == y).float().mean()


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_both_directions_sum_to_the_jeffreys_divergence(temperature):
    a, b = logits(2), logits(3)
    p, q = (a / temperature).softmax(-1), (b / temperature).softmax(-1)
    closed = ((p - q) * (p.log() - q.log())).sum(-1).mean()
    torch.testing.assert_close(kl(a, b, temperature) + kl(b, a, temperature), closed)


def test_gradients_reach_both_sides_and_are_right():
    a, b = logits(4).requires_grad_(), logits(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: kl(a, b, 3.0), (a, b))
    for side in torch.autograd.grad(kl(a, b, 3.0), (a, b)):
        assert (side.abs().sum(1) > 0).all()


def test_extreme_logits_stay_finite():
    a = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, -1e4]]).requires_grad_()
    b = torch.tensor([[-1e4, 1e4, 0.0], [0.0, -1e4, 0.0]]).requires_grad_()
    found = terms(a, b)
    assert all(torch.isfinite(term) for term in found.values())
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found["loss"], (a, b)))


def test_switches_reduce_to_the_right_losses():
    cls, gist, y = logits(0, dtype=torch.float32), logits(1, dtype=torch.float32), torch.arange(6) % CLASSES
    ce = F.cross_entropy(cls, y)
    off = {"ce_gist": 0.0, "kl_cls_gist": 0.0, "kl_gist_cls": 0.0}
    torch.testing.assert_close(terms(cls, gist, **off)["loss"], ce)
    torch.testing.assert_close(terms(cls, gist, **off | {"ce_gist": 0.5})["loss"], ce + 0.5 * F.cross_entropy(gist, y))
    torch.testing.assert_close(terms(cls, gist, **off | {"kl_cls_gist": 2.0})["loss"], ce + 2 * kl(cls, gist, 3.0))
    torch.testing.assert_close(terms(cls, gist, **off | {"kl_gist_cls": 2.0})["loss"], ce + 2 * kl(gist, cls, 3.0))


def test_prediction_needs_the_cls_branch_alone(x, monkeypatch):
    model = attach(small_vit(), "gist", CLASSES, base_method="lora")
    before = model(x)
    monkeypatch.setattr(METHODS["gist"], "gist_logits", lambda self, vit: 1 / 0)
    assert torch.equal(model(x), before)
    with torch.no_grad():
        model.vit.blocks[0].gist.token.add_(1)
    assert not torch.equal(model(x), before)  # but the token stays in the sequence


# --- base methods ---


@pytest.mark.parametrize("base_method", sorted(METHODS.keys() - {"gist", "two_stage"}))
def test_every_base_method_trains_with_the_token(base_method, x):
    model = attach(small_vit(), "gist", CLASSES, base_method=base_method).train()
    assert model.method_parameters == model.method.base_method.count(model.backbone) + 48
    found = model.loss(model(x), LABELS)
    found["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    assert model.vit.blocks[0].gist.token.grad.abs().sum() > 0
    copy.deepcopy(model)  # takes no activations with it


@pytest.mark.parametrize("kind", ["lora", "bitfit", "ia3"])
def test_the_gist_is_a_prefix_token_for_its_base_method_when_counting_too(kind):
    """Without others, contexts that tell prefix tokens from patches exist only because of the gist."""
    vit = small_vit(class_token=False, global_pool="avg")
    model = attach(vit, "gist", CLASSES, base_method="context_peft", kind=kind)
    assert model.method_parameters == model.method.count(vit)
    assert vit.num_prefix_tokens == model.vit.num_prefix_tokens == 0


def test_options_go_where_they_belong(tmp_path, x):
    method = create_method("gist", base_method="lora", rank=2, temperature=10, last_blocks=1)
    assert (method.base_method.rank, method.base_method.last_blocks, method.temperature) == (2, 1, 10.0)
    assert create_method("gist", **method.options()) == method
    assert create_method("gist").base_method.name == "adaptformer"
    assert create_method("gist", base_method="convpass").lr == METHODS["convpass"].lr != METHODS["gist"].lr
    model = attach(small_vit(), method, CLASSES)
    assert torch.equal(load_adapter(model.backbone, model.save(tmp_path / "a"))(x), model(x))
    for options, message in [
        ({"base_method": "lorra"}, "gist cannot be put around 'lorra'; did you mean 'lora'"),
        ({"base_method": "gist"}, "gist cannot be put around 'gist'"),
        ({"base_method": "lora", "ranks": 3}, "neither gist nor lora has an option 'ranks'; did you mean 'rank'"),
        ({"base_method": "lora", "rank": 0}, "rank is 0"),
        ({"temprature": 3.0}, "did you mean 'temperature'"),
    ]:
        with pytest.raises(PeftlabError, match=message):
            attach(small_vit(), "gist", CLASSES, **options)


def test_curves_show_both_branches(tiny_task, capsys):
    model = attach(small_vit(), "gist", CLASSES, base_method="lora")
    run = fit(model, tiny_task, epochs=2, batch_size=12, device="cpu")
    wanted = {"ce_cls", "ce_gist", "kl_cls_gist", "kl_gist_cls", "gist_accuracy", "agreement"}
    assert wanted <= set(run.curves.columns) and run.curves[list(wanted)].notna().all(axis=None)
    again = run.curves
    expected = again["ce_cls"] + 0.5 * again["ce_gist"] + 0.75 * (again["kl_cls_gist"] + again["kl_gist_cls"])
    assert again["loss"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)
    assert '"base_method": "lora"' in run.record["options"]


def test_command_line_names_the_base_method(tiny_task, capsys, monkeypatch):
    monkeypatch.setattr("peftlab.tasks.load.load_task", lambda *a: tiny_task)
    assert main(["fit", "gist", "tiny", "-o", "base_method=lora", "-o", "rank=2", "--epochs", "1"]) == 0
    assert "gist on" in capsys.readouterr().out


def test_the_released_adapter_is_used_twice(x):
    """A sees the un-normalised stream, before attention and before the MLP, and is not under LayerScale."""
    backbone = small_vit(init_values=0.5)
    model = tuned(backbone, "parallel")

    def A(i, z):
        m = model.vit.blocks[i].parallel
        return 0.1 * (F.gelu(z @ m.down.weight.T + m.down.bias) @ m.up.weight.T + m.up.bias)

    z = backbone._pos_embed(backbone.patch_embed(x))
    for i, block in enumerate(backbone.blocks):
        z = z + block.ls1(block.attn(block.norm1(z))) + A(i, z)
        z = z + block.ls2(block.mlp(block.norm2(z))) + A(i, z)
    agree(model, backbone.norm(z), x)
