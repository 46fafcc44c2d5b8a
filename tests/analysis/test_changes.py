"""What training changed and where gradients flow is read off the model, for every method alike."""

import pytest
import torch

from peftlab.analysis.changes import LAYERS, block_changes, gradient_flow, norm_change, weight_change
from peftlab.backbones.load import load_backbone
from peftlab.methods import attach
from peftlab.training.fit import fit


def test_weight_change_shows_exactly_what_a_method_touches(tiny_task):
    torch.manual_seed(0)
    backbone = load_backbone("test_vit", pretrained=False, img_size=32)
    touched = {"linear": [], "norm": ["norm1", "norm2"], "lora": ["attn.qkv"], "full": list(LAYERS)}
    for method, paths in touched.items():
        model = attach(backbone, method, 3)
        fit(model, tiny_task, epochs=1, device="cpu")
        change = weight_change(model)
        assert [path for path in change if change[path].any()] == paths


def test_gradient_flow_agrees_with_backward(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "bitfit", 3)
    flow = gradient_flow(model, tiny_task, images=8)
    assert flow.shape == (6, len(LAYERS)) and (flow > 0).all(axis=None)
    assert all(p.grad is None for p in model.parameters())  # looking does not train


CHANGES = {
    "linear": set(),
    "norm": {("norm1", "tuned"), ("norm2", "tuned")},
    "lora": {("attn.qkv", "parallel")},
    "ia3": {("attn.qkv", "after"), ("mlp.fc2", "before")},
    "adapter": {("attn.proj", "after"), ("mlp", "after")},
    "adaptformer": {("mlp", "parallel")},
    "convpass": {("attn", "parallel"), ("mlp", "parallel")},
    "vpt": {("", "prompts")},
    "gift": {("attn.proj", "parallel")},
    "two_stage": {("norm1", "tuned"), ("norm2", "tuned"), ("", "channels")},
    "fact": {(path, "parallel") for path in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")},
}


@pytest.mark.parametrize("method", CHANGES)
def test_a_block_is_read_off_the_model(method):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), method, 3)
    changes = block_changes(model)
    assert set(changes) == CHANGES[method]
    listed = [name for names in changes.values() for name in names]
    assert sorted(listed) == sorted(n for n, p in model.vit.blocks[-1].named_parameters() if p.requires_grad)


def test_gradients_of_shared_factors_have_a_column_of_their_own(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "gift_linear", 3)
    flow = gradient_flow(model, tiny_task, images=8)
    assert flow["shared"].gt(0).tolist() == [True] + [False] * 5  # they stand in the first block


def test_norm_change_is_relative_to_the_norm_before(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "norm", 3)
    fit(model, tiny_task, epochs=1, device="cpu")
    change = norm_change(model)
    assert list(change.index) == [*(f"{i}.{j}" for i in range(1, 7) for j in (1, 2)), "final"]
    norm = model.vit.blocks[2].norm1.weight
    assert change.loc["3.1", "gamma"] == pytest.approx(((norm - 1).norm() / 8).item(), rel=1e-4)  # gamma was 1
