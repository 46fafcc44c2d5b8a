"""What several test files share: small models and tasks, and a ViT written out by hand."""

import os
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from peftlab.backbones.identity import as_vit
from peftlab.backbones.load import load_backbone
from peftlab.methods import attach

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "vtab-1k"
REAL = Path(os.environ.get("PEFTLAB_REAL_DATA", _BESIDE))  # PEFTLAB_DATA, as conftest.py puts it away
CLASSES = 3


def tuned(backbone, method, **options):
    """A model whose every trained parameter is random, so that no term hides behind a zero."""
    model = attach(backbone, method, CLASSES, **options)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.normal_(0, 0.3)
    return model


def by_hand(model, x, attention=None, mlp=None, enter=None, leave=None):
    """Features of a plain timm ViT with other sub-layers: attention(i, u) and mlp(i, u) of the normed input u."""
    vit = model.backbone
    x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x))))
    for i, block in enumerate(vit.blocks):
        x = enter(i, x) if enter else x
        u = block.norm1(x)
        x = x + block.ls1(attention(i, u) if attention else block.attn(u))
        u = block.norm2(x)
        x = x + block.ls2(mlp(i, u) if mlp else block.mlp(u))
        x = leave(i, x) if leave else x
    return vit.norm(x)


def agree(model, expected, x):
    torch.testing.assert_close(model.vit.forward_features(x), expected, atol=1e-4, rtol=1e-4)


def attention_core(block, qkv):
    """Softmax attention of a block from its qkv [B, N, 3 D], before the output projection."""
    heads = block.attn.num_heads
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def shallow(name=None, img_size=64):
    """The first three blocks of the embedded ViT, or of a timm ViT at random weights: one begins, one ends."""
    torch.manual_seed(0)
    vit = load_backbone(name, pretrained=False, img_size=img_size) if name else load_backbone(img_size=img_size)
    del vit.blocks[3:]
    return vit


def random_timm(name, **options):
    """A timm model with random values in every parameter, also those that begin at 0 or 1."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return model


def small_swin():
    """A Swin of two stages at 64 px, as peftlab's ViT, with random values."""
    small = {"img_size": 64, "embed_dim": 16, "depths": (1, 2), "num_heads": (1, 2), "window_size": 4}
    return as_vit(random_timm("swin_tiny_patch4_window7_224", num_classes=0, **small))


def coarse_picture(seed, size=(120, 90), mode="RGB"):
    """Coarse noise, so that a copy saved anew is still alike."""
    grid = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC).convert(mode)


def folder_of(root, sizes, first=0):
    """{class: number of images} -> a folder for each class, every image another."""
    seed = first
    for name, n in sizes.items():
        (root / name).mkdir(parents=True)
        for _ in range(n):
            coarse_picture(seed).save(root / name / f"{seed:03d}.png")
            seed += 1
    return root


def small_vit(**options):
    torch.manual_seed(0)
    vit = VisionTransformer(32, 8, embed_dim=48, depth=3, num_heads=2, num_classes=0, **options)
    vit.pretrained_cfg, vit.peftlab_name = {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "small"
    return vit.requires_grad_(False).eval()


def generator_of(model, target="o"):
    return model.vit.blocks[0].shared[f"generator_{target}"]


def make_task(folder, classes=("even", "odd"), sizes=(4, 2, 2), seed=0):
    """A whole little task, every image another: 16 px noise; train800val200 has its own copies, as the exports do."""
    rng = np.random.default_rng(seed)
    pools = {}
    for split, size in zip(("train800", "val200", "test"), sizes, strict=True):
        pools[split] = [(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), i % len(classes)) for i in range(size)]
    pools["train800val200"] = pools["train800"] + pools["val200"]
    for split, pool in pools.items():
        (folder / "images" / split).mkdir(parents=True)
        lines = []
        for i, (pixels, label) in enumerate(pool):
            Image.fromarray(pixels).save(folder / "images" / split / f"{i:06}.png")
            lines.append(f"images/{split}/{i:06}.png {label}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return folder
