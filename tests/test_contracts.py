"""The contracts of every method: a new one is checked by being registered."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer

import peftlab.methods.base as base
from peftlab.backbones import load_backbone, stages
from peftlab.errors import NotMergeable, PeftlabError
from peftlab.methods import METHODS, attach, load_adapter
from peftlab.training import fit

BACKBONES = {
    "embedded": lambda: load_backbone(),
    "test_vit": lambda: load_backbone("test_vit", pretrained=False, img_size=64),
    "registers, mean pooled": lambda: load_backbone("test_vit2", pretrained=False, img_size=64),
    "patch pooled": lambda: _patch_pooled(),
}
CLASSES = 3


def _patch_pooled():
    torch.manual_seed(1)
    vit = VisionTransformer(32, 8, embed_dim=48, depth=3, num_heads=2, global_pool="avg", num_classes=0)
    vit.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    vit.peftlab_name = "patch pooled"
    return vit.requires_grad_(False).eval()


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    return BACKBONES[request.param]()


@pytest.fixture(params=sorted(METHODS))
def method(request):
    return request.param


def images(backbone, n=4):
    return torch.randn(n, 3, *backbone.patch_embed.img_size, generator=torch.Generator().manual_seed(3))


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
    x, y = images(model.backbone), torch.arange(4) % CLASSES
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def test_start_equals_frozen_backbone(backbone, method):
    model, x = attach(backbone, method, CLASSES), images(backbone)
    same_features = torch.equal(model.vit.forward_features(x), backbone.forward_features(x))
    assert same_features == METHODS[method].identity_at_start


def test_only_trained_tensors_move(backbone, method):
    before = snapshot(backbone)
    model = attach(backbone, method, CLASSES)
    shared = {id(p) for p in backbone.parameters()}
    at_start = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model)
    for name, p in model.named_parameters():
        assert p.requires_grad == (id(p) not in shared), name
        assert torch.equal(p, at_start[name]) != p.requires_grad, name
    assert same(backbone, before)


def test_count_equals_formula(backbone, method):
    model = attach(backbone, method, CLASSES)
    assert model.method_parameters == model.method.count(model.vit)
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
    ],
)
def test_published_counts_on_vit_base(name, options, expected):
    with torch.device("meta"):
        vit = VisionTransformer(num_classes=10)
    method = base.create_method(name, **options)
    vit.requires_grad_(False)
    method.apply(vit)
    assert method.count(vit) == expected
    counted = sum(p.numel() for key, p in vit.named_parameters() if p.requires_grad and not key.startswith("head."))
    assert counted == expected


def test_merged_is_plain_and_equal(backbone, method):
    model, x = train(attach(backbone, method, CLASSES)), images(backbone)
    untouched = snapshot(model.vit)
    if METHODS[method].not_mergeable:
        with pytest.raises(NotMergeable, match=METHODS[method].not_mergeable[:20]):
            model.merge()
        return
    plain = model.merge()
    assert type(plain) is VisionTransformer
    assert not [m for m in plain.modules() if type(m).__module__.startswith("peftlab")]
    assert (plain(x) - model(x)).abs().max() <= 1e-5
    assert (plain(x) - attach(backbone, "linear", CLASSES)(x)).abs().max() > 1e-3  # the change is really in there
    plain.blocks[0].attn.proj.weight.data += 1  # and the merged model owns its weights
    assert same(model.vit, untouched)


def test_round_trip_is_exact(backbone, method, tmp_path):
    model = train(attach(backbone, method, CLASSES))
    loaded = load_adapter(backbone, model.save(tmp_path / "adapter"))
    assert torch.equal(loaded(images(backbone)), model(images(backbone)))


def test_round_trip_in_a_fresh_process(tmp_path):
    backbone = load_backbone()
    models = {name: train(attach(backbone, name, CLASSES)) for name in sorted(METHODS)}
    for name, model in models.items():
        model.save(tmp_path / name)
    code = (
        "import json, sys, torch, peftlab as pl\n"
        "x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))\n"
        "backbone = pl.load_backbone()\n"
        "models = [pl.load_adapter(backbone, f'{sys.argv[1]}/{name}') for name in sys.argv[2:]]\n"
        "print(json.dumps([model(x).flatten().tolist() for model in models]))"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path, *models], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == [model(images(backbone)).flatten().tolist() for model in models.values()]


def test_detach_restores(backbone, method):
    before, count = snapshot(backbone), hooks(backbone)
    model = attach(backbone, method, CLASSES)
    with pytest.raises((RuntimeError, AssertionError)):
        model(torch.randn(1, 5, 7, 7))  # a failing forward pass must leave nothing behind either
    plain = train(model).detach()
    assert plain is backbone and same(plain, before) and hooks(plain) == count
    assert not any(p.requires_grad for p in plain.parameters())


def test_stages_compose_to_the_model(backbone, method):
    model, x = attach(backbone, method, CLASSES), images(backbone)
    y = x
    for stage in stages(model.vit):
        y = stage.run(y)
    assert torch.equal(y, model(x))
    listed = [id(p) for stage in stages(model.vit) for p in stage.parameters]
    assert sorted(listed) == sorted(id(p) for p in model.vit.parameters())


def test_same_seed_same_row(method, tiny_task, tmp_path):
    def row(folder):
        model = attach(_patch_pooled(), method, CLASSES, seed=5)
        run = fit(model, tiny_task, epochs=2, batch_size=8, seed=5, device="cpu", runs=tmp_path / folder)
        run.evaluate("test")
        return {k: v for k, v in run.record.items() if k not in ("seconds", "finished", "test_opened")}

    assert row("a") == row("b")


def test_damaged_adapters_are_refused(backbone, tmp_path):
    from peftlab.checkpoints import read_tensors, write_tensors

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


def test_a_new_method_is_one_file():
    """A toy method, written as a reader would in one cell, takes part in everything by being registered."""
    from dataclasses import dataclass

    from peftlab.methods import Method, register, unfreeze

    try:

        @register("toy")
        @dataclass(frozen=True)
        class Toy(Method):
            title, idea, source, lr = "Toy", "train the final norm", "here", 1e-2

            def apply(self, vit):
                unfreeze(vit.norm, "weight", "bias")

            def count(self, vit):
                return 2 * vit.embed_dim

        backbone = load_backbone("test_vit", pretrained=False, img_size=64)
        for contract in (test_start_equals_frozen_backbone, test_only_trained_tensors_move, test_count_equals_formula):
            contract(backbone, "toy")
        test_merged_is_plain_and_equal(backbone, "toy")
        test_detach_restores(backbone, "toy")
        assert attach(backbone, "toy", CLASSES).first_trainable_stage() == 1 + len(backbone.blocks)
    finally:
        METHODS.pop("toy", None)


def test_unknown_names_and_options_name_the_near_ones():
    backbone = _patch_pooled()
    with pytest.raises(PeftlabError, match="did you mean 'lora'"):
        attach(backbone, "lorra", CLASSES)
    with pytest.raises(PeftlabError, match="did you mean 'rank'"):
        attach(backbone, "lora", CLASSES, ranks=8)
    with pytest.raises(PeftlabError, match="no option 'rank'"):
        attach(backbone, "linear", CLASSES, rank=8)
    for rank in (0, 49):
        with pytest.raises(PeftlabError, match=f"rank is {rank}"):
            attach(backbone, "lora", CLASSES, rank=rank)
    with pytest.raises(PeftlabError, match="target 'x'"):
        attach(backbone, "lora", CLASSES, targets=("x",))
    with pytest.raises(PeftlabError, match="num_classes is 1"):
        attach(backbone, "linear", 1)
