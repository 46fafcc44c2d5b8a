"""RepAdapter: its equation by torch's grouped convolution, the algebra of merging, options that cannot work."""

import re

import pytest
import torch
import torch.nn.functional as F
from support import agree, by_hand, small_vit, tuned

from peftlab.backbones.load import load_backbone
from peftlab.common.errors import NotMergeable, PeftlabError
from peftlab.methods import attach

CLASSES = 3


def adapted(m, u, groups, scale):
    """u + s B(A u), both as convolutions of one pixel; the second one in groups, as torch defines them."""
    channels = u.transpose(1, 2)
    inner = F.conv1d(channels, m.down.weight[..., None], m.down.bias)
    return u + scale * F.conv1d(inner, m.up[..., None], m.shift, groups=groups).transpose(1, 2)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("sublayers", [("attn", "mlp"), ("mlp", "attn"), ("attn",), ("mlp",)])
def test_equation(groups, sublayers):
    torch.manual_seed(0)
    backbone = load_backbone("test_vit", pretrained=False, img_size=64)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    model = tuned(backbone, "rep_adapter", groups=groups, scale=0.5, sublayers=sublayers)
    blocks = model.vit.blocks

    def attention(i, u):
        return backbone.blocks[i].attn(adapted(blocks[i].norm1.after, u, groups, 0.5))

    def mlp(i, u):
        return backbone.blocks[i].mlp(adapted(blocks[i].norm2.after, u, groups, 0.5))

    expected = by_hand(model, x, attention if "attn" in sublayers else None, mlp if "mlp" in sublayers else None)
    agree(model, expected, x)


def test_merging_changes_qkv_and_fc1_alone():
    """W (I + s B A) and c + s W (B a + b), with B put together by hand."""
    model = tuned(small_vit(), "rep_adapter", bottleneck=4, groups=2, scale=3.0)
    merged = model.merge()
    for plain, mine, new in zip(model.backbone.blocks, model.vit.blocks, merged.blocks, strict=True):
        for norm, path in (("norm1", "attn.qkv"), ("norm2", "mlp.fc1")):
            m, was, now = getattr(mine, norm).after, plain.get_submodule(path), new.get_submodule(path)
            B = torch.zeros(48, 4)
            B[:24, :2], B[24:, 2:] = m.up[:24].detach(), m.up[24:].detach()
            change = was.weight @ (torch.eye(48) + 3 * B @ m.down.weight)
            torch.testing.assert_close(now.weight, change, atol=1e-5, rtol=1e-4)
            shift = was.bias + 3 * was.weight @ (B @ m.down.bias + m.shift)
            torch.testing.assert_close(now.bias, shift, atol=1e-5, rtol=1e-4)
        for path in ("norm1", "norm2", "attn.proj", "mlp.fc2"):
            assert torch.equal(new.get_submodule(path).weight, plain.get_submodule(path).weight)


def test_start():
    """Only A is random, and its spread is Xavier's."""
    m = attach(load_backbone(), "rep_adapter", CLASSES).vit.blocks[0].norm1.after
    assert not m.up.any() and not m.shift.any() and not m.down.bias.any()
    bound = (6 / (192 + 8)) ** 0.5
    assert 0.95 * bound < m.down.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bottleneck": 9}, "groups is 2, but must divide the bottleneck, 9, and the width, 48"),
        ({"groups": 5, "bottleneck": 10}, "groups is 5, but must divide the bottleneck, 10, and the width, 48"),
        ({"bottleneck": 49, "groups": 1}, "bottleneck is 49, but must lie between 1 and the width, 48"),
        ({"sublayers": ("mpl",)}, "unknown target 'mpl'; did you mean 'mlp'"),
        ({"sublayers": ("mlp", "mlp")}, "each once"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(PeftlabError, match=re.escape(message)):
        attach(small_vit(), "rep_adapter", CLASSES, **options)


def test_a_layer_without_a_bias_cannot_take_it_up():
    with pytest.raises(NotMergeable, match=r"attn\.qkv has no bias, into which rep_adapter's could be merged"):
        attach(small_vit(qkv_bias=False), "rep_adapter", CLASSES).merge()
    model = tuned(small_vit(qkv_bias=False), "rep_adapter", sublayers=("mlp",))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.merge()(x), model(x), atol=1e-4, rtol=1e-4)
