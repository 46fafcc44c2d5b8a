"""VeRA: its equation from the key alone, and what is stored."""

import torch
from support import tuned

from peftlab.backbones.load import load_backbone
from peftlab.common.tensors import read_tensors
from peftlab.methods import attach


def drawn(key, rank, width, height):
    """A and B: uniform within sqrt(6 / columns), one after the other from one generator."""
    random = torch.Generator().manual_seed(key)
    shapes = ((rank, width), (height, rank))
    return [(2 * torch.rand(shape, generator=random) - 1) * (6 / shape[1]) ** 0.5 for shape in shapes]


def test_equation():
    """y = W x + b * (B (d * (A x))) + bias, with the first columns and rows that a layer needs."""
    torch.manual_seed(0)
    backbone = load_backbone("test_vit", pretrained=False, img_size=64)
    model = tuned(backbone, "vera", rank=100, targets=("q", "v", "fc1", "fc2"), key=7)
    D, H = backbone.embed_dim, backbone.blocks[0].mlp.fc1.out_features
    A, B = drawn(7, 100, H, H)
    for i, plain in enumerate(backbone.blocks):
        for path, targets in {
            "attn.qkv": {"q": slice(0, D), "v": slice(2 * D, 3 * D)},
            "mlp.fc1": {"fc1": slice(0, H)},
            "mlp.fc2": {"fc2": slice(0, D)},
        }.items():
            layer, frozen = model.vit.blocks[i].get_submodule(path), plain.get_submodule(path)
            x = torch.randn(2, 5, frozen.in_features)
            expected = frozen(x).detach()
            for target, rows in targets.items():
                inner = layer.d[target] * (x @ A[:, : frozen.in_features].T)
                expected[..., rows] += (layer.b[target] * (inner @ B[: rows.stop - rows.start].T)).detach()
            torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_the_random_matrices_follow_from_the_key_and_are_not_stored(tmp_path):
    backbone = load_backbone()
    shared = [
        attach(backbone, "vera", 3, seed=seed, key=key).vit.blocks[0].shared for seed, key in ((0, 0), (1, 0), (0, 1))
    ]
    assert torch.equal(shared[0].A, shared[1].A) and torch.equal(shared[0].B, shared[1].B)
    assert not torch.equal(shared[0].A, shared[2].A)
    model = attach(backbone, "vera", 3)
    stored = read_tensors(model.save(tmp_path) / "adapter.safetensors")[0]
    assert sum(t.numel() for t in stored.values()) == model.method_parameters + model.head_parameters


def test_start():
    layer = attach(load_backbone(), "vera", 3).vit.blocks[0].attn.qkv
    assert all((d == 0.1).all() for d in layer.d.values()) and not any(b.any() for b in layer.b.values())
