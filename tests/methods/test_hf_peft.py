"""HF peft as an oracle (same weights in: same logits, same gradients), and adapters that go there and back."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from support import shallow
from timm.models.vision_transformer import VisionTransformer

from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.methods.core.hf_peft import export_hf, import_hf

peft = pytest.importorskip("peft", reason="HF peft is not installed; pip install 'peftlab[hf]'")
CLASSES = 3


def norms(vit):
    """A regular expression for every LayerNorm, wherever the final one stands."""
    return "|".join(name for name, m in vit.named_modules() if isinstance(m, torch.nn.LayerNorm))


CONFIGS = {
    "lora": lambda vit: peft.LoraConfig(r=4, lora_alpha=6, target_modules=["qkv", "fc1"], modules_to_save=["head"]),
    "ia3": lambda vit: peft.IA3Config(
        target_modules=["qkv", "fc2"], feedforward_modules=["fc2"], modules_to_save=["head"]
    ),
    "norm": lambda vit: peft.LNTuningConfig(target_modules=norms(vit), modules_to_save=["head"]),
    "dora": lambda vit: peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["qkv", "fc1"], modules_to_save=["head"], use_dora=True
    ),
    "pissa": lambda vit: peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["qkv", "fc1"], modules_to_save=["head"], init_lora_weights="pissa"
    ),
    "vera": lambda vit: peft.VeraConfig(r=12, target_modules=["qkv", "attn.proj", "fc2"], modules_to_save=["head"]),
    "oft": lambda vit: peft.OFTConfig(
        oft_block_size=8, target_modules=["qkv", "fc2"], modules_to_save=["head"], use_cayley_neumann=False
    ),
    "bitfit": lambda vit: peft.BeftConfig(target_modules=["qkv", "fc2"], modules_to_save=["head"]),
}
# {HF peft's name of a tensor: ours}
RENAMED = {
    "lora_A.default.weight": "A",
    "lora_B.default.weight": "B",
    "lora_magnitude_vector.default.weight": "m",
    "vera_lambda_d.default": "d",
    "vera_lambda_b.default": "b",
    "oft_R.default.weight": "before.upper",
    "beft_bias.default": "bias",
}
CASES = [
    ("lora", {}),
    ("lora", {"alpha": 3.0, "targets": ("q", "k", "v", "o", "fc1", "fc2")}),
    ("lora", {"targets": ("qkv", "v"), "last_blocks": 2}),
    ("ia3", {}),
    ("ia3", {"targets": ("q", "o"), "last_blocks": 1}),
    ("norm", {}),
    ("norm", {"last_blocks": 2}),
    ("bitfit", {"targets": ("qkv", "o", "fc1", "fc2")}),
    ("bitfit", {"targets": ("o",), "last_blocks": 2}),
    ("fact", {"rank": 4, "scale": 1.5}),
    ("fact", {"rank": 5, "form": "tk", "last_blocks": 2}),
    ("gift", {"rank": 4, "clusters": 6, "targets": ("o", "fc2")}),
    ("gift_linear", {"targets": ("qkv", "o", "fc1", "fc2"), "last_blocks": 2}),
    ("dora", {}),
    ("dora", {"alpha": 3.0, "targets": ("q", "k", "o", "fc2"), "last_blocks": 2}),
    ("pissa", {"rank": 3}),
    ("pissa", {"alpha": 3.0, "targets": ("qkv", "o"), "last_blocks": 1}),
    ("vera", {"targets": ("qkv", "o", "fc1", "fc2"), "rank": 80, "key": 5}),
    ("vera", {"targets": ("fc2",), "last_blocks": 2}),
    ("oft", {}),
    ("oft", {"targets": ("qkv", "o", "fc1", "fc2"), "block_size": 8, "last_blocks": 2}),
]


@pytest.fixture(params=["test_vit", "test_vit2"])
def backbone(request):
    return shallow(request.param)


@pytest.fixture
def x():
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def randomise(module):
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p.normal_(0, 0.1)
    return module


def headed(backbone):
    vit = copy.deepcopy(backbone)  # HF peft's PiSSA writes into the frozen weights
    vit.reset_classifier(CLASSES)
    return vit


def theirs(backbone, name):
    """HF peft around a timm ViT, every trained parameter random."""
    return randomise(peft.get_peft_model(headed(backbone), CONFIGS[name](backbone))).eval()


def gradients(model, x):
    loss = F.cross_entropy(model(x), torch.arange(4) % CLASSES)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_same_weights_same_logits_and_gradients(name, backbone, x, tmp_path):
    oracle = theirs(backbone, name)
    oracle.save_pretrained(tmp_path)
    ours = import_hf(backbone, tmp_path)
    torch.testing.assert_close(ours(x), oracle(x), atol=1e-5, rtol=1e-5)
    assert (ours(x) - attach(backbone, "linear", CLASSES)(x)).abs().max() > 1e-2

    expected = {key.removeprefix("base_model.model."): g for key, g in gradients(oracle, x).items()}
    found, compared = gradients(ours, x), 0
    assert found
    for key, g in found.items():
        key = key.removeprefix("vit.")
        if key.startswith("head."):
            reference = expected[key.replace("head.", "head.modules_to_save.default.")]
        elif name == "ia3":  # blocks.0.attn.qkv.after.l.k
            layer, _, _, part = key.rsplit(".", 3)
            reference = expected[f"{layer}.ia3_l.default"].flatten()
            reference = reference if part == "ff" else reference.chunk(3)["qkv".index(part)]
        elif name == "norm":
            layer, parameter = key.rsplit(".", 1)
            reference = expected[f"{layer}.ln_tuning_layers.default.{parameter}"]
        else:  # blocks.0.attn.qkv.A.qkv, blocks.0.attn.qkv.before.upper
            reference = next(
                expected[f"{layer}.{theirs}"]
                for theirs, ours in RENAMED.items()
                for layer, separator, _ in (key.rpartition(f".{ours}"),)
                if separator and f"{layer}.{theirs}" in expected
            )
        torch.testing.assert_close(g, reference.reshape(g.shape), atol=1e-5, rtol=1e-4)
        compared += reference.numel()
    assert compared == sum(g.numel() for g in expected.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_same_steps_of_training_same_logits(name, x, tmp_path):
    backbone = shallow("test_vit")
    oracle = theirs(backbone, name)
    oracle.save_pretrained(tmp_path)
    ours, before = import_hf(backbone, tmp_path), oracle(x)
    for model in (oracle, ours):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(x), torch.arange(4) % CLASSES).backward()
            optimizer.step()
    torch.testing.assert_close(ours(x), oracle(x), atol=1e-5, rtol=1e-5)
    assert (ours(x) - before).abs().max() > 1e-2


def test_reading_an_adapter_leaves_the_backbone_alone(backbone, tmp_path):
    """HF peft writes into the frozen weights where an adapter starts from them."""
    theirs(backbone, "pissa").save_pretrained(tmp_path)
    before = {key: t.clone() for key, t in backbone.state_dict().items()}
    import_hf(backbone, tmp_path)
    assert all(torch.equal(t, before[key]) for key, t in backbone.state_dict().items())


def test_pissa_starts_where_hf_peft_starts(backbone, x):
    """The same principal part, up to the signs of singular vectors, and the backbone's own function."""
    ours = attach(backbone, "pissa", CLASSES, rank=4, alpha=6.0, targets=("qkv", "fc1"))
    vit = peft.get_peft_model(headed(backbone), CONFIGS["pissa"](backbone)).base_model.model
    for layer, other in (
        (ours.vit.blocks[1].attn.qkv, vit.blocks[1].attn.qkv),
        (ours.vit.blocks[2].mlp.fc1, vit.blocks[2].mlp.fc1),
    ):
        (A,), (B,) = layer.A.values(), layer.B.values()
        expected = other.lora_B.default.weight @ other.lora_A.default.weight
        torch.testing.assert_close(B @ A, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer.base.weight - 1.5 * B @ A, other.base_layer.weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vit.forward_features(x), backbone.forward_features(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("targets", [("q", "v"), ("v", "k", "fc2", "o")])
def test_vera_of_q_and_v_works_in_hf_peft_but_does_not_come_back(targets, backbone, x, tmp_path):
    model = randomise(attach(backbone, "vera", CLASSES, targets=targets, rank=20))
    export_hf(model, tmp_path)
    loaded = peft.PeftModel.from_pretrained(headed(backbone), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(x), model(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(PeftlabError, match="its random matrices are not those of projection_prng_key=0"):
        import_hf(backbone, tmp_path)


def test_an_hf_peft_that_loses_the_matrices_is_refused(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(peft, "__version__", "0.20.1")
    with pytest.raises(PeftlabError, match="HF peft 0.20.1 is too old.*pip install"):
        export_hf(attach(backbone, "vera", CLASSES), tmp_path)
    assert not list(tmp_path.iterdir())


def test_vera_that_scales_rows_twice_is_not_exported(backbone, tmp_path):
    with pytest.raises(PeftlabError, match="export vera with qkv or with q, k and v, not both"):
        export_hf(attach(backbone, "vera", CLASSES, targets=("qkv", "v")), tmp_path)


def test_ranks_and_scales_that_differ_between_layers_are_imported(backbone, x, tmp_path):
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["qkv", "fc1"], rank_pattern={"fc1": 2}, alpha_pattern={"fc1": 12}
    )
    oracle = randomise(peft.get_peft_model(headed(backbone), config)).eval()
    oracle.save_pretrained(tmp_path)
    ours = import_hf(backbone, tmp_path, num_classes=CLASSES)
    torch.testing.assert_close(ours.vit.forward_features(x), oracle.forward_features(x), atol=1e-5, rtol=1e-5)
    assert ours.method.rank == 4


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rep_adapter", {}),
        ("rep_adapter", {"sublayers": ("mlp",), "last_blocks": 1}),
        ("context_peft", {"contexts": "one", "rank": 3}),
        ("context_peft", {"contexts": "one", "kind": "bitfit"}),
        ("two_stage", {"placement": "mlp", "channels": 4, "align": False}),
        ("sct", {"placement": "mlp", "channels": 5}),
    ],
)
def test_merged_changes_work_in_hf_peft(name, options, backbone, x, tmp_path):
    """As LoRA, with bias where a bias changes; that does not come back."""
    model = randomise(attach(backbone, name, CLASSES, **options))
    loaded = peft.PeftModel.from_pretrained(headed(backbone), str(export_hf(model, tmp_path))).eval()
    torch.testing.assert_close(loaded(x), model(x), atol=1e-5, rtol=1e-5)
    if name == "context_peft":
        torch.testing.assert_close(import_hf(backbone, tmp_path)(x), model(x), atol=1e-5, rtol=1e-5)
    else:
        with pytest.raises(PeftlabError, match="this one has lora_bias"):
            import_hf(backbone, tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("context_peft", {}, "has no counterpart in HF peft, where its weights differ from token to token"),
        ("context_peft", {"contexts": "one", "kind": "ia3"}, "so it is no LoRA"),
        ("sct", {}, "has no counterpart in HF peft, where U also acts on the skip path"),
        ("two_stage", {"placement": "mlp"}, "changes blocks.0.norm1.weight, which no adapter"),
    ],
)
def test_what_no_lora_holds_is_refused(name, options, message, backbone, tmp_path):
    with pytest.raises(PeftlabError, match=message):
        export_hf(randomise(attach(backbone, name, CLASSES, **options)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_has_changed_nothing_is_refused(backbone, tmp_path):
    with pytest.raises(PeftlabError, match="fact has changed no weight yet"):
        export_hf(attach(backbone, "fact", CLASSES), tmp_path)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_exported_adapters_work_in_hf_peft_and_come_back(name, options, backbone, x, tmp_path):
    model = randomise(attach(backbone, name, CLASSES, **options))
    folder = export_hf(model, tmp_path / "hf")
    assert sorted(f.name for f in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    loaded = peft.PeftModel.from_pretrained(headed(backbone), str(folder)).eval()
    torch.testing.assert_close(loaded(x), model(x), atol=1e-5, rtol=1e-5)
    back = import_hf(backbone, folder)
    torch.testing.assert_close(back(x), model(x), atol=1e-5, rtol=1e-5)
    assert back.method.last_blocks == options.get("last_blocks")
    torch.testing.assert_close(back.merge()(x), loaded.merge_and_unload()(x), atol=1e-5, rtol=1e-5)


def test_what_hf_peft_does_not_have_is_refused(backbone, tmp_path):
    with pytest.raises(
        PeftlabError,
        match="ssf has no counterpart in HF peft; these have one: lora, dora, pissa, vera",
    ):
        export_hf(attach(backbone, "ssf", CLASSES), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_biases_of_other_layers_are_not_exported(backbone, tmp_path):
    with pytest.raises(
        PeftlabError, match=r"linear layers alone, not of norm, patch; attach bitfit with targets=\('qkv"
    ):
        export_hf(attach(backbone, "bitfit", CLASSES), tmp_path)


def test_a_bias_where_the_backbone_has_none_is_not_imported(tmp_path):
    backbone = VisionTransformer(32, 8, embed_dim=48, depth=1, num_heads=2, qkv_bias=False, num_classes=0)
    theirs(backbone, "bitfit").save_pretrained(tmp_path)
    with pytest.raises(PeftlabError, match="it gives blocks.0.attn.qkv a bias, but the backbone has none"):
        import_hf(backbone, tmp_path)


def test_families_with_other_layers_in_timm_are_refused(tmp_path):
    eva = timm.create_model(
        "eva02_tiny_patch14_224", img_size=28, embed_dim=48, depth=1, num_heads=2, num_classes=0
    ).eval()
    model = attach(eva, "lora", CLASSES)
    for transfer in (lambda: export_hf(model, tmp_path), lambda: import_hf(eva, tmp_path)):
        with pytest.raises(PeftlabError, match="HF peft would meet timm's Eva"):
            transfer()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            lambda: peft.LoraConfig(target_modules=["qkv"], init_lora_weights="olora"),
            "init_lora_weights='olora' changes",
        ),
        (
            lambda: peft.LoraConfig(target_modules=["qkv", "fc1"], rank_pattern={"fc1": 2}, init_lora_weights="pissa"),
            "PiSSA start with one rank",
        ),
        (lambda: peft.OFTConfig(target_modules=["qkv"]), "use_cayley_neumann=False"),
        (lambda: peft.OFTConfig(target_modules=["qkv"], coft=True), "this one has coft"),
        (
            lambda: peft.OFTConfig(r=4, oft_block_size=0, target_modules=["qkv", "fc2"], use_cayley_neumann=False),
            "its block sizes are",
        ),
        (lambda: peft.LoraConfig(target_modules=["qkv"], bias="lora_only"), "bias='lora_only'"),
        (lambda: peft.LoraConfig(target_modules=["qkv"], lora_bias=True), "this one has lora_bias"),
        (lambda: peft.LoraConfig(target_modules=["qkv"], modules_to_save=["head", "norm"]), "stores norm"),
        (lambda: peft.LoraConfig(target_modules=["qkv", "patch_embed.proj"]), "changes patch_embed.proj"),
        (lambda: peft.LoraConfig(target_modules=["blocks.1.attn.qkv", "fc1"]), "other layers in some of the blocks"),
        (lambda: peft.IA3Config(target_modules=["qkv", "fc1"], feedforward_modules=[]), "output of blocks.0.mlp.fc1"),
        (lambda: peft.IA3Config(target_modules=["qkv"], feedforward_modules=["qkv"]), "input of blocks.0.attn.qkv"),
        (lambda: peft.LNTuningConfig(target_modules=r"blocks\.\d+\.norm1"), "tunes 6 LayerNorms, but norm tunes 13"),
        (lambda: peft.LoHaConfig(target_modules=["qkv"]), "LOHA has no counterpart"),
    ],
)
def test_variants_that_compute_something_else_are_refused(config, message, tmp_path):
    backbone = load_backbone("test_vit", pretrained=False, img_size=64)
    peft.get_peft_model(headed(backbone), config()).save_pretrained(tmp_path)
    with pytest.raises(PeftlabError, match=message):
        import_hf(backbone, tmp_path, num_classes=CLASSES)


def test_damaged_and_unsafe_folders_are_refused(backbone, tmp_path):
    from peftlab.common.tensors import read_tensors, write_tensors

    with pytest.raises(PeftlabError, match="adapter_config.json: no such file"):
        import_hf(backbone, tmp_path / "nowhere")
    theirs(backbone, "lora").save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = read_tensors(file)[0]
    some = "base_model.model.blocks.0.attn.qkv.lora_A.weight"
    for damaged, message in [
        ({k: t for k, t in tensors.items() if k != some}, "missing.*blocks.0.attn.qkv.lora_A"),
        (tensors | {"base_model.model.surplus": torch.zeros(1)}, "unexpected.*surplus"),
        (tensors | {some: torch.zeros(2, 2)}, "does not fit"),
        ({k: t for k, t in tensors.items() if "head" not in k}, "brings no head"),
    ]:
        write_tensors(file, damaged)
        with pytest.raises(PeftlabError, match=message):
            import_hf(backbone, tmp_path)
    file.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(PeftlabError, match="adapter_model.safetensors: no such file.*never as pickle"):
        import_hf(backbone, tmp_path)
