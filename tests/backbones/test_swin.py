"""timm's SwinTransformer, written as a VisionTransformer: the same function, back again, and every method on it."""

import pytest
import timm
import torch
import torch.nn.functional as F
from support import random_timm
from timm.models.swin_transformer import SwinTransformer

from peftlab.analysis.answers import patch_importance
from peftlab.analysis.attention import attention_maps
from peftlab.analysis.clusters import layer_output
from peftlab.analysis.costs import costs
from peftlab.analysis.logit_lens import block_features
from peftlab.analysis.shift import channel_statistics
from peftlab.backbones.identity import as_vit, describe, resample
from peftlab.backbones.load import load_backbone
from peftlab.backbones.stages import run_stages, stages
from peftlab.backbones.swin import SwinViT, final_grid
from peftlab.common.errors import PeftlabError
from peftlab.methods import METHODS, attach, create_method, load_adapter
from peftlab.methods.core.importance import channel_scores

ON_WINDOWS = [name for name in sorted(METHODS) if not create_method(name).not_on_windows]


def random_swin(**options):
    """Three stages of one, two and one blocks, windows of 4 x 4 patches, shifted where the grid is larger."""
    small = {"img_size": 64, "embed_dim": 16, "depths": (1, 2, 1), "num_heads": (1, 2, 4), "window_size": 4}
    return random_timm("swin_tiny_patch4_window7_224", num_classes=3, **small | options)


@pytest.fixture(scope="module")
def swin():
    return random_swin()


def images(side=64):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_the_same_function_in_known_modules(swin):
    vit = as_vit(swin)
    assert isinstance(vit, SwinViT) and torch.allclose(vit(images()), swin(images()), atol=1e-6)
    assert [stage.name for stage in stages(vit)] == ["embed", *(f"block {i}" for i in range(4)), "pool", "head"]
    shapes = [tuple(run_stages(vit, images(), stop=stop).shape) for stop in (1, 2, 3, 4, 5, 6)]
    assert shapes == [(2, 256, 16), (2, 256, 16), (2, 64, 32), (2, 64, 32), (2, 16, 64), (2, 64)]
    assert any(any(block.attn.shift_size) for block in vit.blocks)


@torch.no_grad()
def test_and_back(swin):
    again, expected = as_vit(swin).timm(), swin.state_dict()
    assert type(again) is SwinTransformer and again.state_dict().keys() == expected.keys()
    assert not [m for m in again.modules() if type(m).__module__.startswith("peftlab")]
    assert all(torch.equal(t, expected[name]) for name, t in again.state_dict().items())
    assert torch.equal(again(images()), swin(images()))


@torch.no_grad()
def test_at_another_size(swin):
    vit, reference = as_vit(swin), random_swin()
    resample(vit, (128, 128)), reference.set_input_size((128, 128))
    assert torch.allclose(vit(images(128)), reference(images(128)), atol=1e-6)
    assert torch.allclose(vit.timm()(images(128)), reference(images(128)), atol=1e-6)
    assert swin.patch_embed.img_size == (64, 64) and describe(vit)["img_size"] == [128, 128]


@pytest.mark.parametrize("name", ON_WINDOWS)
def test_methods_keep_their_contract(swin, name, tmp_path):
    """Start, count, what moves, saving and loading, partial depth, merging into timm's own class."""
    before = {key: t.clone() for key, t in swin.state_dict().items()}
    model = attach(swin, name, 3)
    assert model.method_parameters == model.method.count(model.backbone)
    same = torch.equal(model.vit.forward_features(images()), model.backbone.forward_features(images()))
    assert same == model.method.identity_at_start
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    start = {key: p.detach().clone() for key, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images()), torch.arange(2)).backward()
        optimizer.step()
    assert all(not torch.equal(p, start[key]) for key, p in trained.items())
    assert all(torch.equal(t, before[key]) for key, t in swin.state_dict().items())
    loaded = load_adapter(model.backbone, model.save(tmp_path / name))
    assert torch.equal(loaded(images()), model(images()))
    if not model.method.not_mergeable:
        plain = model.merge()
        assert type(plain) is SwinTransformer and (plain(images()) - model(images())).abs().max() <= 1e-5
    if name not in ("linear", "gist"):  # GIST's token enters before the first block in any case
        partial = attach(swin, name, 3, last_blocks=2)
        assert partial.first_trainable_stage() == 3
        assert partial.method_parameters == partial.method.count(partial.backbone)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - set(ON_WINDOWS)))
def test_what_needs_one_width_or_one_sequence_says_why(swin, name):
    with pytest.raises(
        PeftlabError, match=f"{name} cannot be put on a ViT of windows: .*; lora, adapter, ssf or norm"
    ):
        attach(swin, name, 3)


@torch.no_grad()
def test_a_token_of_gist_stands_in_every_window(swin):
    """By hand: in the one window of the last block no bias for it; in the first block a mean over 16 windows."""
    model = attach(swin, "gist", 3, base_method="linear")
    gist, (first, *_, last) = model.vit.blocks[0].gist, model.vit.blocks
    x = run_stages(model.backbone, images(), stop=1)
    both = torch.cat([gist.token.expand(2, -1, -1), x], dim=1)
    attn, u = first.attn, first.norm1(both)
    windows = u[:, 1:].unflatten(1, (4, 4, 4, 4)).transpose(2, 3).flatten(3, 4).flatten(1, 2)  # of 4 x 4, in the grid
    windows = torch.cat([u[:, None, :1].expand(-1, 16, -1, -1), windows], dim=2)
    q, k, v = attn.qkv(windows).unflatten(-1, (3, attn.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    bias = torch.zeros(attn.num_heads, 17, 17)
    bias[:, 1:, 1:] = attn.relative_position_bias_table[attn.relative_position_index].permute(2, 0, 1)
    weights = (q * attn.scale @ k.transpose(-2, -1) + bias).softmax(-1)
    by_hand = attn.proj((weights @ v).transpose(2, 3).flatten(3))
    found = attn(u)
    assert torch.allclose(found[:, 0], by_hand[:, :, 0].mean(1), atol=1e-5)
    assert torch.allclose(found[:, 1:5], by_hand[:, 0, 1:5], atol=1e-5)  # the first row of the first window
    merging, token = model.vit.blocks[1].merging, both[:, :1]
    seen = []
    model.vit.blocks[1].norm1.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    model.vit.blocks[1](both)
    assert torch.allclose(seen[0][:, :1], merging.reduction(merging.norm(torch.cat([token] * 4, dim=-1))), atol=1e-6)
    assert model(images()).shape == (2, 3) and gist.output.shape == (2, 64) and last.attn.added == 1
    with pytest.raises(PeftlabError, match="parallel cannot be put on a ViT of windows"):
        attach(swin, "gist", 3, base_method="parallel")


PIXELS = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
NEED_ONE_SEQUENCE = {
    "attention": lambda vit: attention_maps(vit, images()),
    "channel_scores": lambda vit: channel_scores(vit, [(images(), torch.arange(2))]),
    "channel_statistics": lambda vit: channel_statistics(vit, PIXELS),
    "layer_output": lambda vit: layer_output(vit, PIXELS),
    "logit lens": lambda vit: block_features(vit, images()),
    "patch_importance": lambda vit: patch_importance(vit, PIXELS, torch.arange(2), block=0),
}


@pytest.mark.parametrize("measure", NEED_ONE_SEQUENCE)
def test_what_needs_one_width_or_one_grid_is_refused_with_a_reason(swin, measure):
    with pytest.raises(PeftlabError, match="a Swin .*; use a plain ViT"):
        NEED_ONE_SEQUENCE[measure](as_vit(swin))


def test_the_grid_of_the_last_patches_is_the_last_stages(swin):
    vit = as_vit(swin)
    assert final_grid(vit) == (4, 4)
    resample(vit, (128, 128))
    assert final_grid(vit) == (8, 8)
    assert final_grid(load_backbone()) == (8, 8)


def test_loaded_by_name_with_costs():
    vit = load_backbone("swin_tiny_patch4_window7_224", pretrained=False, img_size=64)
    assert isinstance(vit, SwinViT) and len(vit.blocks) == 12 and vit.embed_dim == 768
    assert costs(vit, create_method("lora", last_blocks=1), batch_size=1, device="cpu")["merged"]


def test_what_it_cannot_follow_gets_a_sentence():
    with pytest.raises(PeftlabError, match="dynamic_img_size=True"):
        as_vit(random_swin(dynamic_img_size=True))
    with pytest.raises(PeftlabError, match=r"this is a timm.SwinTransformerV2Cr, but .*, such as swin_"):
        as_vit(timm.create_model("swinv2_cr_tiny_224", num_classes=0))
