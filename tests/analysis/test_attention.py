"""Attention is exact, also where fused kernels never form it, and no hook is left behind."""

import pytest
import torch

from peftlab.analysis.attention import all_attention_maps, attention_maps, rollout
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for


@pytest.fixture(params=["test_vit", "test_vit2", "test_vit3"])
def vit(request):
    torch.manual_seed(0)
    return load_backbone(request.param, pretrained=False, img_size=64)


def test_attention_rows_sum_to_one_and_equal_timms_own(vit):
    x, seen = torch.randn(2, 3, 64, 64), []
    assert vit.blocks[1].attn.fused_attn  # the fused kernel is what the maps must agree with
    maps = attention_maps(vit, x, layer=1)
    tokens = vit.num_prefix_tokens + 16
    assert maps.shape == (2, vit.blocks[1].attn.num_heads, tokens, tokens)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))

    attn = vit.blocks[1].attn
    attn.fused_attn = False
    hook = attn.attn_drop.register_forward_hook(lambda module, args, output: seen.append(output))
    vit.forward_features(x)
    hook.remove()
    torch.testing.assert_close(maps, seen[0], atol=1e-6, rtol=1e-5)


def test_attention_leaves_no_hook_even_after_a_failure(vit):
    with pytest.raises((RuntimeError, AssertionError)):
        attention_maps(vit, torch.randn(1, 3, 7, 7))
    assert not vit.blocks[-1].attn.qkv._forward_hooks


def test_all_layers_at_once_are_each_layer(vit):
    x = torch.randn(2, 3, 64, 64)
    for layer, maps in enumerate(all_attention_maps(vit, x)):
        torch.testing.assert_close(maps, attention_maps(vit, x, layer))


def test_rollout_rows_sum_to_one_and_equal_the_product(vit):
    pixels = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    rolled = rollout(vit, pixels)
    torch.testing.assert_close(rolled.sum(-1), torch.ones_like(rolled[..., 0]))
    x, identity = prepare_for(vit, pixels), torch.eye(rolled.shape[-1])
    product = identity
    for layer in range(len(vit.blocks)):
        product = (attention_maps(vit, x, layer).mean(1) + identity) / 2 @ product
    torch.testing.assert_close(rolled[:, 0], product)
