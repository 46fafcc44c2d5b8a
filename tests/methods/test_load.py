"""A saved adapter is checked before it is believed: whatever is damaged in its folder gets one sentence."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import CLASSES, small_vit, tuned

from peftlab.common.errors import PeftlabError
from peftlab.methods import attach, load_adapter


@pytest.fixture
def adapter(tmp_path):
    return tuned(small_vit(), "lora", rank=2).save(tmp_path / "adapter")


def record(**changes):
    """Change entries of adapter.json; None removes one."""

    def damage(folder):
        file = folder / "adapter.json"
        content = json.loads(file.read_text()) | changes
        file.write_text(
            json.dumps({key: value for key, value in content.items() if changes.get(key, ...) is not None})
        )

    return damage


def of_backbone(**changes):
    def damage(folder):
        file = folder / "adapter.json"
        content = json.loads(file.read_text())
        content["backbone"] |= changes
        file.write_text(json.dumps(content))

    return damage


def text(content):
    def damage(folder):
        (folder / "adapter.json").write_bytes(content)

    return damage


def tensors(change):
    """change: what to do to the dict of tensors."""

    def damage(folder):
        content = load_file(folder / "adapter.safetensors")
        change(content)
        save_file(content, folder / "adapter.safetensors")

    return damage


def first(value):
    """Replace the first tensor by value(tensor)."""
    return tensors(lambda content: content.update({min(content): value(content[min(content)])}))


def without(name, then=lambda file: None):
    def damage(folder):
        (folder / name).unlink()
        then(folder / name)

    return damage


def binary(change):
    def damage(folder):
        file = folder / "adapter.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return damage


HOSTILE = {
    "no folder": (shutil.rmtree, "adapter.json: no such file"),
    "no adapter.json": (without("adapter.json"), "adapter.json: no such file"),
    "no tensors": (without("adapter.safetensors"), "adapter.safetensors: no such file"),
    "json is a folder": (without("adapter.json", Path.mkdir), "adapter.json"),
    "json is a pipe": (without("adapter.json", os.mkfifo), "adapter.json"),
    "tensors are a folder": (without("adapter.safetensors", Path.mkdir), "adapter.safetensors"),
    "tensors are a pipe": (without("adapter.safetensors", os.mkfifo), "adapter.safetensors"),
    "empty json": (text(b""), "adapter.json"),
    "half a json": (text(b'{"method": "lo'), "adapter.json"),
    "binary json": (text(bytes(range(256))), "adapter.json"),
    "a list": (text(b"[1, 2]"), "adapter.json"),
    "a number": (text(b"3"), "adapter.json"),
    "null": (text(b"null"), "adapter.json"),
    "deep json": (text(b"[" * 100_000), "adapter.json"),
    "no method": (record(method=None), "method is 'missing'"),
    "method a list": (record(method=["lora"]), r"method is \['lora'\]"),
    "unknown method": (record(method="lorra"), "unknown method 'lorra'; did you mean 'lora'"),
    "another method": (record(method="linear", options={}), "unexpected"),
    "no options": (record(options=None), "options is 'missing'"),
    "options a list": (record(options=[]), r"options is \[\]"),
    "unknown option": (record(options={"rnak": 2}), "no option 'rnak'"),
    "option of another kind": (record(options={"rank": "two"}), "rank"),
    "targets a number": (record(options={"targets": 5}), "targets"),
    "another rank": (record(options={"rank": 3}), "wrong shape"),
    "absurd rank": (record(options={"rank": 10**9}), "rank is 1000000000"),
    "no classes": (record(num_classes=None), "num_classes is 'missing'"),
    "classes as text": (record(num_classes="3"), "num_classes is '3'"),
    "one class": (record(num_classes=1), "num_classes is 1"),
    "a billion classes": (record(num_classes=10**9), "num_classes is 1000000000"),
    "a million million classes with names": (record(num_classes=10**12, classes=["a"]), "1 names for 1000000000000"),
    "more classes": (record(num_classes=4), "wrong shape"),
    "names of another count": (record(classes=["a", "b"]), "2 names for 3 classes"),
    "names that are numbers": (record(classes=[1, 2, 3]), "names for 3 classes"),
    "no backbone": (record(backbone=None), "backbone is 'missing'"),
    "backbone a name": (record(backbone="small"), "backbone is 'small'"),
    "other weights": (of_backbone(weights="0" * 12), "with weights 000000000000"),
    "other architecture": (of_backbone(probe="0" * 12), "with architecture 000000000000"),
    "other mean": (of_backbone(mean=[0.4, 0.5, 0.5]), r"with mean \[0.4"),
    "other std": (of_backbone(std=[0.4, 0.5, 0.5]), r"with std \[0.4"),
    "no img_size": (of_backbone(img_size=None), "img_size is None"),
    "img_size a number": (of_backbone(img_size=32), "img_size is 32"),
    "img_size negative": (of_backbone(img_size=[-32, 32]), r"img_size is \[-32, 32\]"),
    "a number that fp32 does not hold": (first(lambda t: t.double() + 1e300), "holds NaN or infinity"),
    "NaN": (first(lambda t: t * float("nan")), "holds NaN or infinity"),
    "infinity": (first(lambda t: t + float("inf")), "holds NaN or infinity"),
    "int8": (first(lambda t: t.to(torch.int8)), "of type torch.int8"),
    "complex": (first(lambda t: t.to(torch.complex64)), "of type torch.complex64"),
    "bool": (first(lambda t: t.bool()), "of type torch.bool"),
    "another shape": (first(lambda t: t[:1].clone()), "wrong shape"),
    "a missing tensor": (tensors(lambda content: content.pop(min(content))), "missing"),
    "one too many": (tensors(lambda content: content.update(more=torch.zeros(1))), "unexpected"),
    "empty tensors": (binary(lambda content: b""), "adapter.safetensors"),
    "half the tensors": (binary(lambda content: content[: len(content) // 2]), "adapter.safetensors"),
    "absurd header": (binary(lambda content: b"\xff" * 8 + content[8:]), "adapter.safetensors"),
    "no safetensors": (binary(lambda content: b"PK\x03\x04" + content), "adapter.safetensors"),
}


@pytest.mark.parametrize(("damage", "words"), HOSTILE.values(), ids=HOSTILE)
def test_damaged_adapters_get_a_sentence(damage, words, adapter):
    damage(adapter)
    with pytest.raises(PeftlabError, match=words) as error:
        load_adapter(small_vit(), adapter)
    assert "adapter" in str(error.value) and len(str(error.value)) < 1000


def test_half_precision_is_read(adapter):
    """Adapters may be stored in fp16 to save space."""
    expected = load_adapter(small_vit(), adapter).adapter_state()
    content = {name: t.half() for name, t in load_file(adapter / "adapter.safetensors").items()}
    save_file(content, adapter / "adapter.safetensors")
    for name, tensor in load_adapter(small_vit(), adapter).adapter_state().items():
        assert tensor.dtype == torch.float32 and torch.allclose(tensor, expected[name], atol=1e-3)


def test_no_numbers_are_never_saved(tmp_path):
    model = attach(small_vit(), "lora", CLASSES)
    with torch.no_grad():
        model.vit.head.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match="head.bias holds NaN or infinity"):
        model.save(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("what", ["half", "double", "bfloat16", "float"])
def test_precision_of_a_model_is_not_changed(what):
    """Its frozen weights belong to others, too; `float` on a model in fp32 changes nothing and passes."""
    backbone = small_vit()
    model, neighbour = attach(backbone, "lora", CLASSES), attach(backbone, "ssf", CLASSES)
    x = torch.randn(1, 3, 32, 32)
    expected = neighbour(x)
    if what == "float":
        getattr(model, what)()
    else:
        with pytest.raises(PeftlabError, match="the frozen weights are shared"):
            getattr(model, what)()
    assert torch.equal(neighbour(x), expected) and torch.equal(backbone(x), small_vit()(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_backbone_in_another_precision(dtype):
    model = attach(small_vit().to(dtype), "lora", CLASSES)
    assert model(torch.zeros(1, 3, 32, 32, dtype=dtype)).dtype == dtype
