"""Context-PEFT: each token meets the parameters of its own context alone; one context is the usual method."""

import copy

import peft
import pytest
import torch
from support import agree, attention_core, by_hand, small_vit
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from peftlab.backbones.load import load_backbone
from peftlab.captioning.adapt import GivenContexts, sites
from peftlab.captioning.language_model import LanguageModel
from peftlab.captioning.tokens import WordTokenizer
from peftlab.common.errors import NotMergeable, PeftlabError
from peftlab.methods import attach
from peftlab.methods.context_peft import PatchContexts
from peftlab.methods.core.contexts import KINDS, ContextLoRA, ContextVector, count_one, insert, merge_one


def given(numbers, count):
    contexts = GivenContexts(count)
    contexts.numbers = torch.tensor(numbers)
    return contexts


def shaken(module):
    """Every trained parameter moved by chance, so that all of them matter."""
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p += 0.1 * torch.randn_like(p)
    return module


@pytest.fixture
def lm():
    words = [f"w{i}" for i in range(10)]
    return LanguageModel(WordTokenizer(words), width=16, depth=2, heads=2, hidden=24, context_length=32)


@pytest.mark.parametrize("numbers", [[0, 2, 1, 1, 0], [[0, 0, 1, 2, 2], [2, 1, 0, 1, 0]]], ids=["all alike", "each"])
def test_lora_is_the_sum_over_contexts(numbers):
    """Against the equation, one token at a time, for three contexts."""
    contexts = given(numbers, 3)
    layer = shaken(ContextLoRA(nn.Linear(6, 4).requires_grad_(False), ("all",), 2, contexts))
    x, A, B = torch.randn(2, 5, 6), layer.A["all"].view(3, 2, 6), layer.B["all"].view(4, 3, 2)
    each = contexts.numbers.expand(2, 5)
    expected = torch.stack(
        [
            torch.stack([layer.base(x[i, t]) + B[:, each[i, t]] @ A[each[i, t]] @ x[i, t] for t in range(5)])
            for i in range(2)
        ]
    )
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("multiply", [True, False])
def test_vectors_act_on_their_rows_alone(multiply):
    layer = shaken(ContextVector(6, [slice(2, 4), slice(4, 5)], given([1, 0, 1], 2), multiply))
    x = torch.randn(2, 3, 6)
    y = layer(x)
    assert torch.equal(y[..., :2], x[..., :2]) and torch.equal(y[..., 5:], x[..., 5:])
    for t, c in enumerate([1, 0, 1]):
        own = x[:, t, 2:5] * layer.v[c] if multiply else x[:, t, 2:5] + layer.v[c]
        torch.testing.assert_close(y[:, t, 2:5], own)


def test_cost_is_that_of_the_concatenated_ranks():
    """12 tokens through 64 x 64 and rank 3 * 2: forming one context's change alone would cost more than all this."""
    layer = ContextLoRA(nn.Linear(64, 64), ("all",), 2, given([0, 1, 2] * 4, 3))
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(1, 12, 64))
    assert counter.get_total_flops() == 2 * 12 * (64 * 64 + 3 * 2 * (64 + 64))


@pytest.mark.parametrize(
    ("kind", "usual", "options"),
    [
        ("lora", "lora", {"targets": ("q", "k", "v", "o", "fc1", "fc2"), "rank": 3}),
        ("bitfit", "bitfit", {"targets": ("qkv", "o", "fc1", "fc2")}),
        ("ia3", "ia3", {}),
    ],
)
def test_one_context_is_the_usual_method(kind, usual, options):
    """On a ViT: with the same numbers, the same logits, and as many of them."""
    vit, x = load_backbone("test_vit", pretrained=False, img_size=32), torch.randn(2, 3, 32, 32)
    one = shaken(attach(vit, "context_peft", 3, kind=kind, rank=3, contexts="one"))
    other = attach(vit, usual, 3, **options)
    assert one.method_parameters == other.method_parameters
    with torch.no_grad():
        other.vit.head.load_state_dict(one.vit.head.state_dict())
        for a, b in zip(one.vit.blocks, other.vit.blocks, strict=True):
            for path in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
                ours, theirs = a.get_submodule(path), b.get_submodule(path)
                if kind == "lora":
                    for mine, their in ((ours.A, theirs.A), (ours.B, theirs.B)):
                        for p, q in zip(mine.values(), their.values(), strict=True):
                            q.copy_(p)
                elif kind == "bitfit":
                    theirs.bias += ours.after.v[0]
                elif path == "attn.qkv":
                    k, v = ours.after.v[0].chunk(2)
                    theirs.after.l["k"].copy_(k), theirs.after.l["v"].copy_(v)
                elif path == "mlp.fc2":
                    theirs.before.l["ff"].copy_(ours.before.v[0])
    torch.testing.assert_close(one(x), other(x), rtol=1e-5, atol=1e-5)
    assert (one(x) - attach(vit, "linear", 3)(x)).abs().max() > 1e-2


@pytest.mark.parametrize("targets", ["attention", "ffn", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_targets(kind, targets):
    """Each token by hand, with the change of its own context in the layers that are named, and in no other."""
    vit, x = small_vit(), torch.randn(2, 3, 32, 32)
    start = attach(vit, "context_peft", 3, kind=kind, rank=2, targets=targets)
    assert torch.equal(start.vit.forward_features(x), vit.forward_features(x))
    model = shaken(attach(vit, "context_peft", 3, kind=kind, rank=2, targets=targets))
    number = torch.tensor([0] + [1] * 16)  # CLS, patches
    D, H, L = 48, 192, 3
    sizes = {
        "lora": {"attention": 2 * (3 * 2 * D + 2 * D), "ffn": 2 * (D + H + H + D)},
        "bitfit": {"attention": 3 * D + D, "ffn": H + D},
        "ia3": {"attention": 2 * D, "ffn": H},
    }[kind]
    one_block = sum(sizes.values()) if targets == "both" else sizes[targets]
    assert model.method_parameters == model.method.count(vit) == 2 * L * one_block

    def layer(i, path, u):
        """A frozen layer, plus its change where it has one."""
        plain, tuned = vit.blocks[i].get_submodule(path), model.vit.blocks[i].get_submodule(path)
        named = targets == "both" or path.startswith({"attention": "attn", "ffn": "mlp"}[targets])
        if not named or (kind == "ia3" and path in ("attn.proj", "mlp.fc1")):
            assert type(tuned) is nn.Linear
            return plain(u)
        if kind == "bitfit":
            return plain(u) + tuned.after.v[number]
        if kind == "ia3" and path == "mlp.fc2":
            return plain(u * tuned.before.v[number])
        if kind == "ia3":
            factors = torch.cat([torch.ones(2, D), tuned.after.v], dim=1)  # queries stay as they are
            return plain(u) * factors[number]
        y = plain(u)
        for t, rows in tuned.rows.items():
            A, B = tuned.A[t].unflatten(0, (2, 2)), tuned.B[t].unflatten(1, (2, 2))  # [C, rank, d], [d, C, rank]
            y[..., rows] += torch.einsum("bnd,nrd,onr->bno", u, A[number], B[:, number])
        return y

    def attention(i, u):
        return layer(i, "attn.proj", attention_core(vit.blocks[i], layer(i, "attn.qkv", u)))

    def mlp(i, u):
        return layer(i, "mlp.fc2", vit.blocks[i].mlp.act(layer(i, "mlp.fc1", u)))

    with torch.no_grad():
        agree(model, by_hand(model, x, attention, mlp), x)
    assert not torch.allclose(model.vit.forward_features(x), vit.forward_features(x), atol=1e-2)


def test_layers_that_are_not_named_need_not_be_there():
    for targets, path in (("attention", "mlp"), ("ffn", "attn")):
        vit = small_vit()
        delattr(vit.blocks[1], path)
        attach(vit, "context_peft", 3, targets=targets)
        with pytest.raises(PeftlabError, match=rf"context_peft needs blocks\.1\.{path}"):
            attach(vit, "context_peft", 3, targets="both")


def test_one_context_on_a_language_model_is_hf_lora(lm):
    """HF peft as oracle: the same A and B give the same logits."""
    targets = ["q", "k", "v", "o", "up", "down"]
    theirs = peft.inject_adapter_in_model(
        peft.LoraConfig(r=3, lora_alpha=3, target_modules=targets), copy.deepcopy(lm)
    )
    ours = copy.deepcopy(lm)
    insert("lora", 3, sites(lm_named(ours)), given([0] * 7, 1))
    shaken(ours.requires_grad_(True))
    for name, module in theirs.named_modules():
        if hasattr(module, "lora_A"):
            layer = ours.get_submodule(name)
            module.base_layer.load_state_dict(layer.base.state_dict())
            module.lora_A["default"].weight.data = layer.A["all"].data
            module.lora_B["default"].weight.data = layer.B["all"].data
    for name, p in theirs.named_parameters():
        if "lora" not in name and "base_layer" not in name:
            p.data = ours.get_parameter(name).data
    x = torch.randn(2, 7, 16)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-4, atol=1e-5)


def lm_named(lm):
    lm.peftlab_name = "tiny"
    return lm


@pytest.mark.parametrize("kind", KINDS)
def test_each_context_learns_from_its_own_tokens_alone(kind, lm):
    """Gradient reaches a context only through its tokens: without any of context 1, its parameters rest."""
    contexts = given([0, 0, 2, 0, 2], 3)
    insert(kind, 2, sites(lm_named(lm.requires_grad_(False))), contexts)
    shaken(lm)
    lm(torch.randn(1, 5, 16))[0].square().sum().backward()
    for name, p in lm.named_parameters():
        if p.requires_grad:
            C = 3
            parts = p.grad.unflatten(1, (C, -1)).unbind(1) if ".B." in name else p.grad.unflatten(0, (C, -1)).unbind(0)
            moved = [bool(part.abs().max() > 0) for part in parts]
            assert moved == [True, False, True], name


@pytest.mark.parametrize("kind", KINDS)
def test_language_model_counts_and_merges(kind, lm):
    plain = sites(lm_named(lm.requires_grad_(False)))
    tuned = copy.deepcopy(lm)
    insert(kind, 2, sites(lm_named(tuned)), given([0] * 6, 1))
    counted = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert counted == count_one(kind, 2, plain)
    x = torch.randn(2, 6, 16)
    expected = shaken(tuned)(x)[0]
    with torch.no_grad():
        merge_one(list(zip(tuned.blocks, [layers for _, layers in plain], strict=True)))
    assert not [m for m in tuned.modules() if type(m).__module__.startswith("peftlab.methods")]
    torch.testing.assert_close(tuned(x)[0], expected, rtol=1e-4, atol=1e-5)
    assert (lm(x)[0] - expected).abs().max() > 1e-3


def test_counts_of_the_paper():
    """Its table 3: a model of 150M, and adapters for one and two contexts."""
    with torch.device("meta"):
        words = WordTokenizer([str(i) for i in range(50_270)])
        model = LanguageModel(words, width=768, depth=12, heads=12, hidden=3072)
    assert sum(p.numel() for p in model.parameters()) == 153_196_032
    found = sites(lm_named(model))
    for kind, rank, expected in (
        ("ia3", 1, 55_296),
        ("bitfit", 1, 119_808),
        ("lora", 1, 202_752),
        ("lora", 8, 1_622_016),
        ("lora", 64, 12_976_128),
    ):
        assert count_one(kind, rank, found) == expected
        insert(kind, rank, sites(lm_named(twin := copy.deepcopy(model.requires_grad_(False)))), GivenContexts(2))
        assert sum(p.numel() for p in twin.parameters() if p.requires_grad) == 2 * expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("one", [0] * 9),
        ("domain", [0] + [1] * 8),
        ("parity", [0, 0, 1, 0, 1, 1, 0, 1, 0]),
        ("quadrant", [0, 1, 1, 2, 2, 3, 3, 4, 4]),
    ],
)
def test_contexts_of_patches(kind, expected):
    """A grid of 2 x 4 behind one prefix token, and behind one more, as gist brings it."""
    vit = load_backbone("test_vit", pretrained=False, img_size=(32, 64))
    contexts = PatchContexts(vit, kind)
    assert vit.patch_embed.grid_size == (2, 4) and vit.num_prefix_tokens == 1
    assert contexts(torch.zeros(1, 9, 3)).argmax(-1).tolist() == expected
    vit.num_prefix_tokens += 1
    assert PatchContexts(vit, kind)(torch.zeros(1, 10, 3)).argmax(-1).tolist() == [0, *expected]
    assert contexts(torch.zeros(1, 9, 3)).sum(-1).eq(1).all() and contexts.count == max(expected) + 1


def test_a_bias_for_which_the_backbone_has_no_place_is_not_merged():
    model = attach(small_vit(qkv_bias=False), "context_peft", 3, kind="bitfit", contexts="one")
    with pytest.raises(NotMergeable, match="context_peft: .* has no bias"):
        model.merge()


def test_only_one_context_merges():
    vit = load_backbone("test_vit", pretrained=False, img_size=32)
    with pytest.raises(NotMergeable, match="weights differ from token to token; only contexts='one'"):
        attach(vit, "context_peft", 3).merge()


@pytest.mark.parametrize("options", [{"kind": "lroa"}, {"contexts": "domains"}, {"targets": "fnn"}, {"rank": 0}])
def test_impossible_options(options):
    with pytest.raises(PeftlabError, match="did you mean|rank is 0"):
        attach(load_backbone("test_vit", pretrained=False, img_size=32), "context_peft", 3, **options)


def test_layers_of_unknown_names(lm):
    lm.blocks[1].extra = nn.Linear(2, 2)
    with pytest.raises(PeftlabError, match="tiny: cannot tell what the layers extra of DecoderBlock do.*q_proj"):
        sites(lm_named(lm))
