"""Devices and precisions: those that there are, a sentence for those that are not, and what is computed in which."""

from operator import attrgetter
from types import SimpleNamespace

import pytest
import torch
from support import small_vit

from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.methods.core import importance
from peftlab.training import loop
from peftlab.training.evaluate import evaluate, features
from peftlab.training.fit import fit
from peftlab.training.precision import arithmetic, computing, devices, has_bf16, pick_device, pick_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = {"epochs": 3, "batch_size": 8, "device": "cpu"}
LIBRARIES = ["cuda.matmul", "mkldnn.matmul", "cudnn.conv", "mkldnn.conv"]


@pytest.mark.parametrize(
    "device", ["foo", "", "meta", "cpu:7", "cuda:99", "cuda:-1", "mps:3", "CPU", torch.device("meta")]
)
def test_a_device_that_is_not_there_is_said_with_those_that_are(device):
    with pytest.raises(PeftlabError, match=f"no device '{device}'.*Known: .*cpu"):
        pick_device(device)


def test_every_device_that_is_there_is_taken(monkeypatch):
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == torch.device("cpu")
    assert pick_device("cpu:0").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices() == ["cuda", "cuda:1", "cpu"] and pick_device() == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda:0") and pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(PeftlabError, match="no device 'cuda:2'.*Known: cpu, cuda, cuda:1"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("instructions", "there"),
    [
        ({"avx512_bf16": True, "architecture": "x86_64"}, True),
        ({"amx_bf16": True}, True),
        ({"sve_bf16": False, "bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
        ({}, False),
    ],
)
def test_auto_asks_torch_for_the_instructions_of_a_cpu(instructions, there, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert has_bf16(CPU) is there and pick_precision("auto", CPU) == ("bf16" if there else "fp32")
    assert pick_precision("fp32", CPU) == "fp32" and pick_precision("bf16", CPU) == "bf16"
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # the library that uses them
    assert not has_bf16(CPU)


def test_auto_asks_torch_for_the_arithmetic_of_a_gpu(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, there=there: there)
        assert pick_precision("auto", CUDA) == ("bf16" if there else "fp32")
    assert pick_precision("auto", torch.device("mps")) == "fp32"


def test_a_torch_that_cannot_say_trains_in_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_precision("auto", CPU) == "fp32"


def test_another_precision_is_refused_with_those_that_there_are(tiny_task):
    with pytest.raises(PeftlabError, match="unknown precision 'fp16'.*Known: auto, bf16, fp32"):
        fit(attach(small_vit(), "linear", 3), tiny_task, precision="fp16")


def test_the_precision_that_is_used_tells_runs_apart(tiny_task, monkeypatch):
    """And auto is the run of what it stands for."""
    monkeypatch.setattr("peftlab.training.precision.has_bf16", lambda device: False)
    runs = {p: fit(attach(small_vit(), "lora", 3), tiny_task, **SMALL, precision=p) for p in ("fp32", "bf16", "auto")}
    assert runs["auto"].folder == runs["fp32"].folder != runs["bf16"].folder
    assert [runs[p].record["precision"] for p in ("fp32", "bf16")] == ["fp32", "bf16"]


@pytest.fixture
def tell_torch():
    """Sets how torch computes with fp32 numbers; afterwards that is as it was."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("a torch of before 2.9 has no settings for each library")
    libraries = [attrgetter(name)(torch.backends) for name in LIBRARIES]
    before = [library.fp32_precision for library in libraries]

    def tell(name, how):
        *path, setting = name.split(".")
        setattr(attrgetter(".".join(path))(torch.backends) if path else torch.backends, setting, how)

    yield tell
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.fp32_precision = "none"
    for library, how in zip(libraries, before, strict=True):
        library.fp32_precision = how
    assert [library.fp32_precision for library in libraries] == before and arithmetic("fp32") == "fp32"


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("cuda.matmul.fp32_precision", "ieee", "fp32"),
        ("mkldnn.matmul.fp32_precision", "ieee", "fp32"),
        ("mkldnn.conv.fp32_precision", "none", "fp32"),
        ("cudnn.conv.fp32_precision", "tf32", "fp32"),
        ("cuda.matmul.fp32_precision", "tf32", "fp32, cuda.matmul tf32"),
        ("mkldnn.matmul.fp32_precision", "bf16", "fp32, mkldnn.matmul bf16"),
        ("mkldnn.conv.fp32_precision", "bf16", "fp32, mkldnn.conv bf16"),
        ("cudnn.conv.fp32_precision", "ieee", "fp32, cudnn.conv ieee"),
        ("cudnn.allow_tf32", False, "fp32, cudnn.conv ieee"),
        ("cuda.matmul.allow_tf32", True, "fp32, products high"),
        ("fp32_precision", "tf32", "fp32, cuda.matmul tf32, mkldnn.matmul tf32, mkldnn.conv tf32"),
    ],
)
def test_what_torch_was_told_stands_in_the_precision(name, how, said, tell_torch):
    """Where it is no default: for those the string has always been the precision alone."""
    assert arithmetic("fp32") == "fp32"
    tell_torch(name, how)
    assert arithmetic("fp32") == said


@pytest.mark.parametrize("how", ["high", "medium"])
def test_what_torch_was_told_in_its_older_words_has_kept_its_name(how, tell_torch):
    torch.set_float32_matmul_precision(how)
    assert arithmetic("bf16") == f"bf16, products {how}"


def test_a_torch_without_settings_for_each_library_is_asked_for_the_one_it_has(monkeypatch):
    monkeypatch.setattr(torch, "backends", SimpleNamespace())
    for how, said in {"highest": "fp32", "medium": "fp32, products medium"}.items():
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda how=how: how)
        assert arithmetic("fp32") == said


def test_rougher_products_train_and_are_another_run(tiny_task, tell_torch):
    plain = fit(attach(small_vit(), "lora", 3), tiny_task, **SMALL, precision="fp32")
    for library in LIBRARIES[:2]:
        tell_torch(f"{library}.fp32_precision", "tf32")
    rough = fit(attach(small_vit(), "lora", 3), tiny_task, **SMALL, precision="fp32")
    assert rough.folder != plain.folder and rough.record["precision"] != plain.record["precision"] == "fp32"


@pytest.mark.parametrize("method", ["linear", "lora", "gist", "gift", "two_stage", "full"])
def test_bf16_follows_the_same_curve(method, tiny_task):
    """Also within a caller's autocast, whose cache would hold the weights of the first step."""
    curves = {}
    for precision in ("fp32", "bf16"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            run = fit(attach(small_vit(), method, 3), tiny_task, **SMALL | {"epochs": 5}, precision=precision)
        curves[precision] = torch.tensor(run.curves["loss"])
    fallen = curves["fp32"][0] - curves["fp32"][-1]
    assert fallen > 0 and (curves["fp32"] - curves["bf16"]).abs().max() < 0.1 * fallen


def test_products_in_bf16_losses_and_weights_in_fp32(tiny_task, monkeypatch):
    model, kinds = attach(small_vit(), "gist", 3), set()
    model.vit.blocks[0].attn.qkv.register_forward_hook(lambda module, args, out: kinds.add(out.dtype))
    finite = loop.require_finite

    def seen(loss, *where):
        assert loss.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        finite(loss, *where)

    monkeypatch.setattr(loop, "require_finite", seen)
    run = fit(model, tiny_task, **SMALL, precision="bf16")
    run.evaluate("test")
    assert kinds == {torch.bfloat16} and {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_run_is_measured_in_its_own_precision(tiny_task, monkeypatch):
    """As are features: what follows is fp32 again."""
    model = attach(small_vit(), "lora", 3)
    run = fit(model, tiny_task, **SMALL, precision="bf16")
    run.evaluate("test")
    expected = evaluate(model, tiny_task, "test", run.spec.protocol)["loss"]
    exact = evaluate(model, tiny_task, "test", run.spec.protocol.with_recipe(precision="fp32"))["loss"]
    assert run.record["test_loss"] == expected != exact
    assert features(model.vit, tiny_task, "test", run.spec.protocol).dtype == torch.float32


def test_importance_scores_are_computed_in_fp32(tiny_task, monkeypatch):
    """Also where the training that asks for them is in bf16."""
    kinds, score = set(), importance.of_images
    monkeypatch.setattr(
        importance, "of_images", lambda name, h, g: kinds.add(torch.is_autocast_enabled("cpu")) or score(name, h, g)
    )
    fit(attach(small_vit(), "two_stage", 3), tiny_task, **SMALL, precision="bf16")
    assert kinds == {False}


def test_attention_is_explicit_in_bf16_on_a_cpu_and_as_before_afterwards():
    vit = small_vit()
    fused = lambda: {block.attn.fused_attn for block in vit.blocks}  # noqa: E731
    with computing(vit, CPU, "fp32"):
        assert fused() == {True}
    with pytest.raises(ZeroDivisionError), computing(vit, CPU, "bf16"):
        assert fused() == {False}
        raise ZeroDivisionError
    assert fused() == {True} and not torch.is_autocast_enabled("cpu")
