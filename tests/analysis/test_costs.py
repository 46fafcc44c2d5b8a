"""The cost card: arithmetic against the closed form, memory against what can be counted by hand."""

import weakref
from functools import partial

import pytest
import torch
from matplotlib.figure import Figure
from support import shallow, small_swin
from torch import nn

import peftlab.analysis.costs as costing
from peftlab import views
from peftlab.analysis.costs import (
    MIB,
    PeakBytes,
    activation_bytes,
    cost_card,
    costs,
    explicit_attention,
    flops,
    objective,
    peak_bytes,
    seconds,
)
from peftlab.cli import main
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, attach, create_method

CLASSES = 3


@pytest.fixture(autouse=True)
def measured_shortly(monkeypatch):
    """Each time is the median of five, not of half a second."""
    monkeypatch.setattr("peftlab.analysis.costs.seconds", partial(seconds, at_least=0))


@pytest.fixture
def backbone():
    return shallow("test_vit")


def vit_flops(vit):
    """Of one image: patch embedding, per block qkv, attention twice N x N x D, proj, fc1, fc2, and the head."""
    D, H, n = vit.embed_dim, vit.blocks[0].mlp.fc1.out_features, vit.patch_embed.num_patches
    N = n + vit.num_prefix_tokens
    block = N * D * (3 * D + D + 2 * H) + 2 * N * N * D
    return 2 * (n * D * vit.patch_embed.proj.weight[0].numel() + len(vit.blocks) * block + D * CLASSES)


def test_forward_flops_equal_the_closed_form(backbone):
    x = torch.randn(2, 3, 64, 64)
    for method in ("linear", "full", "norm"):
        model = attach(backbone, method, CLASSES)
        forward, both = flops(model, x)
        assert forward == 2 * vit_flops(model.vit)
        assert all(p.grad is None for p in model.parameters())
    assert both < 3 * forward  # norm: no gradients of weights
    rank, D, N = 8, backbone.embed_dim, 17
    model = attach(backbone, "lora", CLASSES, rank=rank)
    down_and_up = 2 * N * (2 * rank) * (D + 3 * D)
    assert flops(model, x[:1])[0] == vit_flops(model.vit) + len(backbone.blocks) * down_and_up


def test_training_flops_are_ordered_as_theory_says(backbone):
    x = torch.randn(1, 3, 64, 64)
    forward, full = flops(attach(backbone, "full", CLASSES), x)
    embedding = 2 * 16 * 64 * 3 * 16 * 16
    assert full == 3 * forward - embedding  # each product has two gradients, but the images need none
    linear = flops(attach(backbone, "linear", CLASSES), x)[1]
    assert forward < linear < 1.01 * forward
    last = flops(attach(backbone, "lora", CLASSES, last_blocks=1), x)[1]
    assert linear < last < flops(attach(backbone, "lora", CLASSES), x)[1] < full


def test_a_card_without_names_has_the_methods_that_go_on_the_backbone(monkeypatch):
    monkeypatch.setattr(costing, "costs", lambda backbone, method, *how: {"parameters": 0})
    card = cost_card(small_swin())
    assert set(METHODS) - set(card.index) == {name for name, each in METHODS.items() if each.not_on_windows}


def test_attention_is_fused_again_also_after_a_failure(backbone):
    fused = [m for m in backbone.modules() if getattr(m, "fused_attn", False)]
    assert fused
    with pytest.raises(RuntimeError), explicit_attention(backbone):
        assert not any(m.fused_attn for m in fused)
        raise RuntimeError
    assert all(m.fused_attn for m in fused)


def test_activation_bytes_of_a_small_network():
    """Linear keeps its input unless that is x, ReLU its output, cross-entropy the log-softmax and a scalar weight."""
    model, x, y = (
        nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)),
        torch.randn(32, 8),
        torch.zeros(32).long(),
    )
    expected = 4 * (32 * 16 + 32 * 4)
    assert expected <= activation_bytes(model, x, y) <= expected + 16
    model[0].requires_grad_(False)
    assert expected - 4 * 32 * 16 <= activation_bytes(model, x, y) <= expected + 16


def test_peak_follows_what_lives():
    a = torch.zeros(1000)
    with PeakBytes([a]) as memory:
        b = a + 1
        assert memory.now == 4000
        view = b[10:].view(-1)
        assert memory.now == 4000  # a view is no memory of its own
        del b
        assert memory.now == 4000
        del view
        assert memory.now == 0
        c = [torch.ones(1000) for _ in range(3)]
        a.add_(1)
    assert memory.highest == 12000 and len(c) == 3


def test_peak_of_full_tuning_holds_weights_gradients_and_two_moments(backbone):
    x, y = torch.randn(1, 3, 64, 64), torch.tensor([0])
    peaks = {m: peak_bytes(attach(backbone, m, CLASSES), x, y) for m in ("linear", "norm", "full")}
    weights = 4 * sum(p.numel() for p in backbone.parameters())
    assert peaks["linear"] < peaks["norm"] < peaks["full"]
    assert peaks["full"] - peaks["norm"] > 2.9 * weights
    assert peaks["linear"] >= weights


def test_what_else_is_on_a_gpu_is_no_memory_of_a_step(backbone, monkeypatch):
    """The peak that CUDA counts is of all that is there, such as another model. (A GPU is not needed to see that.)"""

    class OnCuda(torch.Tensor):
        is_cuda = True

    model, y = attach(backbone, "norm", CLASSES), torch.tensor([0])
    x = torch.randn(1, 3, 64, 64).as_subclass(OnCuda)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *device: None)
    peaks = set()
    for others in (0, 10**9):
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *device, others=others: others)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *device, others=others: others + 5000)
        peaks.add(peak_bytes(model, x, y))
    (peak,) = peaks
    kept = [*model.parameters(), *model.buffers(), x, y]
    moments = 2 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert peak - 5000 == pytest.approx(sum(t.nbytes for t in kept) + 4 * moments, rel=0.001)


@pytest.mark.parametrize("method", ["lora", "vpt"])
def test_the_merged_model_is_gone_when_memory_is_measured(method, backbone, monkeypatch):
    """CUDA would count it, for methods that merge alone."""
    merged, left, merge, measure = [], [], costing.plainest, costing.training_costs

    def seen(model):
        final = merge(model)
        merged.append(weakref.ref(final) if final is not model.vit else lambda: None)
        return final

    monkeypatch.setattr(costing, "plainest", seen)
    monkeypatch.setattr(costing, "training_costs", lambda *how: left.append(merged[0]()) or measure(*how))
    assert costs(backbone, create_method(method), CLASSES, 2, "cpu")["merged"] == (method == "lora")
    assert left == [None]


def test_costs_are_those_of_the_methods_own_loss(backbone):
    """GIST's second answer and its KLs are part of its step; a card without them would flatter it."""
    x, y = torch.randn(4, 3, 64, 64), torch.zeros(4).long()
    gist = attach(backbone, "gist", CLASSES, base_method="lora")
    assert objective(gist, x, y).item() == pytest.approx(gist.loss(gist(x), y)["loss"].item())
    assert objective(gist, x, y) > 1.3 * torch.nn.functional.cross_entropy(gist(x), y)
    forward, both = flops(gist, x[:1])
    plain = attach(backbone, "gist", CLASSES, base_method="lora")
    object.__setattr__(plain.method, "loss", lambda vit, logits, y: create_method("lora").loss(vit, logits, y))
    second_head = 2 * backbone.embed_dim * CLASSES
    assert both - flops(plain, x[:1])[1] == 3 * second_head  # forward, gradient of the input and of the weight
    assert activation_bytes(gist, x, y) > activation_bytes(plain, x, y)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_method_of_two_stages_costs_what_both_cost(precision, backbone, monkeypatch):
    """Memory: the larger of both. Steps and arithmetic: the mean over both. Parameters: all tensors."""
    x, y = torch.randn(4, 3, 64, 64), torch.arange(4) % CLASSES
    first, second = attach(backbone, "norm", CLASSES), attach(backbone, "two_stage", CLASSES)
    all_parameters = second.method_parameters
    for name, p in second.vit.named_parameters():
        if "norm" in name:  # trained in stage 1 alone
            p.requires_grad_(False)
    assert first.method_parameters + second.method_parameters == all_parameters
    times = iter([1, 3, 5])  # of the latency and a step of each stage
    monkeypatch.setattr("peftlab.analysis.costs.seconds", lambda work, device: next(times))
    row = costs(backbone, create_method("two_stage"), CLASSES, len(x), "cpu", precision)
    assert row["parameters"] == all_parameters and row["step_ms"] == 4000 and row["latency_ms"] == 1000
    activations, peaks = (
        [measure(model, x, y, precision) for model in (first, second)] for measure in (activation_bytes, peak_bytes)
    )
    assert row["activation_mib"] * MIB == pytest.approx(max(activations)) and row["precision"] == precision
    assert row["peak_mib"] * MIB == pytest.approx(max(peaks), rel=0.01)
    both = [flops(model, x[:1])[1] for model in (first, second)]
    assert row["gflops_training"] == sum(both) / 2 / 1e9


def test_card_has_every_method_and_is_drawn(backbone):
    card = cost_card(backbone, num_classes=CLASSES, batch_size=2)
    assert set(card.index) == set(METHODS)
    assert card.loc["lora", "parameters"] == create_method("lora").count(backbone)
    assert card.loc["linear", "parameters"] == 0 and card["head_parameters"].eq(64 * CLASSES + CLASSES).all()
    assert (card.drop(columns=["family", "merged", "parameters", "precision"]) > 0).all(axis=None)
    assert not card.loc["vpt", "merged"] and card.loc["ssf", "merged"]
    assert card.loc["lora", "disk_kib"] > 4 * card.loc["lora", "parameters"] / 1024
    assert isinstance(views.costs(card), Figure)
    two = cost_card(backbone, {"thin": create_method("lora", rank=1), "wide": create_method("lora", rank=8)})
    assert list(two.index) == ["thin", "wide"] and two["parameters"].iloc[1] == 8 * two["parameters"].iloc[0]


def test_costs_command(capsys):
    arguments = ["costs", "linear", "lora", "--backbone", "test_vit", "--random-weights", "--img-size", "64"]
    assert main([*arguments, "--batch-size", "2", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "gflops_training" in out and "lora" in out and "test_vit (random weights)" in out
    assert main([*arguments, "--batch-size", "2", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("method,family,parameters")
    assert main(["costs", "lorra"]) == 2
    assert "did you mean 'lora'" in capsys.readouterr().err


def test_cost_card_refuses_what_attach_refuses(backbone):
    with pytest.raises(PeftlabError, match="did you mean 'lora'"):
        cost_card(backbone, ["lorra"])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 10**12}, "batch_size is 1000000000000"),
        ({"device": "foo"}, "no device 'foo'"),
    ],
)
def test_cost_card_refuses_sizes_that_mean_nothing(sizes, message, backbone):
    with pytest.raises(PeftlabError, match=message):
        cost_card(backbone, ["linear"], **sizes)
