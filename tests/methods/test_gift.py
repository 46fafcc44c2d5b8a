"""GIFT: what its generators compute, that all layers share them, and that they cost nothing after merging."""

import pytest
import torch
import torch.nn.functional as F
from support import agree, attention_core, by_hand, generator_of, small_vit, tuned
from timm.models.vision_transformer import VisionTransformer

from peftlab.common.errors import PeftlabError
from peftlab.methods import attach, load_adapter
from peftlab.methods.gift import HyperBlock, PaCa, l2

CLASSES = 3
KINDS = ("gift", "gift_linear")


@pytest.fixture
def x():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def psi(generator):
    return generator.recover.weight.T


def paca(clusters=7, heads=1, clustering="sigmoid", width=6):
    torch.manual_seed(0)
    return PaCa(width, clusters, heads, clustering).double()


def tokens(layers=2, rows=10, width=6):
    return torch.randn(layers, rows, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# --- the equations ---


def test_linear_form_multiplies_the_weight_from_the_right(x):
    """W (I + phi psi), applied to images, and not (I + phi psi) W; the same phi and psi in every block."""
    model = tuned(small_vit(), "gift_linear", rank=4)
    g, backbone = generator_of(model), model.backbone
    mix = torch.eye(48) + g.reduce.weight.T @ psi(g)

    def attention(right, left):
        def run(i, u):
            attn = backbone.blocks[i].attn
            return (
                attention_core(backbone.blocks[i], attn.qkv(u)) @ (left @ attn.proj.weight @ right).T + attn.proj.bias
            )

        return run

    agree(model, by_hand(model, x, attention(mix, torch.eye(48))), x)
    with pytest.raises(AssertionError):
        agree(model, by_hand(model, x, attention(torch.eye(48), mix)), x)


def test_linear_form_is_one_adapter_on_the_input(x):
    """W (x + phi psi x) + b, as the docstring says."""
    model = tuned(small_vit(), "gift_linear", rank=4)
    layer, u = model.vit.blocks[2].attn.proj, torch.randn(5, 48)
    g = generator_of(model)
    model(x)
    torch.testing.assert_close(layer(u), layer.base(u + u @ psi(g).T @ g.reduce.weight), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("clustering", ["sigmoid", "softmax"])
@pytest.mark.parametrize("position", [False, True])
def test_generator_equation(clustering, position, x):
    """Two hyper-blocks, two heads, written out layer by layer in plain tensor code."""
    model = tuned(
        small_vit(), "gift", rank=6, clusters=7, hyper_blocks=2, heads=2, clustering=clustering, position=position
    )
    g = generator_of(model)

    def linear(m, t):
        return t @ m.weight.T + m.bias

    def unit(t):
        return t / t.norm(dim=-1, keepdim=True)

    for layer, delta, clusters in zip(g.layers, g.deltas(), g.clusters(g.weights()), strict=True):
        X = layer.base.weight @ g.reduce.weight.T
        X = X + g.position if position else X
        for block in g.blocks:
            U, m = unit(X), block.attn
            C = linear(m.cluster, U)
            C = 1 / (1 + (-C).exp()) if clustering == "sigmoid" else C.exp() / C.exp().sum(0)
            Z, heads = unit(C.T @ U), []
            for part in (slice(0, 3), slice(3, 6)):
                q, k, v = linear(m.q, U)[:, part], linear(m.k, Z)[:, part], linear(m.v, Z)[:, part]
                A = (q @ k.T / 3**0.5).exp()
                heads.append(A / A.sum(1, keepdim=True) @ v)
            X = X + linear(m.proj, torch.cat(heads, 1))
            X = X + linear(block.mlp.fc2, F.gelu(linear(block.mlp.fc1, unit(X))))
        torch.testing.assert_close(delta, X @ psi(g), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(clusters, C)  # of the last hyper-block
    backbone, deltas = model.backbone, g.deltas()

    def attention(i, u):
        attn = backbone.blocks[i].attn
        return attention_core(backbone.blocks[i], attn.qkv(u)) @ (attn.proj.weight + deltas[i]).T + attn.proj.bias

    expected = by_hand(model, x, attention)
    torch.testing.assert_close(model.vit.forward_features(x), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_paca_equals_torchs_attention_from_tokens_to_clusters(heads):
    module, U = paca(heads=heads), tokens()
    oracle = torch.nn.MultiheadAttention(6, heads, batch_first=True).double()
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([module.q.weight, module.k.weight, module.v.weight]))
        oracle.in_proj_bias.copy_(torch.cat([module.q.bias, module.k.bias, module.v.bias]))
        oracle.out_proj.load_state_dict(module.proj.state_dict())
    Z = module.soft_clusters(U)
    expected, weights = oracle(U, Z, Z, average_attn_weights=False)
    torch.testing.assert_close(module(U), expected)
    torch.testing.assert_close(module.attention(U, Z), weights)


def test_shapes_and_ranges():
    """As in the paper's figures, for ViT-B's width: C 768 x 96, Z 96 x 16, A 768 x 96."""
    module, U = PaCa(16, 96, 1, "sigmoid"), l2(torch.randn(3, 768, 16))
    C, Z = module.assignment(U), module.soft_clusters(U)
    A = module.attention(U, Z)
    assert C.shape == (3, 768, 96) and Z.shape == (3, 96, 16) and A.shape == (3, 1, 768, 96)
    assert 0 < C.min() and C.max() < 1 and not torch.allclose(C.sum(-1), torch.ones(3, 768))
    torch.testing.assert_close(A.sum(-1), torch.ones(3, 1, 768))
    torch.testing.assert_close(Z.norm(dim=-1), torch.ones(3, 96))
    soft = PaCa(16, 96, 1, "softmax").assignment(U)
    torch.testing.assert_close(soft.sum(-2), torch.ones(3, 96))  # over the channels, for each cluster


@pytest.mark.parametrize("clustering", ["sigmoid", "softmax"])
def test_paca_has_the_right_gradients(clustering):
    module = paca(clustering=clustering, heads=2)
    names, values = zip(*module.named_parameters(), strict=True)

    def run(U, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (U,))

    inputs = [tokens(layers=1, rows=5).requires_grad_(), *(v.detach().clone().requires_grad_() for v in values)]
    assert torch.autograd.gradcheck(run, inputs)


def test_layers_do_not_see_one_another():
    torch.manual_seed(0)
    block, X = HyperBlock(6, 7, 2, 2, "sigmoid").double(), tokens(layers=3)
    alone = torch.cat([block(layer[None]) for layer in X])
    torch.testing.assert_close(block(X), alone)


# --- one generator ---


@pytest.mark.parametrize("name", KINDS)
def test_the_generator_is_shared_and_learns_from_every_layer(name):
    model = tuned(small_vit(), name)
    g, depth = generator_of(model), len(model.vit.blocks)
    assert [block.attn.proj.shared[0] for block in model.vit.blocks] == [g] * depth
    trained = [p for p in g.parameters() if p.requires_grad]
    assert {id(p) for p in trained} | {id(p) for p in model.vit.head.parameters()} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    weight = torch.randn(48, 48, generator=torch.Generator().manual_seed(3))
    each = [torch.autograd.grad((delta * weight).sum(), trained, retain_graph=True) for delta in g.deltas()]
    assert all(grad.abs().sum() > 0 for grads in each for grad in grads)
    together = torch.autograd.grad((g.deltas() * weight).sum(), trained)
    for total, *parts in zip(together, *each, strict=True):
        torch.testing.assert_close(total, torch.stack(parts).sum(0), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_changes_are_generated_once_a_pass_for_any_batch(name, x):
    model, calls = attach(small_vit(), name, CLASSES), []
    generator_of(model).register_forward_hook(lambda module, args, out: calls.append(tuple(out.shape)))
    for n in (1, 4):
        model(x[:n])
    assert calls == [(3, 48, 16)] * 2  # all layers at once
    generator_of(model).recover.weight.data.normal_()
    torch.testing.assert_close(model(x[:1]), model(x)[:1], atol=1e-4, rtol=1e-4)


def test_the_first_step_moves_psi_and_the_head_alone(x):
    model = attach(small_vit(), "gift", CLASSES)
    F.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()
    moved = {name for name, p in model.vit.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"blocks.0.shared.generator_o.recover.weight", "head.weight", "head.bias"}


def test_generated_in_full_precision_under_autocast(x):
    model = tuned(small_vit(), "gift", rank=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    assert generator_of(model).tokens.dtype == torch.float32


# --- where it goes ---


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("targets", [("o",), ("qkv",), ("fc1", "fc2"), ("qkv", "o", "fc1", "fc2")])
def test_targets(name, targets, x, tmp_path):
    """Each target has a generator of its own, merged as plain weights that differ from the frozen ones by deltas()."""
    model = tuned(small_vit(), name, targets=targets, rank=4)
    with torch.no_grad():
        for target in targets:
            generator_of(model, target).recover.weight.mul_(0.1)
    assert list(model.vit.blocks[0].shared) == [f"generator_{target}" for target in targets]
    plain, paths = model.merge(), {"o": "attn.proj", "qkv": "attn.qkv", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for i, block in enumerate(plain.blocks):
        for target, path in paths.items():
            change = block.get_submodule(path).weight - model.backbone.blocks[i].get_submodule(path).weight
            expected = generator_of(model, target).deltas()[i] if target in targets else torch.zeros_like(change)
            torch.testing.assert_close(change, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(plain(x), model(x), atol=1e-4, rtol=1e-5)
    assert torch.equal(load_adapter(model.backbone, model.save(tmp_path / "a"))(x), model(x))


def test_merging_leaves_nothing_to_compute(x):
    model = tuned(small_vit(), "gift")
    plain = model.merge()
    assert type(plain) is VisionTransformer
    assert plain.state_dict().keys() == attach(model.backbone, "linear", CLASSES).vit.state_dict().keys()
    assert not [name for name, _ in plain.named_modules() if "shared" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 0}, "clusters is 0, but must be at least 1"),
        ({"hyper_blocks": 0}, "hyper_blocks is 0"),
        ({"heads": 3}, "heads is 3, but must divide the rank, 16"),
        ({"clustering": "softmx"}, "unknown clustering 'softmx'; did you mean 'softmax'"),
        ({"rank": 49}, "rank is 49.*the width, 48"),
        ({"targets": ("q",)}, "unknown target 'q'"),
        ({"cluster": 9}, "no option 'cluster'; did you mean 'clusters'"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(PeftlabError, match=message):
        attach(small_vit(), "gift", CLASSES, **options)


# --- what the notebook says of the change ---


@pytest.mark.parametrize(("scaled", "visible"), [(None, False), (0.5, True)])
def test_a_row_that_all_channels_share_is_seen_only_through_layer_scale(scaled, visible, x):
    """Every reader of the residual stream is a LayerNorm, which takes the mean over channels away."""
    backbone = small_vit(init_values=scaled)
    if scaled:
        for block in backbone.blocks:
            block.ls1.gamma.data.uniform_(0.1, 1)  # equal scales would keep it invisible
    model, row = attach(backbone, "linear", CLASSES), torch.randn(48)
    before = model(x)
    changed = attach(backbone, "full", CLASSES)
    with torch.no_grad():
        for block in changed.vit.blocks:
            block.attn.proj.weight += row
    assert torch.allclose(changed(x), before, atol=1e-4) != visible
