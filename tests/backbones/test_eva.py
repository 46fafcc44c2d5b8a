"""timm's Eva class, written as a VisionTransformer: the same function, every way of writing its layers, and back."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from support import random_timm, tuned
from timm.models.eva import Eva
from timm.models.vision_transformer import Block

from peftlab.analysis.attention import all_attention_maps
from peftlab.backbones.eva import KeysWithoutBias, RotaryViT, from_eva
from peftlab.backbones.identity import describe, fingerprint, resample
from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach

SMALL = {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 3}

# One shape of each way to write it: fused with two biases, separate, rotary in pairs, learned for each layer, ...
EVAS = {
    "DINOv3, two biases": ("vit_tiny_patch16_dinov3_qkvb", {}),
    "DINOv3, no bias": ("vit_small_patch16_dinov3", {}),
    "DINOv3, SwiGLU": ("vit_small_plus_patch16_dinov3", {}),
    "EVA-02, fused": ("eva02_tiny_patch14_224", {"img_size": 56}),
    "EVA-02, separate": ("eva02_base_patch14_224", {"img_size": 56}),
    "EVA-02, CLIP": ("eva02_base_patch16_clip_224", {}),
    "EVA": ("eva_giant_patch14_224", {"img_size": 56, "mlp_ratio": 2}),
    "PE, core": ("vit_pe_core_tiny_patch16_384", {"attn_pool_num_heads": 2}),
    "PE, spatial": ("vit_pe_spatial_tiny_patch16_512", {}),
    "RoPE": ("vit_small_patch16_rope_224", {}),
    "RoPE, mixed": ("vit_small_patch16_rope_mixed_ape_224", {}),
    "RoPE, no CLS": ("vit_medium_patch16_rope_reg1_gap_256", {}),
    "norms after, gated": ("vit_small_patch16_rope_224", {"use_post_norm": True, "init_values": None}),
}


def random_eva(name, **options):
    return random_timm(name, **SMALL | options)


@pytest.fixture(scope="module", params=EVAS)
def eva(request):
    name, options = EVAS[request.param]
    return random_eva(name, **options)


def images(vit):
    return torch.randn(2, 3, *vit.patch_embed.img_size, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_the_same_function_in_known_modules(eva):
    vit = from_eva(eva)
    assert torch.allclose(vit(images(eva)), eva(images(eva)), atol=1e-6)
    for block in vit.blocks:
        assert block.attn.qkv.out_features == 3 * block.attn.num_heads * block.attn.head_dim
        assert block.mlp.fc1.in_features == block.mlp.fc2.out_features == 48


@torch.no_grad()
def test_and_back(eva):
    """timm's own class with every tensor under its own name, whose memory is the first one's, as far as it was one."""
    again = from_eva(eva).timm()
    assert type(again) is Eva and not [m for m in again.modules() if type(m).__module__.startswith("peftlab")]
    expected = eva.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[name]) for name, t in again.state_dict().items())
    assert torch.equal(again(images(eva)), eva(images(eva)))
    assert again.head.weight is eva.head.weight and again.blocks[0].attn.proj.weight is eva.blocks[0].attn.proj.weight


@torch.no_grad()
def test_at_another_size(eva):
    larger, reference = from_eva(eva), copy.deepcopy(eva)
    side = 2 * eva.patch_embed.img_size[0]
    before = describe(larger)
    resample(larger, (side, side)), reference.set_input_size((side, side))
    assert torch.allclose(larger(images(larger)), reference(images(larger)), atol=1e-6)
    assert torch.allclose(larger.timm()(images(larger)), reference(images(larger)), atol=1e-6)
    after = describe(larger)
    assert {k for k in before if before[k] != after[k]} == {"img_size"}


@torch.no_grad()
def test_attention_is_what_timm_computes(eva):
    """Read at timm's own dropout of the weights, where they are formed."""
    reference, seen = copy.deepcopy(eva), []
    for block in reference.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, args, out: seen.append(out))
    reference(images(eva))
    for found, expected in zip(all_attention_maps(from_eva(eva), images(eva)), seen, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


@torch.no_grad()
def test_added_tokens_are_not_turned(eva):
    """Prompts before the patches move no patch: as in a timm model that is told of that many more prefix tokens."""
    model, reference = tuned(eva, "vpt", prompts=3, deep=False), copy.deepcopy(eva)
    tokens, position = model.vit.blocks[0].prompts.tokens, eva.num_prefix_tokens
    for block in reference.blocks:
        block.attn.num_prefix_tokens += 3
    x, rope = reference._pos_embed(reference.patch_embed(images(eva)))
    x = reference.norm_pre(x)
    x = torch.cat([x[:, :position], tokens.expand(len(x), -1, -1), x[:, position:]], dim=1)
    for i, block in enumerate(reference.blocks):
        x = block(x, rope=rope[i] if reference.rope_mixed else rope)
    x = torch.cat([x[:, :position], x[:, position + 3 :]], dim=1)
    expected = model.vit.head(reference.forward_head(reference.norm(x), pre_logits=True))
    assert torch.allclose(model(images(eva)), expected, atol=1e-5)


def test_methods_leave_the_eva_alone(eva):
    before = {name: t.clone() for name, t in eva.state_dict().items()}
    model = attach(eva, "full", 3)
    with torch.no_grad():
        model.vit.blocks[0].mlp.fc1.weight.add_(1)
    assert isinstance(model.backbone, RotaryViT) and type(model.merge()) is Eva
    assert all(torch.equal(t, before[name]) for name, t in eva.state_dict().items())
    assert all(isinstance(block, Block) for block in from_eva(random_eva("vit_small_patch16_rope_224")).blocks)


def test_keys_without_a_bias_get_none():
    """Full fine-tuning trains the biases that there are; the keys' entries stay 0 and count for nothing."""
    model = attach(random_eva("vit_tiny_patch16_dinov3_qkvb"), "full", 3)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(images(model.backbone)).square().sum().backward()
    optimizer.step()
    before, (q, k, v) = model.backbone.blocks[0].attn.qkv.bias.chunk(3), model.vit.blocks[0].attn.qkv.bias.chunk(3)
    assert not torch.equal(q, before[0]) and not k.any() and not torch.equal(v, before[2])
    attn = model.merge().blocks[0].attn
    assert torch.equal(attn.q_bias, q) and not attn.k_bias.any() and torch.equal(attn.v_bias, v)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_dinov3_qkvb", "eva02_base_patch14_224"])
def test_what_gives_the_keys_a_bias_cannot_be_merged(name):
    model = tuned(random_eva(name, img_size=112), "ssf")
    with pytest.raises(PeftlabError, match="ssf: the keys of this backbone have no bias"):
        model.merge()


def test_positions_are_not_jittered_in_training():
    """DINOv3's pre-training stretches the grid at random; features that are computed once must not change."""
    eva = random_eva("vit_tiny_patch16_dinov3_qkvb", rope_rescale_coords=2)
    vit, x = from_eva(eva).train(), images(eva)
    assert torch.equal(vit(x), vit(x)) and not torch.equal(eva.train()(x), eva(x))
    assert vit.timm().rope.aug_active


def test_how_positions_are_computed_is_part_of_the_identity():
    one, other = (random_eva("vit_tiny_patch16_dinov3_qkvb", rope_temperature=t) for t in (100, 50))
    assert fingerprint(one) == fingerprint(other) and describe(from_eva(one)) != describe(from_eva(other))


def test_loaded_by_name_and_from_a_file(tmp_path):
    vit = load_backbone("vit_tiny_patch16_dinov3_qkvb", pretrained=False, img_size=32)
    assert isinstance(vit, RotaryViT) and vit.peftlab_name == "vit_tiny_patch16_dinov3_qkvb (random weights)"
    assert isinstance(vit.blocks[0].attn.qkv, KeysWithoutBias) and not any(p.requires_grad for p in vit.parameters())
    eva = timm.create_model("vit_tiny_patch16_dinov3_qkvb", num_classes=0)
    save_file(eva.state_dict(), tmp_path / "vit_tiny_patch16_dinov3_qkvb.safetensors")
    loaded = load_backbone(str(tmp_path / "vit_tiny_patch16_dinov3_qkvb.safetensors"), img_size=32)
    eva.set_input_size((32, 32))
    assert torch.equal(loaded(images(loaded)), eva.eval()(images(loaded)))


def test_what_it_cannot_follow_gets_a_sentence():
    with pytest.raises(PeftlabError, match="shares keys among heads"):
        from_eva(random_eva("vit_small_patch16_rope_224", num_kv_heads=1, qkv_fused=False))
    with pytest.raises(PeftlabError, match="drops patches in training"):
        from_eva(random_eva("vit_small_patch16_rope_224", patch_drop_rate=0.1))


def test_a_part_that_is_not_known_is_noticed(monkeypatch):
    """A later timm may add one: what is written anew must compute the same, or nothing is given."""
    eva = random_eva("vit_small_patch16_rope_224")
    forward = type(eva.blocks[1]).forward
    monkeypatch.setattr(type(eva.blocks[1]), "forward", lambda self, x, **rest: forward(self, x, **rest).roll(1, -1))
    with pytest.raises(PeftlabError, match="computes otherwise"):
        from_eva(eva)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_dinov3_qkvb", "vit_small_patch16_rope_mixed_ape_224"])
def test_other_precisions(name):
    """In double precision as timm computes it; under bf16 autocast near fp32, with gradients for every parameter."""
    eva = random_eva(name).double()
    x = images(eva).double()
    assert torch.allclose(attach(eva, "linear", 3).backbone(x), eva(x), atol=1e-12)
    model = tuned(random_eva(name), "lora")
    exact = model(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(x.float())
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()
    rough.float().logsumexp(1).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
