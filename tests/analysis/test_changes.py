"""What training changed and where gradients flow is read off the model, for every method alike."""

import pytest
import torch
from support import random_timm, small_swin, small_vit, tuned

from peftlab.analysis.changes import LAYERS, block_changes, gradient_flow, norm_change, weight_change
from peftlab.backbones.identity import as_vit
from peftlab.backbones.load import load_backbone
from peftlab.methods import attach
from peftlab.training.evaluate import first_images
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


def small_eva():
    """With separate projections of q, k and v, and a SwiGLU."""
    small = {"img_size": 42, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 0, "mlp_ratio": 2}
    return as_vit(random_timm("eva02_base_patch14_224", **small))


@pytest.mark.parametrize("make", [small_swin, small_eva])
def test_weight_change_of_other_families_is_read_as_that_of_a_vit(make):
    model = tuned(make(), "lora", targets=("q", "fc1"))
    change = weight_change(model)
    assert change.columns[change.any()].tolist() == ["attn.qkv", "mlp.fc1"] and len(change) == len(model.vit.blocks)
    layer = model.vit.blocks[-1].attn.qkv
    before = torch.cat([layer.base.weight.flatten(), layer.base.bias])
    assert change["attn.qkv"].iloc[-1] == pytest.approx((layer.delta().norm() / before.norm()).item(), rel=1e-4)


def test_gradient_flow_agrees_with_backward(tiny_task):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "bitfit", 3)
    flow = gradient_flow(model, tiny_task, images=8)
    assert flow.shape == (6, len(LAYERS)) and (flow > 0).all(axis=None)
    assert all(p.grad is None for p in model.parameters())  # looking does not train
    logits, labels = model(first_images(tiny_task, model.vit, 8)), tiny_task.labels("train800")[:8]
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    for (_, row), block in zip(flow.iterrows(), model.vit.blocks, strict=True):
        norms = [block.get_submodule(path).bias.grad.norm().item() for path in LAYERS]
        assert row.tolist() == pytest.approx(norms, rel=1e-4)


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


def of_blocks(first, last):
    return {f"{i}.{j}": f"blocks.{i - 1}.norm{j}" for i in range(first, last + 1) for j in (1, 2)}


# {label: module} in the order of the forward pass.
SWIN = {"patch_embed.norm": "patch_embed.norm", **of_blocks(1, 2), "2.merging.norm": "blocks.1.merging.norm"}
NORMS = {
    "pre-norm": (lambda: small_vit(pre_norm=True), {"norm_pre": "norm_pre", **of_blocks(1, 3), "final": "norm"}),
    "mean pooled": (lambda: small_vit(global_pool="avg"), {**of_blocks(1, 3), "final": "fc_norm"}),
    "Eva": (small_eva, {**of_blocks(1, 2), "final": "fc_norm"}),
    "Swin": (small_swin, {**SWIN, **of_blocks(3, 3), "final": "norm"}),
}


@pytest.mark.parametrize("kind", NORMS)
@torch.no_grad()
def test_norms_are_labelled_by_where_they_stand(kind):
    make, modules = NORMS[kind]
    backbone = make()
    for label, name in modules.items():
        model = attach(backbone, "norm", 3)
        model.vit.get_submodule(name).weight.mul_(2)
        table = norm_change(model)
        assert table.index.tolist() == list(modules)
        assert table.loc[table["gamma"] != 0, "gamma"].to_dict() == {label: pytest.approx(1)}
    assert norm_change(tuned(backbone, "ssf"))["gamma"].eq(0).all()  # in which the norms stand one module deeper


def test_norms_without_a_bias_change_in_gamma_alone():
    vit = random_timm("vit_wee_patch16_reg1_gap_256", img_size=64, norm_layer="rmsnorm", num_classes=0)
    model = tuned(vit, "norm")
    table = norm_change(model)
    assert table["gamma"].gt(0).all() and table["beta"].isna().all()
