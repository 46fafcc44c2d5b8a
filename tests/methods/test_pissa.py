"""PiSSA: its start, and that it computes (W - s B0 A0) x + s B A x without touching W."""

import pytest
import torch
from support import random_timm, tuned
from torch import nn

from peftlab.backbones.identity import as_vit
from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach, load_adapter, pissa
from peftlab.methods.pissa import PiSSALinear, principal


@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
def test_principal_part_is_the_best_of_its_rank(shape):
    """What is left has the next singular value as its largest; both factors carry the root of each."""
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    B, A = principal(W, rank=5)
    values = torch.linalg.svdvals(W)
    torch.testing.assert_close(torch.linalg.svdvals(W - B @ A)[0], values[5])
    torch.testing.assert_close(B.T @ B, torch.diag(values[:5]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(A @ A.T, torch.diag(values[:5]), atol=1e-5, rtol=1e-5)


def test_same_outputs_and_gradients_as_with_a_residual_weight():
    torch.manual_seed(0)
    layer = PiSSALinear(nn.Linear(12, 20), ["all"], rank=4, scale=1.5)
    start = 1.5 * (layer.B["all"] @ layer.A["all"]).detach()
    A, B = (torch.randn_like(p["all"]).requires_grad_() for p in (layer.A, layer.B))
    with torch.no_grad():
        layer.A["all"].copy_(A)
        layer.B["all"].copy_(B)
    x = torch.randn(3, 5, 12)
    expected = x @ (layer.base.weight.detach() - start + 1.5 * B @ A).T + layer.base.bias.detach()
    torch.testing.assert_close(layer(x), expected)
    layer(x).square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(layer.A["all"].grad, A.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layer.B["all"].grad, B.grad, atol=1e-4, rtol=1e-4)


def test_each_target_is_decomposed_by_itself():
    model = tuned(load_backbone(), "pissa", rank=3, alpha=6.0, targets=("v", "q"))
    fresh = attach(model.backbone, "pissa", 3, rank=3, alpha=6.0, targets=("v", "q")).vit.blocks[1].attn.qkv
    layer, D = model.vit.blocks[1].attn.qkv, model.backbone.embed_dim
    for target, rows in (("q", slice(0, D)), ("v", slice(2 * D, 3 * D))):
        B0, A0 = principal(layer.base.weight[rows], 3)
        torch.testing.assert_close(2 * fresh.B[target] @ fresh.A[target], B0 @ A0, atol=1e-5, rtol=1e-4)
        expected = 2 * layer.B[target] @ layer.A[target] - B0 @ A0
        torch.testing.assert_close(layer.delta()[rows], expected, atol=1e-4, rtol=1e-4)
    assert not layer.delta()[D : 2 * D].any()
    assert layer.base.weight is model.backbone.blocks[1].attn.qkv.weight


def test_an_adapter_does_not_depend_on_the_decomposition_of_the_machine_that_reads_it(tmp_path, monkeypatch):
    """Singular vectors are unique up to their signs at best."""
    model, x = tuned(load_backbone(), "pissa"), torch.randn(1, 3, 64, 64)
    model.save(tmp_path)
    monkeypatch.setattr(pissa, "principal", lambda weight, rank: [-1.1 * t for t in principal(weight, rank)])
    assert torch.equal(load_adapter(model.backbone, tmp_path)(x), model(x))


@pytest.mark.parametrize("name", ["pissa", "lora", "dora"])
def test_the_rank_is_held_against_the_narrower_side_of_each_layer(name):
    """In a Swin the last stage is the widest; a weight of 24 columns has no more than 24 singular values."""
    small = {"img_size": 64, "embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    vit = as_vit(random_timm("swin_tiny_patch4_window7_224", num_classes=0, **small))
    with pytest.raises(PeftlabError, match="rank is 30, but must lie between 1 and the width, 24"):
        attach(vit, name, 3, rank=30)
    for options in ({"rank": 24}, {"rank": 30, "last_blocks": 1}):
        model = attach(vit, name, 3, **options)
        assert model.method_parameters == model.method.count(vit)
