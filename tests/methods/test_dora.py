"""DoRA: its equation row by row, and HF peft as an oracle."""

import pytest
import torch
from support import tuned
from torch import nn

from peftlab.backbones.load import load_backbone
from peftlab.methods.dora import DoRALinear


def test_rows_have_the_trained_lengths():
    """W+ = m V / ||V||: the direction is LoRA's, the length of each changed row is m, other rows stay frozen."""
    torch.manual_seed(0)
    model = tuned(load_backbone("test_vit", pretrained=False, img_size=64), "dora", targets=("q", "v"), alpha=4.0)
    plain, merged = model.backbone.blocks[0].attn.qkv.weight, model.merge().blocks[0].attn.qkv.weight
    dora, D = model.vit.blocks[0].attn.qkv, model.backbone.embed_dim
    for target, start in (("q", 0), ("v", 2 * D)):
        rows = slice(start, start + D)
        V = plain[rows] + 0.5 * dora.B[target] @ dora.A[target]
        torch.testing.assert_close(merged[rows], dora.m[target][:, None] * V / V.norm(dim=1, keepdim=True))
    assert torch.equal(merged[D : 2 * D], plain[D : 2 * D])


def test_hf_peft_computes_the_same():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base, x = nn.Sequential(nn.Linear(12, 20)), torch.randn(3, 5, 12)
    ours = DoRALinear(nn.Linear(12, 20), ["all"], rank=4, scale=2.0)
    ours.base.load_state_dict(base[0].state_dict())
    theirs = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0"], use_dora=True))
    layer = theirs.base_model.model[0]
    with torch.no_grad():
        for mine, other in (
            (ours.A["all"], layer.lora_A.default.weight),
            (ours.B["all"], layer.lora_B.default.weight),
            (ours.m["all"], layer.lora_magnitude_vector.default.weight),
        ):
            mine.copy_(torch.randn_like(mine))
            other.copy_(mine)
    y, expected = ours(x), theirs(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    y.square().sum().backward(), expected.square().sum().backward()
    torch.testing.assert_close(ours.A["all"].grad, layer.lora_A.default.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        ours.m["all"].grad, layer.lora_magnitude_vector.default.weight.grad, atol=1e-4, rtol=1e-4
    )
