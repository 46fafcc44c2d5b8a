"""A merged model as a folder that timm reads by itself: config.json and model.safetensors, without peftlab.

model = timm.create_model("local-dir:FOLDER", pretrained=True)
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import LayerScale
from timm.models.swin_transformer import SwinTransformer

from ...backbones.preprocess import input_size, normalisation
from ...backbones.types import Merged
from ...common.errors import PeftlabError
from ...common.files import write_json
from ...common.tensors import write_tensors

ANY_VIT = "vit_tiny_patch16_224"  # timm's own constructor, which takes every argument of a VisionTransformer

LOADING = """import timm
model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"""


def export_timm(vit: Merged, folder: str | Path, classes: Sequence[str]) -> Path:
    """Write a plain ViT with its head, as `merge` gives it, and the names of its classes -> the folder.

    Images are read as they were in training: resized to the input size without a crop, bicubically, then normalised.
    Raises PeftlabError, before anything is written, where timm would build something that computes otherwise.
    """
    folder, (height, width) = Path(folder), input_size(vit)
    mean, std = (t.flatten().tolist() for t in normalisation(vit))
    architecture, arguments = _architecture(vit)
    config = {
        "architecture": architecture,
        "num_classes": vit.num_classes,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, height, width],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": mean,
            "std": std,
            "num_classes": vit.num_classes,
            "first_conv": "patch_embed.proj",
            "classifier": "head.fc" if isinstance(vit, SwinTransformer) else "head",
            "label_names": list(classes),
        },
    }
    _check(vit, architecture, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", vit.state_dict())
    write_json(folder / "config.json", config)  # last: a folder without it is none that timm reads
    return folder


def _architecture(vit: Merged) -> tuple[str, dict[str, Any]]:
    """timm's name for a ViT and what it differs in from it."""
    known = (getattr(vit, "pretrained_cfg", None) or {}).get("architecture")
    resized = getattr(vit, "_model_args", {})  # where timm notes what a resized Swin must be built with
    windows = {k: resized[k] for k in ("window_size", "always_partition") if resized.get(k) is not None}
    size = {"img_size": list(input_size(vit))} | windows
    if known and timm.is_model(known):
        return known, size
    block = vit.blocks[0]
    scale = block.ls1 if isinstance(block.ls1, LayerScale) else None
    return ANY_VIT, size | {
        "patch_size": vit.patch_embed.patch_size[0],
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / vit.embed_dim,
        "init_values": scale and 1e-5,  # any number makes the layer; its weights are loaded
        "class_token": vit.cls_token is not None,
        "reg_tokens": vit.num_reg_tokens,
        "no_embed_class": vit.no_embed_class,
        "global_pool": vit.global_pool,
    }


@torch.no_grad()
def _check(vit: Merged, architecture: str, arguments: dict[str, Any]) -> None:
    like = next(vit.parameters())
    x = torch.randn(1, 3, *input_size(vit), generator=torch.Generator().manual_seed(0)).to(like)
    try:
        other = timm.create_model(architecture, num_classes=vit.num_classes, **arguments).to(like.device)
        other.load_state_dict(vit.state_dict())
        same = torch.allclose(other.eval()(x), vit.eval()(x), atol=1e-4, rtol=1e-4)
    except (RuntimeError, TypeError) as error:
        raise PeftlabError(f"timm's {architecture} does not take this model's weights: {error}") from None
    if not same:
        raise PeftlabError(f"timm's {architecture} computes otherwise than this model, so it cannot be saved for timm")


def loading(folder: str) -> str:
    """`LOADING` for a folder of this name, whatever is in it: JSON escapes what would end a string of Python, too."""
    return LOADING.format(folder=json.dumps(folder, ensure_ascii=False)[1:-1])


def loaded_alone(folder: Path, image: Path) -> list[float]:
    """The logits of an image, by `loading` as it stands, in a fresh Python process that has not loaded peftlab.

    Raises PeftlabError with the end of its message where that fails.
    """
    code = loading(folder.name) + _ANSWER
    done = subprocess.run(
        [sys.executable, "-c", code, str(image)], cwd=folder.parent, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PeftlabError(f"{folder}: cannot be loaded by timm alone: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


_ANSWER = """
import json, sys
import torch
from PIL import Image
with torch.inference_mode():
    logits = model(transform(Image.open(sys.argv[1]).convert("RGB"))[None])[0]
assert "peftlab" not in sys.modules
print(json.dumps(logits.tolist()))
"""
