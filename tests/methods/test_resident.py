"""Several adapters on one backbone: shared tensors, switching by name, weighted sums (HF peft as an oracle)."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from support import small_vit, tuned

from peftlab.backbones.identity import as_vit
from peftlab.common.errors import NotMergeable, PeftlabError
from peftlab.methods import METHODS, Adapters, attach, create_method
from peftlab.methods.core.hf_peft import export_hf
from peftlab.methods.core.model import PeftModel, share
from peftlab.methods.core.resident import changes_of

x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
LORAS = {"a": {"rank": 4, "targets": ("q", "v", "fc1")}, "b": {"rank": 4, "alpha": 2.0, "targets": ("qkv", "fc1")}}


def adapters_of(vit, **methods):
    adapters = Adapters(vit)
    for name, options in methods.items():
        adapters.add_adapter(name, tuned(vit, **({"method": "lora"} | options)))
    return adapters


def storages(vit):
    return {name: t.data_ptr() for name, t in vit.named_parameters()}


def test_switching():
    adapters = adapters_of(small_vit(), a=LORAS["a"], n={"method": "norm"}, v={"method": "vpt", "prompts": 2})
    assert adapters.names == ("a", "n", "v") and adapters.active_adapter == "a"
    logits = {}
    for name in ("v", "a", "n", "a"):
        adapters.set_adapter(name)
        logits[name] = adapters(x)
        assert torch.equal(logits[name], adapters[name](x)) and adapters.active_adapter == name
    assert not torch.allclose(logits["a"], logits["n"]) and not torch.allclose(logits["a"], logits["v"])


def test_own_tensors_follow_the_backbone(monkeypatch):
    """Training moves a model to its device, and with it the frozen tensors of all others."""
    adapters, moved = adapters_of(small_vit(), **LORAS), []
    monkeypatch.setattr(PeftModel, "to", lambda model, device: moved.append((model, device)) or model)
    adapters.set_adapter("b")
    assert moved == [(adapters._models["b"], adapters.backbone.cls_token.device)]


def test_frozen_tensors_are_there_once(tmp_path):
    vit = small_vit()
    adapters = adapters_of(vit, a=LORAS["a"], n={"method": "norm", "last_blocks": 1})
    adapters.add_adapter("saved", adapters["a"].save(tmp_path / "a"))
    adapters.add_weighted_adapter("sum", {"a": 1.5, "saved": -0.5})
    assert torch.equal(adapters["saved"](x), adapters["a"](x))
    frozen = set(storages(vit).values())
    own = {name: storages(adapters[name]).items() for name in adapters.names}
    for name in ("a", "saved", "n"):
        model = adapters[name]
        mine = {n for n, p in model.named_parameters() if p.requires_grad}
        assert {n for n, pointer in own[name] if pointer not in frozen} == mine
    changed = {n for n, pointer in own["sum"] if pointer not in frozen}
    assert changed == {"head.weight", "head.bias"} | {
        f"blocks.{i}.{layer}.weight" for i in range(3) for layer in ("attn.qkv", "mlp.fc1")
    }
    every = {
        p.data_ptr(): p.numel() for m in (vit, *map(adapters.__getitem__, adapters.names)) for p in m.parameters()
    }
    extra = sum(p.numel() for name in ("a", "saved", "n") for p in adapters[name].parameters() if p.requires_grad)
    extra += sum(adapters["sum"].get_parameter(n).numel() for n in changed)
    assert sum(every.values()) == sum(p.numel() for p in vit.parameters()) + extra


@pytest.mark.parametrize("name", METHODS)
def test_weight_one_is_merging(name):
    """For every method that merges; the others say why they do not."""
    adapters = Adapters(small_vit())
    adapters.add_adapter("one", tuned(adapters.backbone, name))
    if create_method(name).not_mergeable:
        with pytest.raises(NotMergeable, match=f"one: {name} cannot be merged: "):
            adapters.add_weighted_adapter("sum", {"one": 1})
        assert adapters.names == ("one",)
        return
    adapters.add_weighted_adapter("sum", {"one": 1})
    torch.testing.assert_close(adapters["sum"](x), adapters["one"].merge()(x), atol=1e-4, rtol=1e-4)
    adapters.add_weighted_adapter("none", {"one": 0})
    frozen = attach(adapters.backbone, "linear", 3)
    frozen.vit.head.load_state_dict(adapters["one"].vit.head.state_dict())
    assert torch.equal(adapters["none"](x), frozen(x))


def test_a_sum_in_weight_space():
    """Different methods, and a sum of a sum, tensor by tensor; the head is one adapter's own."""
    adapters = adapters_of(small_vit(), a=LORAS["a"], n={"method": "norm"}, o={"method": "bitfit", "last_blocks": 1})
    adapters.add_weighted_adapter("two", {"a": 0.7, "n": -0.3}, head="n")
    adapters.add_weighted_adapter("three", {"two": 0.5, "o": 2})
    frozen, each = (
        dict(adapters.backbone.named_parameters()),
        {n: dict(adapters[n].merge().named_parameters()) for n in "ano"},
    )
    for name, W in frozen.items():
        d = {n: each[n][name] - W for n in "ano"}
        two, three = W + 0.7 * d["a"] - 0.3 * d["n"], W + 0.35 * d["a"] - 0.15 * d["n"] + 2 * d["o"]
        torch.testing.assert_close(adapters["two"].get_parameter(name), two)
        torch.testing.assert_close(adapters["three"].get_parameter(name), three)
    for name in ("two", "three"):
        assert torch.equal(adapters[name].head.weight, adapters["n"].vit.head.weight)
        assert adapters[name].head.weight is not adapters["n"].vit.head.weight
        assert not any(p.requires_grad for p in adapters[name].parameters())


def hf_peft_sum(adapters, weights, kind, folder):
    """HF peft's weighted adapter out of the adapters that we export, on the head of the first."""
    peft = pytest.importorskip("peft", reason="HF peft is not installed; pip install 'peftlab[hf]'")
    headed = share(adapters.backbone)
    headed.reset_classifier(3)
    headed.head.load_state_dict(adapters[next(iter(weights))].vit.head.state_dict())
    theirs = None
    for name in weights:
        saved = export_hf(adapters[name], folder / name)
        config, file = saved / "adapter_config.json", saved / "adapter_model.safetensors"
        # HF peft adds no adapters that bring heads of their own, so theirs all stand on one.
        config.write_text(json.dumps(json.loads(config.read_text()) | {"modules_to_save": None}))
        save_file({key: t for key, t in load_file(file).items() if ".head." not in key}, file)
        if theirs is None:
            theirs = peft.PeftModel.from_pretrained(headed, saved, adapter_name=name).eval()
        else:
            theirs.load_adapter(saved, name)
    theirs.add_weighted_adapter([*weights], [*weights.values()], "sum", combination_type=kind)
    theirs.set_adapter("sum")
    return theirs(x)


@pytest.mark.parametrize("weights", [{"first": 0.7, "second": 0.3}, {"second": 1.0, "first": -0.5}], ids=str)
def test_hf_peft_adds_the_same(weights, tmp_path):
    adapters = adapters_of(small_vit(), first=LORAS["a"], second=LORAS["b"])
    adapters.add_weighted_adapter("sum", weights)
    torch.testing.assert_close(
        adapters["sum"](x), hf_peft_sum(adapters, weights, "cat", tmp_path), atol=1e-5, rtol=1e-5
    )


def test_hf_pefts_linear_is_another_function(tmp_path):
    """As the docstring says: A and B are weighted and added one by one, before their product."""
    adapters, weights = adapters_of(small_vit(), first={"rank": 4}, second={"rank": 4}), {"first": 0.7, "second": 0.3}
    adapters.add_weighted_adapter("sum", weights)
    assert (adapters["sum"](x) - hf_peft_sum(adapters, weights, "linear", tmp_path)).abs().max() > 1e-2


FAULTS = {
    "taken": (lambda a: a.add_adapter("a", attach(a.backbone, "lora", 3)), "there is an adapter 'a' already"),
    "taken by a sum": (lambda a: a.add_weighted_adapter("a", {"b": 1}), "there is an adapter 'a' already"),
    "another backbone": (lambda a: a.add_adapter("c", attach(small_vit(), "lora", 3)), "not attached to the backbone"),
    "no folder": (lambda a: a.add_adapter("c", "nowhere"), "nowhere/adapter.json: no such file"),
    "set": (lambda a: a.set_adapter("aa"), "unknown adapter 'aa'; did you mean 'a'"),
    "get": (lambda a: a["aa"], "unknown adapter 'aa'; did you mean 'a'"),
    "weights": (lambda a: a.add_weighted_adapter("c", {"aa": 1}), "unknown adapter 'aa'"),
    "head": (lambda a: a.add_weighted_adapter("c", {"a": 1}, head="bb"), "unknown adapter 'bb'"),
    "no weights": (lambda a: a.add_weighted_adapter("c", {}), "weights name no adapter for 'c'"),
    "NaN": (lambda a: a.add_weighted_adapter("c", {"a": float("nan")}), "weight of 'a' is nan, but must be finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sentence_for_each_fault(fault):
    adapters = adapters_of(small_vit(), **LORAS)
    change, sentence = FAULTS[fault]
    with pytest.raises(PeftlabError, match=sentence):
        change(adapters)
    assert adapters.names == ("a", "b") and adapters.active_adapter == "a"
    assert isinstance(adapters["a"], PeftModel)


def test_none_yet():
    with pytest.raises(PeftlabError, match="there is no adapter yet"):
        Adapters(small_vit())(x)


def test_a_change_with_no_place():
    with pytest.raises(NotMergeable, match="it has blocks.0.attn.qkv.bias, which the backbone does not have"):
        changes_of(small_vit(), small_vit(qkv_bias=False))


SWIN = {"window_size": 4, "embed_dim": 12, "depths": (2, 1), "num_heads": (2, 4)}
OTHERS = {
    "eva": lambda: timm.create_model("vit_tiny_patch16_dinov3_qkvb", img_size=32, depth=2, num_classes=0),
    "swin": lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=32, num_classes=0, **SWIN),
}


@pytest.mark.parametrize("family", OTHERS)
def test_families_written_as_a_vit(family):
    """Adapters stand on the VisionTransformer that they are written as; a sum is of timm's class again."""
    other = OTHERS[family]().eval()
    adapters = Adapters(other)
    adapters.add_adapter("one", tuned(adapters.backbone, "lora", rank=2))
    adapters.add_weighted_adapter("sum", {"one": 1})
    assert type(adapters["sum"]) is type(other)
    torch.testing.assert_close(adapters["sum"](x), adapters["one"](x), atol=1e-4, rtol=1e-4)
    adapters.add_weighted_adapter("half", {"sum": 0.5})
    W, both, half = (as_vit(m).blocks[1].attn.qkv.weight for m in (other, adapters["sum"], adapters["half"]))
    torch.testing.assert_close(half, W + (both - W) / 2)
    assert not torch.equal(both, W)
