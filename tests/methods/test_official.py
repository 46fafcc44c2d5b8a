"""GIFT's checkpoints: written as the authors' code writes them, and the logits that its formula gives."""

import os
import warnings
from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F
from support import CLASSES, small_vit
from timm.utils import CheckpointSaver
from torch import nn

from peftlab.common.errors import PeftlabError
from peftlab.methods import load_adapter
from peftlab.methods.core.model import share
from peftlab.methods.core.official import load_official

ARGS = {"model": "small", "method": "gift", "lr": 2.5e-4, "weight_decay": 1e-4, "model_kwargs": {}, "gp": None}
RANK, CLUSTERS = 4, 5


class Hypernet(nn.Module):
    """Tensors of `pamcat_transformer`, under the names that the authors' code gives them."""

    def __init__(self, heads, blocks=2):
        super().__init__()
        self.heads = heads
        self.blocks = nn.ModuleList(nn.ModuleDict() for _ in range(blocks))
        for block in self.blocks:
            attn = {name: nn.Linear(RANK, RANK) for name in ("q", "k", "v", "proj")}
            cluster = nn.ModuleDict({"cluster": nn.Linear(RANK, CLUSTERS)})
            block["attn"] = nn.ModuleDict(attn | {"cluster": cluster})
            block["mlp"] = nn.ModuleDict({"fc1": nn.Linear(RANK, 2 * RANK), "fc2": nn.Linear(2 * RANK, RANK)})

    def forward(self, w):
        """The formula of that block: tokens w [N, rank] -> [N, rank]."""
        for block in self.blocks:
            attn, u = block["attn"], w / w.norm(dim=-1, keepdim=True)
            c = torch.sigmoid(attn["cluster"]["cluster"](u)).T / len(u)  # [M, N]
            z = c @ u
            z = z / z.norm(dim=-1, keepdim=True)
            mixed = []
            for q, k, v in zip(
                *(attn[n](t).chunk(self.heads, -1) for n, t in zip("qkv", (u, z, z), strict=True)), strict=True
            ):
                mixed.append((q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v)
            w = w + attn["proj"](torch.cat(mixed, -1))
            w = w + block["mlp"]["fc2"](F.gelu(block["mlp"]["fc1"](w / w.norm(dim=-1, keepdim=True))))
        return w


class Released(nn.Module):
    """GIFT around a timm ViT as in the authors' code: W + out(hypernet(in(W))), the same three for all layers."""

    def __init__(self, vit, targets, hypernet):
        super().__init__()
        self.backbone = share(vit)
        self.backbone.reset_classifier(CLASSES)
        self.layers = {
            t: [n for n, _ in vit.named_modules() if n.endswith("." + t.replace(":", "."))] for t in targets
        }
        width = {t: vit.get_submodule(names[0]).in_features for t, names in self.layers.items()}
        self.in_projections = nn.ModuleDict({t: nn.Linear(width[t], RANK, bias=False) for t in targets})
        self.hypernets = nn.ModuleDict({t: hypernet() for t in targets})
        self.out_projections = nn.ModuleDict({t: nn.Linear(RANK, width[t], bias=False) for t in targets})
        for name, p in self.named_parameters():
            if not name.startswith("backbone.") or ".head." in name:
                nn.init.normal_(p, 0, 0.2)

    def forward(self, x):
        changed = {}
        for t, names in self.layers.items():
            for name in names:
                W = self.backbone.get_parameter(f"{name}.weight")
                changed[f"{name}.weight"] = W + self.out_projections[t](self.hypernets[t](self.in_projections[t](W)))
        return torch.func.functional_call(self.backbone, changed, x)

    def state_dict(self, *args, **kwargs):  # theirs leaves the frozen backbone out, too
        return {n: t for n, t in super().state_dict().items() if not n.startswith("backbone.") or ".head." in n}


def write(folder, targets=("attn:proj",), hypernet=nn.Identity, **args):
    """-> (last.pth.tar, written by timm's saver as in their training, the model that wrote it, its backbone)."""
    torch.manual_seed(1)
    vit = small_vit()
    released = Released(vit, targets, hypernet).eval()
    optimizer = torch.optim.AdamW(released.in_projections.parameters())
    CheckpointSaver(released, optimizer, Namespace(**(ARGS | args)), checkpoint_dir=str(folder)).save_checkpoint(
        0, 88.1
    )
    return folder / "last.pth.tar", released, vit


def damage(file, change):
    """Change what a checkpoint holds."""
    content = torch.load(file, weights_only=False)  # the one just written
    change(content)
    torch.save(content, file)


x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
CASES = {
    "one": {},
    "several": {"targets": ("qkv", "mlp:fc1", "fc2")},
    "clusters": {"hypernet": lambda: Hypernet(1), "gift_block_block_type": "pamcat_transformer"},
    "two heads": {"hypernet": lambda: Hypernet(2), "gift_block_num_heads": 2, "targets": ("attn:proj", "fc1")},
}


@pytest.mark.parametrize("case", CASES)
def test_same_file_same_logits(case, tmp_path):
    file, released, vit = write(tmp_path, **CASES[case])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_official(vit, file)
    torch.testing.assert_close(model(x), released(x), atol=1e-5, rtol=1e-5)
    assert (
        model(x) - F.linear(vit(x), model.vit.head.weight, model.vit.head.bias)
    ).abs().max() > 1e-2  # not the frozen
    assert model.method.name == ("gift_linear" if case in ("one", "several") else "gift")
    assert model.method_parameters == sum(p.numel() for n, p in released.named_parameters() if "backbone" not in n)
    torch.testing.assert_close(model.merge()(x), released(x), atol=1e-5, rtol=1e-5)
    again = load_adapter(vit, model.save(tmp_path / "ours"))
    assert torch.equal(again(x), model(x))


def test_tensors_alone(tmp_path):
    """As their --save_all_checkpoints writes them."""
    file, released, vit = write(tmp_path, hypernet=lambda: Hypernet(1))
    torch.save(released.state_dict(), file)
    torch.testing.assert_close(load_official(vit, file)(x), released(x), atol=1e-5, rtol=1e-5)


def test_another_backbone(tmp_path):
    file, _, vit = write(tmp_path, model="vit_base_patch16_224.augreg_in21k")
    for name in ("small", "VisionTransformer"):
        with pytest.warns(UserWarning, match=f"trained on 'vit_base_patch16_224.augreg_in21k', loaded on '{name}'"):
            load_official(vit, file)
        vars(vit).pop("peftlab_name", None)  # as timm alone makes it


class Runs:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, _, vit = write(tmp_path)
    damage(file, lambda content: content.update(optimizer=Runs()))
    with pytest.raises(PeftlabError, match=r"last.pth.tar: .* asks for \w+.mkdir, which is not run"):
        load_official(vit, file)
    assert not (tmp_path / "was_run").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "was_run").exists()  # so the file could have done it


def in_state(change):
    return lambda content: change(content["state_dict"])


PHI, PSI = "in_projections.attn:proj.weight", "out_projections.attn:proj.weight"
CLUSTER = "hypernets.attn:proj.blocks.0.attn.cluster.cluster"
LINEAR_FAULTS = {
    "no psi": (in_state(lambda s: s.pop(PSI)), r"missing \['out_projections.attn:proj.weight'\]"),
    "a bias": (
        in_state(lambda s: s.update({"in_projections.attn:proj.bias": torch.ones(4)})),
        r"unexpected \['in_proj",
    ),
    "wrong width": (in_state(lambda s: s.update({PSI: torch.ones(47, 4)})), r"\(47, 4\) instead of \(48, 4\)"),
    "NaN": (in_state(lambda s: s[PSI].fill_(torch.nan)), "NaN"),
    "a vector": (in_state(lambda s: s.update({PHI: torch.ones(4)})), r"of shape \(4,\), but must be a matrix"),
    "empty": (in_state(lambda s: s.update({PHI: torch.ones(0, 48)})), r"of shape \(0, 48\)"),
    "no head": (in_state(lambda s: s.pop("backbone.head.weight")), "backbone.head.weight is missing"),
    "not GIFT": (in_state(lambda s: (s.pop(PHI), s.pop(PSI))), "has no in_projections"),
    "shared": (
        in_state(lambda s: s.update({"in_projections.shared_projection.weight": s.pop(PHI)})),
        "shared_projection",
    ),
    "no tensors": (lambda c: c.update(state_dict={}), "no tensors by name"),
    "numbers": (lambda c: c.update(state_dict={"a": 1}), "no tensors by name"),
    "options of another kind": (lambda c: c.update(args={"model": "small"}), "no tensors by name"),
    "mlp": (lambda c: setattr(c["args"], "gift_block_block_type", "mlp"), "unknown generator 'mlp'"),
    "act": (
        lambda c: setattr(c["args"], "gift_block_act_layer", "gelu"),
        "gift_block_act_layer 'gelu', but gift_linear",
    ),
}
CLUSTER_FAULTS = {
    "softmax": (lambda c: setattr(c["args"], "gift_block_cluster_activation", "softmax"), "but gift has 'sigmoid'"),
    "no norm": (lambda c: setattr(c["args"], "gift_block_norm_layer", "none"), "but gift has 'l2'"),
    "heads": (lambda c: setattr(c["args"], "gift_block_num_heads", 3), "heads is 3, but must divide the rank"),
    "kind of heads": (lambda c: setattr(c["args"], "gift_block_num_heads", "2"), "must be of type int"),
    "no clusters": (
        in_state(lambda s: s.pop(f"{CLUSTER}.bias")),
        r"missing \['hypernets.attn:proj.blocks.0.attn.cluster",
    ),
    "ratio": (
        in_state(lambda s: s.update({"hypernets.attn:proj.blocks.0.mlp.fc1.weight": torch.ones(6, 4)})),
        "6 wide",
    ),
}


@pytest.mark.parametrize("fault", [*LINEAR_FAULTS, *CLUSTER_FAULTS])
def test_a_sentence_for_each_fault(fault, tmp_path):
    file, _, vit = write(tmp_path, hypernet=(lambda: Hypernet(1)) if fault in CLUSTER_FAULTS else nn.Identity)
    change, sentence = (LINEAR_FAULTS | CLUSTER_FAULTS)[fault]
    damage(file, change)
    with pytest.raises(PeftlabError, match=sentence) as caught:
        load_official(vit, file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"PK\x03\x04junk", b"\x80\x02.", lambda whole: whole[: len(whole) // 2]]
)
def test_damaged_files(content, tmp_path):
    file, _, vit = write(tmp_path)
    file.write_bytes(content(file.read_bytes()) if callable(content) else content)
    with pytest.raises(PeftlabError, match=r"last.pth.tar: cannot be read as tensors and options .* damaged"):
        load_official(vit, file)


def test_no_file(tmp_path):
    with pytest.raises(PeftlabError, match="no such file"):
        load_official(small_vit(), tmp_path)
