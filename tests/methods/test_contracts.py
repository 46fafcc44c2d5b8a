"""The contracts of every method: a new one is checked by being registered."""

import copy
import functools
import json
import math
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from typing import get_args, get_origin

import pytest
import timm
import torch
import torch.nn.functional as F
from support import random_timm, shallow
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from peftlab.analysis.probes import distance_at_start
from peftlab.backbones.eva import KeysWithoutBias, RotaryViT
from peftlab.backbones.identity import as_vit, described_once
from peftlab.backbones.load import MINI, load_backbone
from peftlab.backbones.stages import stages
from peftlab.common.errors import NotMergeable, PeftlabError
from peftlab.common.tensors import write_tensors
from peftlab.methods import FAMILIES, METHODS, Method, attach, create_method, load_adapter, register
from peftlab.methods.core.base import option
from peftlab.training.fit import fit

BACKBONES = {
    "embedded": lambda: shallow(img_size=32),
    "test_vit": lambda: shallow("test_vit"),
    "registers, mean pooled": lambda: shallow("test_vit2"),
    "patch pooled": lambda: _patch_pooled(),
    "DINOv3": lambda: _eva("vit_tiny_patch16_dinov3_qkvb"),
    "EVA-02": lambda: _eva("eva02_base_patch14_224", img_size=42, mlp_ratio=2),
    "PE": lambda: _eva("vit_pe_core_tiny_patch16_384", attn_pool_num_heads=2),
}
CLASSES = 3

# Every method as it is by default, and those that their options make another one of.
CASES = {name: create_method(name) for name in sorted(METHODS)} | {
    "adapter, pfeiffer": create_method("adapter", placement="pfeiffer"),
    "bitfit, linear layers": create_method("bitfit", targets=("qkv", "o", "fc1", "fc2")),
    "context_peft, biases of quarters": create_method("context_peft", kind="bitfit", contexts="quadrant"),
    "context_peft, one": create_method("context_peft", contexts="one"),
    "context_peft, one bias": create_method("context_peft", kind="bitfit", contexts="one"),
    "context_peft, one factor": create_method("context_peft", kind="ia3", contexts="one"),
    "context_peft, one, attention": create_method("context_peft", contexts="one", targets="attention"),
    "context_peft, one factor, FFN": create_method("context_peft", kind="ia3", contexts="one", targets="ffn"),
    "context_peft, factors of a checkerboard": create_method("context_peft", kind="ia3", contexts="parity"),
    "convpass, attention": create_method("convpass", sublayers=("attn",)),
    "dora, all": create_method("dora", rank=2, alpha=3.0, targets=("q", "v", "o", "fc1", "fc2")),
    "fact, tk": create_method("fact", form="tk", rank=4, scale=2.0),
    "gift, all": create_method(
        "gift",
        rank=6,
        targets=("qkv", "o", "fc1", "fc2"),
        clusters=8,
        hyper_blocks=2,
        heads=2,
        ratio=3,
        clustering="softmax",
        position=True,
    ),
    "gift_linear, all": create_method("gift_linear", rank=4, targets=("qkv", "o", "fc1", "fc2")),
    "gist, prompts": create_method("gist", base_method="vpt", prompts=2),
    "ia3, all": create_method("ia3", targets=("q", "k", "v", "o", "ff")),
    "lora, all": create_method("lora", rank=2, alpha=3.0, targets=("q", "k", "v", "o", "fc1", "fc2")),
    "lora, fused": create_method("lora", targets=("qkv",)),
    "oft, all": create_method("oft", block_size=8, targets=("qkv", "o", "fc1", "fc2")),
    "pissa, all": create_method("pissa", rank=2, alpha=3.0, targets=("q", "k", "v", "o", "fc1", "fc2")),
    "rep_adapter, attention": create_method("rep_adapter", sublayers=("attn",), groups=4, scale=2.0),
    "sct, mlp": create_method("sct", placement="mlp", channels=4),
    "two_stage, mlp": create_method("two_stage", placement="mlp", channels=4),
    "two_stage, q and v": create_method("two_stage", placement="qv", init="normal"),
    "vera, all": create_method("vera", rank=12, targets=("q", "k", "v", "o", "fc1", "fc2"), key=3),
    "vera, fused": create_method("vera", rank=12, targets=("qkv", "v")),
    "vpt, shallow": create_method("vpt", deep=False),
}


def _patch_pooled():
    torch.manual_seed(1)
    vit = VisionTransformer(32, 8, embed_dim=48, depth=2, num_heads=2, global_pool="avg", num_classes=0)
    vit.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    vit.peftlab_name = "patch pooled"
    return vit.requires_grad_(False).eval()


def _eva(name, **options):
    """A model of timm's Eva class, small, with random values where timm begins with 0, 1 or 1e-5."""
    small = {"img_size": 48, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 0}
    vit = as_vit(random_timm(name, **small | options))
    vit.peftlab_name = name
    return vit


def why_not_merged(backbone, method):
    """What the sentence of NotMergeable says of a method on a backbone; nothing where it must merge."""
    keys_have_bias = not isinstance(backbone.blocks[0].attn.qkv, KeysWithoutBias)
    moves_keys = method.name in ("ssf", "rep_adapter") or getattr(method, "kind", "") == "bitfit"
    if not method.not_mergeable and moves_keys and not keys_have_bias:
        return "the keys of this backbone have no bias"
    if method.name == "ssf" and method.last_blocks is None and backbone.patch_embed.proj.bias is None:
        return "this backbone's Conv2d has no bias"
    return method.not_mergeable[:20]


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    vit = BACKBONES[request.param]()
    with described_once(vit):  # no method changes it, as the tests say
        yield vit


on_the_embedded_one = pytest.mark.parametrize("backbone", ["embedded"], indirect=True)


@pytest.fixture(params=CASES)
def method(request):
    return CASES[request.param]


def images(backbone):
    return torch.randn(2, 3, *backbone.patch_embed.img_size, generator=torch.Generator().manual_seed(3))


def snapshot(vit):
    return {name: t.clone() for name, t in vit.state_dict().items()}


def same(vit, state):
    return vit.state_dict().keys() == state.keys() and all(
        torch.equal(t, state[k]) for k, t in vit.state_dict().items()
    )


def hooks(vit):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in vit.modules())


def train(model, steps=3):
    """A few large steps, so that whatever can move does."""
    x, y = images(model.backbone), torch.arange(2)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def train_and_compare(backbone, method):
    """-> the model after these steps, the names of the parameters that moved, whether the backbone is what it was."""
    before, model = snapshot(backbone), attach(backbone, method, CLASSES)
    at_start = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, at_start[name])}
    return model, moved, same(backbone, before)


def made_once(make, model_of):
    """make(method), once for all tests of a backbone, which must leave its model alone."""
    digests = {}

    @functools.cache
    def once(method):
        made = make(method)
        digests[model_of(made)] = model_of(made).digest()
        return made

    yield once
    assert all(model.digest() == digest for model, digest in digests.items())


@pytest.fixture(scope="module")
def attached(backbone):
    """attached(method) -> a new model."""
    yield from made_once(lambda method: attach(backbone, method, CLASSES), lambda model: model)


@pytest.fixture(scope="module")
def compared(backbone):
    """compared(method) -> what `train_and_compare` gives."""
    yield from made_once(lambda method: train_and_compare(backbone, method), lambda found: found[0])


@pytest.fixture(scope="module")
def trained(compared):
    """trained(method) -> the model after these steps. It is made once for all tests: change a copy of it."""
    return lambda method: compared(method)[0]


@torch.no_grad()
def without_effect(model, name):
    """True if another value of a trained parameter gives the very same logits: nobody reads the tokens it acts on."""
    x, other = images(model.backbone), copy.deepcopy(model)
    other.get_parameter(name).add_(1)
    return torch.equal(model(x), other(x))


def test_start_equals_frozen_backbone(backbone, method, attached):
    """Bit for bit where the definition says so, and nowhere else."""
    model, x = attached(method), images(backbone)
    same_features = torch.equal(model.vit.forward_features(x), backbone.forward_features(x))
    assert same_features == method.identity_at_start


@pytest.mark.parametrize("method", [m for m in CASES.values() if not m.identity_at_start], ids=repr)
def test_the_others_start_near_the_embedded_backbone(method):
    """As their docstrings say. Features of random weights are mostly noise and would say nothing."""
    backbone = load_backbone()
    assert 0 < distance_at_start(attach(backbone, method, CLASSES), images(backbone)) < 0.5
    assert distance_at_start(attach(backbone, "lora", CLASSES), images(backbone)) == 0


def test_ssf_starts_beside_the_identity():
    affine = attach(shallow(), "ssf", CLASSES).vit.blocks[0].mlp.fc1.after
    assert (affine.scale.mean().item(), affine.scale.std().item()) == pytest.approx((1, 0.02), rel=0.1)
    assert affine.shift.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("name", "place"), [("adapter", "mlp.after"), ("adaptformer", "mlp.parallel")])
def test_of_a_bottleneck_only_the_way_down_is_random(name, place):
    branch = attach(shallow(), name, CLASSES).vit.blocks[0].get_submodule(place)
    assert branch.down.weight.any()
    assert not any(p.any() for p in (branch.down.bias, branch.up.weight, branch.up.bias))


KAIMING = 192**-0.5  # as torch's Linear: a uniform one of variance 1 / (3 x the width)


@pytest.mark.parametrize(
    ("name", "options", "tensor", "bound"),
    [
        ("lora", {}, "attn.qkv.A.q", KAIMING),
        ("context_peft", {}, "mlp.fc1.A.all", KAIMING),
        ("gift_linear", {}, "shared.generator_o.reduce.weight", KAIMING),
        ("adapter", {}, "mlp.after.down.weight", KAIMING),
        ("adaptformer", {}, "mlp.parallel.down.weight", KAIMING),
        ("convpass", {}, "attn.parallel.down.weight", (6 / (192 + 8)) ** 0.5),  # Xavier's
        ("fact", {}, "shared.U", KAIMING),
        ("fact", {"rank": 16}, "attn.qkv.S", 16**-0.5),
        ("fact", {"rank": 32, "form": "tk"}, "mlp.fc1.P", (6 / (32 + 72)) ** 0.5),  # of 72 pieces
        ("fact", {"rank": 32, "form": "tk"}, "shared.C", (6 / (2 * 32**2)) ** 0.5),
        ("vpt", {"prompts": 50}, "prompts.tokens", (6 / (3 * 8 * 8 + 192)) ** 0.5),
        ("gist", {}, "gist.token", 0.5),
    ],
)
def test_what_is_random_at_the_start_has_the_spread_that_its_docstring_says(name, options, tensor, bound):
    found = attach(load_backbone(), name, CLASSES, **options).vit.blocks[0].get_parameter(tensor)
    assert 0.9 * bound < found.abs().max() <= bound
    assert found.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)


def test_other_starts():
    """Of the head, of the released adapter, and of Convpass, whose convolution changes nothing at first."""
    vit = attach(load_backbone(), "parallel", 100).vit
    adapter, u = vit.blocks[0].parallel, torch.randn(2, 8, 5, 5)
    for weight in (vit.head.weight, adapter.down.weight, adapter.up.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not any(layer.bias.any() for layer in (vit.head, adapter.down, adapter.up))
    assert torch.equal(attach(load_backbone(), "convpass", CLASSES).vit.blocks[0].mlp.parallel.conv(u), u)


@pytest.mark.parametrize(
    ("name", "expected"), [("adaptformer", 0.1), ("parallel", 0.1), ("convpass", 1), ("fact", 1), ("rep_adapter", 1)]
)
def test_scales_are_by_default_what_docstrings_say(name, expected):
    assert create_method(name).scale == expected


def test_only_trained_tensors_move(backbone, method, compared):
    model, moved, backbone_is_same = compared(method)
    shared = {id(p) for p in backbone.parameters()}
    for name, p in model.named_parameters():
        assert p.requires_grad == (id(p) not in shared), name
        if (name in moved) != p.requires_grad:
            assert method.name == "context_peft" and name.startswith(f"vit.blocks.{len(backbone.blocks) - 1}."), name
            assert without_effect(model, name), name
    assert backbone_is_same


def test_count_equals_formula(backbone, method, attached):
    model = attached(method)
    assert model.method_parameters == model.method.count(backbone)
    assert model.head_parameters == backbone.embed_dim * CLASSES + CLASSES


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("linear", {}, 0),
        ("full", {}, 85_798_656),
        ("bitfit", {}, 102_912),
        ("norm", {}, 38_400),
        ("lora", {"rank": 8}, 294_912),
        ("lora", {"rank": 4, "targets": ("q", "k", "v")}, 221_184),
        ("lora", {"rank": 4, "targets": ("qkv",)}, 12 * 4 * (768 + 3 * 768)),
        ("lora", {"rank": 4, "targets": ("o", "fc1", "fc2")}, 12 * 4 * (2 * 768 + 2 * (768 + 3072))),
        ("bitfit", {"targets": ("qkv", "o", "fc1", "fc2")}, 82_944),
        ("context_peft", {"contexts": "one"}, 12 * 13_824 * 8),
        ("context_peft", {}, 2_654_208),
        ("context_peft", {"kind": "bitfit", "contexts": "one"}, 82_944),
        ("context_peft", {"kind": "bitfit"}, 165_888),
        ("context_peft", {"kind": "ia3", "contexts": "one"}, 55_296),
        ("context_peft", {"kind": "ia3"}, 110_592),
        ("context_peft", {"kind": "ia3", "contexts": "quadrant"}, 5 * 55_296),
        ("context_peft", {"targets": "attention"}, 2 * 12 * 8 * 8 * 768),
        ("context_peft", {"targets": "ffn"}, 2 * 12 * 8 * 2 * (768 + 3072)),
        ("context_peft", {"kind": "bitfit", "targets": "attention"}, 2 * 12 * 4 * 768),
        ("context_peft", {"kind": "bitfit", "targets": "ffn"}, 2 * 12 * (768 + 3072)),
        ("context_peft", {"kind": "ia3", "targets": "attention"}, 2 * 12 * 2 * 768),
        ("context_peft", {"kind": "ia3", "targets": "ffn"}, 2 * 12 * 3072),
        ("vpt", {"prompts": 5}, 46_080),
        ("vpt", {"prompts": 5, "deep": False}, 3_840),
        ("adapter", {"placement": "pfeiffer"}, 156_768),
        ("adapter", {"placement": "houlsby"}, 2 * 156_768),
        ("adaptformer", {}, 156_768),
        ("adaptformer", {"bottleneck": 64}, 1_189_632),
        ("ssf", {}, 205_824),
        ("fact", {"form": "tk", "rank": 8}, 13_952),
        ("fact", {"form": "tk", "rank": 32}, 86_528),
        ("dora", {"rank": 8}, 294_912 + 12 * 2 * 768),
        ("pissa", {"rank": 8}, 294_912),
        ("vera", {}, 24_576),
        ("vera", {"rank": 16, "targets": ("qkv", "fc2")}, 12 * (16 + 3 * 768 + 16 + 768)),
        ("oft", {}, 69_120),
        ("oft", {"block_size": 32, "targets": ("o", "fc2")}, 12 * (24 + 96) * 31 * 16),
        ("fact", {"form": "tt", "rank": 4}, 8_448),
        ("fact", {"form": "tt", "rank": 16}, 61_440),
        ("convpass", {"bottleneck": 8}, 327_552),
        ("convpass", {"sublayers": ("attn",)}, 327_552 // 2),
        ("ia3", {}, 12 * (2 * 768 + 3072)),
        ("parallel", {}, 82_992),
        ("parallel", {"bottleneck": 8}, 156_768),
        ("gift_linear", {}, 24_576),
        ("gift_linear", {"rank": 64}, 98_304),
        ("gift", {}, 28_368),
        ("gift", {"clusters": 64}, 27_824),
        ("gift", {"rank": 32}, 60_736),
        ("gift", {"rank": 96}, 231_168),
        ("gift", {"position": True}, 28_368 + 768 * 16),
        ("gift", {"last_blocks": 1}, 28_368),
        ("gift", {"targets": ("o", "fc2")}, 2 * 28_368 + 2 * 16 * (3072 - 768)),
        ("gist", {"base_method": "linear"}, 768),
        ("gist", {"base_method": "parallel"}, 83_760),
        ("gist", {"base_method": "lora", "rank": 8}, 294_912 + 768),
        ("rep_adapter", {}, 239_808),
        ("rep_adapter", {"sublayers": ("attn",)}, 239_808 // 2),
        ("rep_adapter", {"groups": 1}, 239_808 + 2 * 12 * 768 * 4),
        ("sct", {}, 111_744),
        ("sct", {"channels": 32, "placement": "mlp"}, 12 * (32 * 32 + 32)),
        ("two_stage", {}, 150_144),
        ("two_stage", {"align": False}, 111_744),
        ("two_stage", {"align": False, "placement": "qv"}, 223_488),
        ("two_stage", {"align": False, "channels": 32}, 12 * (32 * 32 + 32)),
        ("full", {"last_blocks": 12}, 85_798_656 - 197 * 768 - 768 - (16 * 16 * 3 + 1) * 768),
        ("norm", {"last_blocks": 1}, 3 * 2 * 768),
    ],
)
def test_published_counts_on_vit_base(name, options, expected):
    with torch.device("meta"):
        vit = VisionTransformer(num_classes=10, weight_init="skip")
    method = create_method(name, **options)
    assert method.count(vit) == expected
    vit.requires_grad_(False)
    method.apply(vit)
    counted = sum(p.numel() for key, p in vit.named_parameters() if p.requires_grad and not key.startswith("head."))
    assert counted == expected


def test_merged_is_plain_and_equal(backbone, method, trained):
    """And the model is what it was."""
    model, x = trained(method), images(backbone)
    before, moving = snapshot(model.vit), [p.requires_grad for p in model.parameters()]
    if reason := why_not_merged(backbone, method):
        with pytest.raises(NotMergeable, match=reason):
            model.merge()
        return
    plain, again = model.merge(), model.merge()
    logits = plain(x)
    assert type(plain) is (Eva if isinstance(backbone, RotaryViT) else VisionTransformer)
    assert not [m for m in plain.modules() if type(m).__module__.startswith("peftlab")]
    assert (logits - model(x)).abs().max() <= 1e-5
    assert (logits - attach(backbone, "linear", CLASSES)(x)).abs().max() > 1e-3  # the change is really in there
    assert same(again, plain.state_dict()) and torch.equal(again(x), logits)
    plain.blocks[0].attn.proj.weight.data += 1  # the merged model owns its weights
    assert same(model.vit, before) and [p.requires_grad for p in model.parameters()] == moving
    assert attach(again, "linear", CLASSES).method_parameters == 0  # a plain ViT, as any other


def test_an_attached_vit_is_refused(method):
    """Its tensors belong to the first model, which a second one would freeze."""
    model = attach(_patch_pooled(), method, CLASSES)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    for second in ("linear", "lora"):
        with pytest.raises(PeftlabError, match="already carries"):
            attach(model.vit, second, CLASSES)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained


def test_round_trip_is_exact(backbone, method, trained, tmp_path):
    model = trained(method)
    loaded = load_adapter(backbone, model.save(tmp_path / "adapter"))
    assert torch.equal(loaded(images(backbone)), model(images(backbone)))


@on_the_embedded_one
def test_round_trip_in_a_fresh_process(backbone, trained, tmp_path):
    models = {name: trained(method) for name, method in CASES.items()}
    for name, model in models.items():
        model.save(tmp_path / name)
    code = (
        "import json, sys, torch, peftlab as pl\n"
        "x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))\n"
        "backbone = pl.load_backbone(img_size=32)\n"
        "del backbone.blocks[3:]\n"
        "models = [pl.load_adapter(backbone, f'{sys.argv[1]}/{name}') for name in sys.argv[2:]]\n"
        "print(json.dumps([model(x).flatten().tolist() for model in models]))"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path, *models], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == [model(images(backbone)).flatten().tolist() for model in models.values()]


@on_the_embedded_one
def test_merged_models_load_without_peftlab(backbone, trained, tmp_path):
    """In plain timm, in a process that cannot import peftlab."""
    cases = {name: method for name, method in CASES.items() if not method.not_mergeable}
    plain = {name: trained(method).merge() for name, method in cases.items()}
    for name, vit in plain.items():
        write_tensors(tmp_path / f"{name}.safetensors", vit.state_dict())
    code = (
        "import json, sys, torch, timm\n"
        "sys.modules['peftlab'] = None\n"
        "from safetensors.torch import load_file\n"
        "x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))\n"
        "architecture, outputs = json.loads(sys.argv[2]), []\n"
        "for name in sys.argv[3:]:\n"
        "    vit = timm.models.VisionTransformer(**architecture).eval()\n"
        "    vit.load_state_dict(load_file(f'{sys.argv[1]}/{name}.safetensors'))\n"
        "    outputs.append(vit(x).flatten().tolist())\n"
        "print(json.dumps(outputs))"
    )
    architecture = json.dumps(MINI | {"img_size": 32, "depth": 3, "num_classes": CLASSES})
    command = [sys.executable, "-c", code, tmp_path, architecture, *plain]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == [vit(images(backbone)).flatten().tolist() for vit in plain.values()]


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"linear", "gist"}))
def test_partial_depth_leaves_earlier_blocks_alone(backbone, name):
    depth = len(backbone.blocks)
    for k in (1, 2):
        model = attach(backbone, name, CLASSES, last_blocks=k)
        assert model.method_parameters == model.method.count(backbone) > 0
        assert model.first_trainable_stage() == 1 + depth - k
        same_features = torch.equal(
            model.vit.forward_features(images(backbone)), backbone.forward_features(images(backbone))
        )
        assert same_features == model.method.identity_at_start
        if not why_not_merged(backbone, model.method):
            assert (train(model).merge()(images(backbone)) - model(images(backbone))).abs().max() <= 1e-5
    for k, bounds in ((0, "at least 1"), (depth + 1, f"depth, {depth}")):
        with pytest.raises(PeftlabError, match=f"last_blocks is {k}, but must .*{bounds}"):
            attach(backbone, name, CLASSES, last_blocks=k)


@pytest.mark.parametrize("name", ["full", "norm", "bitfit"])
def test_partial_depth_trains_all_that_comes_after(backbone, name):
    """The last norm and the pooling too, whatever a backbone calls them."""

    def names(**options):
        model = attach(backbone, name, CLASSES, **options)
        return {name for name, p in model.vit.named_parameters() if p.requires_grad}

    after = (f"blocks.{len(backbone.blocks) - 1}.", "norm.", "fc_norm.", "attn_pool.", "head.")
    assert names(last_blocks=1) == {name for name in names() if name.startswith(after)}


def test_copies_are_independent(backbone, method, trained):
    model, x = trained(method), images(backbone)
    twin, before = copy.deepcopy(model), model(x)
    assert torch.equal(twin(x), before) and twin.adapter_state().keys() == model.adapter_state().keys()
    train(twin, steps=1)
    assert torch.equal(model(x), before) and not torch.equal(twin(x), before)


def test_pickled_models_compute_the_same(method):
    """As multiprocessing sends them. What is shared with the backbone stays shared."""
    model = train(attach(_patch_pooled(), method, CLASSES))
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(twin(images(model.backbone)), model(images(model.backbone)))
    assert twin.adapter_state().keys() == model.adapter_state().keys()


@pytest.mark.parametrize("mode", [torch.double, torch.half, torch.bfloat16], ids=str)
def test_another_precision_is_refused_and_changes_nothing(method, mode):
    """The frozen tensors belong to the backbone and to every model on it."""
    backbone = _patch_pooled()
    model, neighbour, x = attach(backbone, method, CLASSES), attach(backbone, "norm", CLASSES), images(backbone)
    before, logits = snapshot(backbone), (model(x), neighbour(x))
    for change in (lambda: model.to(mode), lambda: model.to(mode).float()):
        with pytest.raises(PeftlabError, match="precision"):
            change()
    assert same(backbone, before) and all(t.dtype == torch.float32 for t in backbone.state_dict().values())
    assert torch.equal(model(x), logits[0]) and torch.equal(neighbour(x), logits[1])


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16], ids=str)
def test_a_backbone_of_another_precision_can_be_tuned(method, dtype):
    """As one converts it before attaching: forward, gradients and, where it can be, the merged model."""
    backbone = _patch_pooled().to(dtype)
    model, x = attach(backbone, method, CLASSES), images(backbone).to(dtype)
    logits = model(x)
    assert logits.dtype == dtype and torch.isfinite(logits).all()
    model.loss(logits, torch.arange(2))["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad and p.grad is not None)
    if not method.not_mergeable:
        torch.testing.assert_close(model.merge()(x), logits, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["adapter", "gift_linear", "gist", "lora", "vpt"])
def test_compiled_models_compute_the_same(name):
    """One method of each way to get in: traced by dynamo, run by torch itself."""
    backbone = _patch_pooled()
    del backbone.blocks[1:]
    model, x = train(attach(backbone, name, CLASSES)), images(backbone)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))


def test_every_method_says_what_it_is(method):
    assert method.family in FAMILIES
    for text in (method.title, method.idea, method.source, sys.modules[type(method).__module__].__doc__):
        assert text.strip()
    doc = sys.modules[type(method).__module__].__doc__
    for word in ("Idea:", "Equation:", "Parameters", "Start:", "Merging:", "Source:"):
        assert word in doc or (word, method.name) == ("Equation:", "full"), word


def test_detach_restores(backbone, method):
    before, count = snapshot(backbone), hooks(backbone)
    model = attach(backbone, method, CLASSES)
    with pytest.raises((RuntimeError, AssertionError)):
        model(torch.randn(1, 3, 7, 7))  # a failing forward pass must leave nothing behind either
    plain = train(model, steps=1).detach()
    assert plain is backbone and same(plain, before) and hooks(plain) == count
    assert not any(p.requires_grad for p in plain.parameters())


def test_stages_compose_to_the_model(backbone, method, attached):
    model, x = attached(method), images(backbone)
    y = x
    for stage in stages(model.vit):
        y = stage.run(y)
    assert torch.equal(y, model(x))
    listed = [id(p) for stage in stages(model.vit) for p in stage.parameters]
    assert sorted(listed) == sorted(id(p) for p in model.vit.parameters())


def test_same_seed_same_row(method, tiny_task, tmp_path):
    def row(folder):
        model = attach(_patch_pooled(), method, CLASSES, seed=5)
        few = {"epochs": 2, "batch_size": 8, "train_images": 12}  # the second batch of an epoch is not full
        run = fit(model, tiny_task, **few, seed=5, device="cpu", runs=tmp_path / folder)
        run.evaluate("test")
        return {k: v for k, v in run.record.items() if k not in ("seconds", "finished", "test_opened")}

    assert row("a") == row("b")


def test_damaged_adapters_are_refused(backbone, tmp_path):
    from peftlab.common.tensors import read_tensors, write_tensors

    model = attach(backbone, "norm", CLASSES)
    file = model.save(tmp_path / "adapter") / "adapter.safetensors"
    tensors = read_tensors(file)[0]
    first = next(iter(tensors))
    damages = [
        ({k: v for k, v in tensors.items() if k != first}, "missing"),
        (tensors | {"surplus": torch.zeros(1)}, "unexpected"),
        (tensors | {first: torch.zeros(2, 3)}, "wrong shape"),
    ]
    for damaged, word in damages:
        write_tensors(file, damaged)
        with pytest.raises(PeftlabError, match=word):
            load_adapter(backbone, file.parent)
    file.unlink()
    with pytest.raises(PeftlabError, match="no such file"):
        load_adapter(backbone, file.parent)


def test_an_adapter_knows_its_backbone(tmp_path):
    a, b = _patch_pooled(), _patch_pooled()
    folder = attach(a, "norm", CLASSES).save(tmp_path / "adapter")
    load_adapter(b, folder)  # the same weights
    b.cls_token.data += 1e-3
    with pytest.raises(PeftlabError, match="trained on backbone"):
        load_adapter(b, folder)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224"])
def test_an_adapter_goes_back_on_the_family_as_timm_has_it(name, tmp_path):
    small = {"embed_dim": 24, "num_heads": (2, 2, 2, 2), "depths": (1, 1, 1, 1), "img_size": 112}
    raw = timm.create_model(name, num_classes=0, **(small if name.startswith("swin") else {"depth": 1}))
    model = attach(raw, "norm", CLASSES)
    loaded = load_adapter(raw, model.save(tmp_path / "adapter"))
    assert all(torch.equal(t, loaded.adapter_state()[key]) for key, t in model.adapter_state().items())


@pytest.mark.parametrize("name", ["context_peft", "convpass"])
@pytest.mark.parametrize("side", [48, 96])
def test_what_is_laid_over_one_grid_refuses_another(name, side):
    """A ViT that takes images of any size gives other tokens, of which the first would pass for prefix tokens."""
    vit = VisionTransformer(64, 16, embed_dim=48, depth=1, num_heads=2, num_classes=0, dynamic_img_size=True)
    model = attach(vit, name, CLASSES)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, CLASSES)
    with pytest.raises(PeftlabError, match=f"{1 + (side // 16) ** 2} tokens, but .* gives 17; load the backbone with"):
        model(torch.zeros(1, 3, side, side))


def test_a_new_method_is_one_file():
    """A toy method, written as a reader would in one cell, takes part in everything by being registered."""
    from peftlab.methods import unfreeze

    try:

        @register("toy")
        @dataclass(frozen=True)
        class Toy(Method):
            title, idea, family, source, lr = "Toy", "train the final norm", "selective", "here", 1e-2

            def apply(self, vit):
                unfreeze(vit.norm, "weight", "bias")

            def count(self, backbone):
                return 2 * backbone.embed_dim

        backbone = load_backbone("test_vit", pretrained=False, img_size=64)
        toy = Toy()
        for contract in (test_start_equals_frozen_backbone, test_count_equals_formula):
            contract(backbone, toy, lambda method: attach(backbone, method, CLASSES))
        test_only_trained_tensors_move(backbone, toy, lambda method: train_and_compare(backbone, method))
        test_merged_is_plain_and_equal(backbone, toy, lambda method: train(attach(backbone, method, CLASSES)))
        test_detach_restores(backbone, toy)
        assert attach(backbone, "toy", CLASSES).first_trainable_stage() == 1 + len(backbone.blocks)
    finally:
        METHODS.pop("toy", None)


def test_unknown_names_and_options_name_the_near_ones():
    backbone = _patch_pooled()
    with pytest.raises(PeftlabError, match="did you mean 'lora'"):
        attach(backbone, "lorra", CLASSES)
    with pytest.raises(PeftlabError, match="did you mean 'rank'"):
        attach(backbone, "lora", CLASSES, ranks=8)
    for key in ("rank", "last_blocks"):
        with pytest.raises(PeftlabError, match=f"no option '{key}'"):
            attach(backbone, "linear", CLASSES, **{key: 8})
    for name, key in [
        ("lora", "rank"),
        ("fact", "rank"),
        ("adapter", "bottleneck"),
        ("adaptformer", "bottleneck"),
        ("convpass", "bottleneck"),
    ]:
        with pytest.raises(PeftlabError, match=f"{key} is 2.5, but must be of type int"):
            attach(backbone, name, CLASSES, **{key: 2.5})
        with pytest.raises(PeftlabError, match=f"{key} is 49.*the width, 48"):
            attach(backbone, name, CLASSES, **{key: 49})
    for name, options, message in [
        ("lora", {"targets": ("fc3",)}, "target 'fc3'; did you mean 'fc"),
        ("lora", {"targets": ("q", "q")}, "each once"),
        ("ia3", {"targets": ()}, "at least one of q, k, v, o, ff"),
        ("bitfit", {"targets": "norms"}, "did you mean 'norm'"),
        ("convpass", {"sublayers": ("atn",)}, "did you mean 'attn'"),
        ("adapter", {"placement": "houlsbi"}, "did you mean 'houlsby'"),
        ("fact", {"form": "tx"}, "unknown form 'tx'"),
        ("fact", {"scale": "much"}, "scale is 'much', but must be of type float"),
        ("lora", {"alpha": "much"}, "alpha is 'much', but must be of type float | None"),
        ("vpt", {"deep": "yes"}, "deep is 'yes', but must be of type bool"),
        ("norm", {"last_blocks": "2"}, "last_blocks is '2', but must be of type int | None"),
    ]:
        with pytest.raises(PeftlabError, match=re.escape(message)):
            attach(backbone, name, CLASSES, **options)
    with pytest.raises(PeftlabError, match="num_classes is 1"):
        attach(backbone, "linear", 1)


def test_a_method_that_says_too_little_is_not_registered():
    said = {"title": "T", "idea": "i", "source": "s", "lr": 1e-3}
    with pytest.raises(PeftlabError, match="Vague lacks title, idea, family, source, lr; set them"):
        register("vague")(type("Vague", (Method,), {}))
    with pytest.raises(PeftlabError, match="unknown family 'additiv'; did you mean 'additive'"):
        register("vague")(type("Vague", (Method,), said | {"family": "additiv"}))
    assert "vague" not in METHODS


def numeric_options(cls):
    return [f for f in fields(cls) if NUMBERS & {f.type, *get_args(f.type)}]


NUMBERS = {int, float}
NUMERIC = [(name, f) for name in sorted(METHODS) for f in numeric_options(METHODS[name])]


@pytest.mark.parametrize(("name", "field"), NUMERIC, ids=[f"{name}, {f.name}" for name, f in NUMERIC])
def test_numbers_outside_their_range_are_refused(name, field):
    """Every numeric option has a range; what lies outside, NaN, infinity and truth values get one sentence."""
    kinds, bounds = {field.type, *get_args(field.type)}, field.metadata["range"]
    outside = [n for n in (bounds.at_least - 1, bounds.above, bounds.below) if math.isfinite(n)]
    if float in kinds:
        outside += [float("nan"), float("inf"), -float("inf")]
    for number in outside:
        number = int(number) if float not in kinds else float(number)
        with pytest.raises(PeftlabError, match=f"^{field.name} is {number}, but must be "):
            create_method(name, **{field.name: number})
        with pytest.raises(PeftlabError, match=f"^{field.name} is {number}, but must be "):
            METHODS[name](**{field.name: (number,) if get_origin(field.type) is tuple else number})
    for value in (True, "much"):
        with pytest.raises(PeftlabError, match=f"^{field.name} is {value!r}, but must be of type"):
            create_method(name, **{field.name: value})


def test_ranges_say_what_they_mean():
    for options, message in [
        ({"temperature": -3}, "temperature is -3.0, but must be greater than 0"),
        ({"dropout": 1}, "dropout is 1.0, but must be at least 0 and below 1"),
        ({"kl_cls_gist": float("inf")}, "kl_cls_gist is inf, but must be finite"),
        ({"base_method": "lora", "rank": 0}, "rank is 0, but must be at least 1"),
        ({"base_method": "lora", "alpha": float("nan")}, "alpha is nan, but must be finite"),
        ({"base_method": "adaptformer", "scale": 10**400}, "scale is inf, but must be finite"),
    ]:
        with pytest.raises(PeftlabError, match=f"^{re.escape(message)}$"):
            create_method("gist", **options)
    assert create_method("gist", dropout=0, temperature=1e-3, kl_cls_gist=0).dropout == 0.0
    assert create_method("lora", alpha=-1).alpha == -1.0 and create_method("lora", alpha=None).alpha is None


def test_numbers_in_a_tuple_are_checked_one_by_one():
    assert create_method("two_stage", sizes=[0, 2, 4]).sizes == (0, 2, 4)
    for sizes, message in [
        ([1, -2], "sizes is -2, but must be at least 0"),
        ([1.5], "sizes is 1.5, but must be of type int"),
    ]:
        with pytest.raises(PeftlabError, match=re.escape(message)):
            create_method("two_stage", sizes=sizes)


def test_a_number_without_a_range_is_not_registered():
    said = {"title": "T", "idea": "i", "source": "s", "lr": 1e-3, "family": "additive"}
    for kind in (int, float | None, tuple[int, ...]):
        loose = type("Loose", (Method,), said | {"__annotations__": {"width": kind}, "width": option(None, "wide")})
        with pytest.raises(
            PeftlabError, match=r"Loose: no range for width; write option\(default, text, at_least=1\)"
        ):
            register("loose")(dataclass(frozen=True)(loose))
    assert "loose" not in METHODS


def test_names_in_another_container_are_refused():
    with pytest.raises(PeftlabError, match=re.escape("targets is {'q'}, but must be of type str")):
        create_method("lora", targets={"q"})  # a set has no order of its own
    with pytest.raises(PeftlabError, match=re.escape("targets is 3, but must be of type str")):
        create_method("lora", targets=3)


@on_the_embedded_one
def test_mixed_precision_changes_little(backbone, method, trained):
    """As CUDA devices train: matrices in bf16, the rest in fp32. Nothing crashes, gradients reach every parameter."""
    model, x = copy.deepcopy(trained(method)), images(backbone)
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
    assert (logits - model(x)).norm() < 0.05 * model(x).norm()
    logits.float().logsumexp(1).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["lora", "ia3", "ssf", "fact", "bitfit", "adapter", "adaptformer", "convpass"])
def test_a_backbone_without_the_module_is_named(name):
    backbone = _patch_pooled()
    del backbone.blocks[1].mlp
    with pytest.raises(PeftlabError, match=rf"{name} needs blocks\.1\.mlp.*, which patch pooled does not have"):
        attach(backbone, name, CLASSES, **({"targets": ("fc1",)} if name == "lora" else {}))


def test_weights_that_cannot_be_cut_are_named():
    backbone = VisionTransformer(32, 8, embed_dim=48, depth=1, num_heads=2, mlp_ratio=1.5, num_classes=0)
    with pytest.raises(PeftlabError, match="48 x 48 pieces, but mlp.fc1 is 72 x 48"):
        attach(backbone, "fact", CLASSES)


def test_ssf_needs_biases_to_merge_into():
    backbone = VisionTransformer(32, 8, embed_dim=48, depth=1, num_heads=2, qkv_bias=False, num_classes=0)
    with pytest.raises(NotMergeable, match="Linear has no bias"):
        attach(backbone, "ssf", CLASSES).merge()
