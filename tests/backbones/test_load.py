"""Loading backbones: embedded, timm ids, files; names that are wrong say so."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from peftlab.backbones.identity import check_stages, fingerprint, probe
from peftlab.backbones.load import EMBEDDED, load_backbone, save_backbone
from peftlab.backbones.preprocess import input_size, normalisation
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach


def test_embedded_backbone_is_small_plain_and_frozen():
    vit = load_backbone()
    assert type(vit) is VisionTransformer and input_size(vit) == (64, 64) and vit.num_prefix_tokens == 1
    assert vit.peftlab_name == "peftlab_vit_mini" and not vit.training
    assert not any(p.requires_grad for p in vit.parameters())
    file = EMBEDDED["peftlab_vit_mini"]
    assert file.stat().st_size <= 12e6
    assert file.with_suffix(".md").is_file()
    assert vit(torch.zeros(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize("size", [112, (112, 224)])
def test_the_strong_embedded_backbone_is_what_timm_makes_of_its_file(size):
    vit = load_backbone("peftlab_vit_small", img_size=size)
    same = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, img_size=size).eval()
    stored = {name: t.float() for name, t in load_file(EMBEDDED["peftlab_vit_small"]).items()}
    same.load_state_dict(checkpoint_filter_fn(stored, same))
    assert repr(vit) == repr(same) and vit.no_embed_class and vit.num_prefix_tokens == 5
    x = torch.randn(1, 3, *input_size(vit))
    with torch.inference_mode():
        assert torch.equal(vit.forward_features(x), same.forward_features(x))


def test_the_blocks_of_random_weights_are_heard():
    """A control is no network where each block's part is scaled by 1e-5, timm's start of LayerScale."""
    vit = load_backbone("peftlab_vit_small", pretrained=False, img_size=56)
    with torch.inference_mode():
        tokens = vit._pos_embed(vit.patch_embed(torch.randn(1, 3, 56, 56)))
        assert (vit.blocks(tokens) - tokens).norm() > 0.1 * tokens.norm()


def test_the_strong_embedded_backbone_has_one_fingerprint_at_every_size(monkeypatch):
    monkeypatch.setattr("peftlab.backbones.load.check_stages", lambda vit: None)  # 1,374 tokens, twice
    name, stored = "peftlab_vit_small", load_file(EMBEDDED["peftlab_vit_small"])
    vit, whole = load_backbone(name), load_backbone(name, img_size=518)
    assert input_size(vit) == (224, 224) and vit.peftlab_name == name
    assert fingerprint(vit) == fingerprint(whole)
    assert {key: t.half().equal(stored[key]) for key, t in whole.state_dict().items()} == dict.fromkeys(stored, True)
    noise = load_backbone(name, pretrained=False)
    assert input_size(noise) == (224, 224) and fingerprint(noise) != fingerprint(vit)
    with pytest.raises(PeftlabError, match="multiple of the patch size 14, up to 4096; the next smaller one is 56"):
        load_backbone(name, img_size=64)


@pytest.mark.parametrize("name", EMBEDDED)
def test_model_card_states_the_weights_checksum(name):
    import hashlib

    file = EMBEDDED[name]
    assert hashlib.sha256(file.read_bytes()).hexdigest() in file.with_suffix(".md").read_text()


def test_embedded_backbone_beats_random_weights_on_real_images(real_root):
    from peftlab.analysis.probes import cls_and_patches, linear_probe_accuracy
    from peftlab.tasks.load import load_task

    task = load_task("eurosat", real_root)
    labels = task.labels("train800val200")[:500], task.labels("test")[:300]

    def accuracy(vit):
        x = [
            cls_and_patches(vit, task, s, limit=len(y))
            for s, y in zip(("train800val200", "test"), labels, strict=True)
        ]
        return linear_probe_accuracy(x[0], labels[0], x[1], labels[1])

    torch.manual_seed(0)
    assert accuracy(load_backbone()) > accuracy(load_backbone(pretrained=False)) + 0.05


def test_files_give_back_what_timm_computes(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("test_vit", num_classes=5).eval()
    save_file({k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / "test_vit.safetensors")
    x = torch.randn(2, 3, 160, 160)
    loaded = load_backbone(str(tmp_path / "test_vit.safetensors"))
    assert torch.equal(loaded.forward_features(x), source.forward_features(x))
    (tmp_path / "test_vit.safetensors").rename(tmp_path / "mine.safetensors")
    with pytest.raises(PeftlabError, match="architecture is unknown"):
        load_backbone(str(tmp_path / "mine.safetensors"))
    named = load_backbone(str(tmp_path / "mine.safetensors"), architecture="test_vit")
    assert fingerprint(named) == fingerprint(loaded)
    with pytest.raises(PeftlabError, match="do not fit the architecture.* Name another") as error:
        load_backbone(str(tmp_path / "mine.safetensors"), architecture="test_vit2")
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


@pytest.mark.parametrize("img_size", [None, 48])
def test_files_of_another_input_size_keep_their_position_embeddings(img_size, tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("test_vit", img_size=48, num_classes=0).eval()
    torch.nn.init.normal_(source.pos_embed)
    save_file({k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / "test_vit.safetensors")
    loaded, x = load_backbone(str(tmp_path / "test_vit.safetensors"), img_size=img_size), torch.randn(2, 3, 48, 48)
    assert loaded.patch_embed.img_size == (48, 48) and torch.equal(loaded.pos_embed, source.pos_embed)
    assert torch.equal(loaded.forward_features(x), source.forward_features(x))


def test_what_a_file_of_ones_own_lacks_is_said(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "mine.safetensors")
    (tmp_path / "mine.pth").write_bytes(b"pickle")
    for how, words in {
        ("mine.safetensors", None): r"Name it.*, or name the file after it: vit_base_patch16_224\.safetensors",
        ("mine.safetensors", "vit_bas_patch16_224"): "unknown architecture 'vit_bas_patch16_224'; did you mean",
        ("mine.pth", None): r"mine\.pth: peftlab reads no pickle.*save_file",
    }.items():
        with pytest.raises(PeftlabError, match=words):
            load_backbone(str(tmp_path / how[0]), architecture=how[1])
    with pytest.raises(PeftlabError, match=r"did you mean .*and what timm has of vit_\*, eva\*, swin\*$"):
        load_backbone("vit_bse_patch16_224.augreg_in21k")


def test_own_files_remember_their_architecture(tmp_path):
    torch.manual_seed(0)
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2}
    vit = VisionTransformer(**shape, num_classes=0).half().float().eval()
    save_backbone(vit, tmp_path / "small.safetensors", shape)
    loaded = load_backbone(str(tmp_path / "small.safetensors"))
    assert fingerprint(loaded) == fingerprint(vit) and loaded.peftlab_name == "small"
    larger = load_backbone(str(tmp_path / "small.safetensors"), img_size=64)
    assert input_size(larger) == (64, 64) and larger.pos_embed.shape[1] == 1 + 64


def test_npz_in_the_original_layout(tmp_path):
    """The original ViT checkpoints are JAX arrays in npz files; a tiny one, written by hand, must load exactly."""
    D, heads, H = 16, 2, 32
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    jax = {"embedding/kernel": draw(8, 8, 3, D), "embedding/bias": draw(D), "cls": draw(1, 1, D)}
    jax |= {"Transformer/posembed_input/pos_embedding": draw(1, 1 + 16, D)}
    jax |= {"Transformer/encoder_norm/scale": draw(D), "Transformer/encoder_norm/bias": draw(D)}
    block = "Transformer/encoderblock_0/"
    for name in ("query", "key", "value"):
        attention = f"{block}MultiHeadDotProductAttention_1/{name}/"
        jax |= {f"{attention}kernel": draw(D, heads, D // heads), f"{attention}bias": draw(heads, D // heads)}
    attention = f"{block}MultiHeadDotProductAttention_1/out/"
    jax |= {f"{attention}kernel": draw(heads, D // heads, D), f"{attention}bias": draw(D)}
    jax |= {f"{block}MlpBlock_3/Dense_0/kernel": draw(D, H), f"{block}MlpBlock_3/Dense_0/bias": draw(H)}
    jax |= {f"{block}MlpBlock_3/Dense_1/kernel": draw(H, D), f"{block}MlpBlock_3/Dense_1/bias": draw(D)}
    for norm in ("LayerNorm_0", "LayerNorm_2"):
        jax |= {f"{block}{norm}/scale": draw(D), f"{block}{norm}/bias": draw(D)}
    np.savez(tmp_path / "vit.npz", **jax)

    shape = {"patch_size": 8, "embed_dim": D, "depth": 1, "num_heads": heads, "mlp_ratio": 2}
    timm.models.register_model(npz_vit := _entrypoint(shape))
    vit = load_backbone(str(tmp_path / "vit.npz"), architecture=npz_vit.__name__)
    assert np.array_equal(vit.blocks[0].mlp.fc1.weight.numpy(), jax[f"{block}MlpBlock_3/Dense_0/kernel"].T)
    assert np.array_equal(vit.cls_token.numpy(), jax["cls"])


def _entrypoint(shape):
    def vit_npz_for_tests(pretrained=False, **kwargs):
        return VisionTransformer(img_size=32, **shape, num_classes=kwargs["num_classes"])

    vit_npz_for_tests.__module__ = "timm.models.vision_transformer"
    return vit_npz_for_tests


def test_wrong_names_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(PeftlabError, match="did you mean 'vit_base_patch16_224'"):
        load_backbone("vit_base_patch16_225.augreg_in21k")
    with pytest.raises(PeftlabError, match="vit_base_patch16_224.augreg_in21k"):
        load_backbone("vit_base_patch16_224")
    with pytest.raises(PeftlabError, match="no such weights file"):
        load_backbone(str(tmp_path / "absent.safetensors"))
    with pytest.raises(PeftlabError, match="needs a timm VisionTransformer"):
        load_backbone("resnet18", pretrained=False)


@pytest.mark.parametrize("side", [39, 0, -8, 4, 4104, 10**9, (64, 39)])
def test_input_sizes_are_multiples_of_the_patch(side):
    """timm would crop an image of 39 px to 32 without a word."""
    with pytest.raises(PeftlabError, match="must be a multiple of the patch size 8, up to 4096; the next smaller one"):
        load_backbone(img_size=side)


def test_resampled_weights_are_still_the_same_weights():
    """Unless somebody changes them afterwards."""
    at_64, at_32, wide = load_backbone(), load_backbone(img_size=32), load_backbone(img_size=(32, 64))
    assert fingerprint(at_64) == fingerprint(at_32) == fingerprint(wide) and probe(at_64) == probe(at_32)
    with torch.no_grad():
        at_32.pos_embed[0, 0, 0] += 1
    assert fingerprint(at_32) != fingerprint(at_64)


def test_models_with_two_heads_are_refused():
    """A distilled DeiT averages two heads; stages know one."""
    name = "deit_tiny_distilled_patch16_224"
    with pytest.raises(PeftlabError, match=f"'{name}': this VisionTransformerDistilled has a forward_head of its own"):
        load_backbone(name, pretrained=False)
    with pytest.raises(PeftlabError, match="has a forward_head of its own"):
        attach(timm.create_model(name, num_classes=0), "linear", 2)


def test_a_changed_forward_is_refused():
    vit = load_backbone()
    vit.forward = lambda x: x
    with pytest.raises(PeftlabError, match="has a forward of its own"):
        attach(vit, "linear", 2)
    vit = load_backbone()
    vit.norm.register_forward_hook(lambda module, args, out: out if out.ndim == 2 else 2 * out)
    check_stages(vit)  # what a hook does is done in both
    vit.register_forward_hook(lambda module, args, out: 2 * out)
    with pytest.raises(PeftlabError, match="do not compute what the model computes"):
        check_stages(vit)


def test_other_models_get_a_sentence():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    for model in (transformers.ViTModel(config), torch.nn.Linear(2, 2), attach(load_backbone(), "linear", 2)):
        with pytest.raises(PeftlabError, match="this is a .*, but peftlab needs a timm VisionTransformer"):
            attach(model, "linear", 2)


def test_an_architecture_without_weights_can_be_loaded():
    with torch.device("meta"):
        assert load_backbone(pretrained=False, img_size=32).pos_embed.shape == (1, 17, 192)


def test_offline_is_respected_and_said(monkeypatch, tmp_path):
    constants = "huggingface_hub.constants"  # where it keeps what it read of the environment when it was imported
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PeftlabError, match="HF_HUB_OFFLINE is set.*Download it once"):
        load_backbone("vit_tiny_patch16_224.augreg_in21k")


def test_normalisation_is_the_backbones_own_or_named():
    vit = load_backbone()
    assert normalisation(vit)[0].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert normalisation(vit, "half")[1].flatten().tolist() == [0.5, 0.5, 0.5]
