"""Frozen timm VisionTransformers by name: the embedded ones, hub ids with their tag, local files."""

import inspect
import math
import os
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
from timm.layers import LayerScale
from timm.models import load_checkpoint
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..common.errors import PeftlabError, hint, located
from ..common.paths import REPOSITORY, expanded
from ..common.tensors import read_tensors, write_tensors
from ..common.used import note_use
from .identity import as_vit, check_stages, fingerprint, resample
from .protocols import NORMALISATIONS
from .types import ViT

_NAMES = ("peftlab_vit_mini", "peftlab_vit_small")
EMBEDDED = {name: REPOSITORY / "data" / "backbones" / f"{name}.safetensors" for name in _NAMES}
SIDES = {"peftlab_vit_small": 224}  # pixels; its position embeddings are stored for 518, five times the tokens
MINI = {"img_size": 64, "patch_size": 8, "embed_dim": 192, "depth": 6, "num_heads": 3}


def load_backbone(
    name: str = "peftlab_vit_mini",
    pretrained: bool = True,
    img_size: int | tuple[int, int] | None = None,
    architecture: str | None = None,
) -> ViT:
    """Load a VisionTransformer without head, frozen and in eval mode.

    name: 'peftlab_vit_mini' (embedded, 64 px), 'peftlab_vit_small' (embedded, 224 px), a timm id with its tag such as
        'vit_base_patch16_224.augreg_in21k', or a local .safetensors / .npz file.
    pretrained: False gives the architecture with random weights (a control, or a fast test): timm's, but LayerScale is
        1. Its start at 1e-5 would leave of the network hardly more than the patch embedding.
    img_size: side in pixels, or (height, width), if other than the checkpoint's: multiples of the patch size. Position
        embeddings are resampled.
    architecture: timm name of a local file's architecture; by default the file's own stem, or what peftlab stored.
        Images are normalised as for timm's default weights of it; `pretrained_cfg` has "mean" and "std" to set.
    Raises PeftlabError with the near names, and for models that are not plain; with HF_HUB_OFFLINE=1 only what is
    already on disk is used.

    >>> vit = load_backbone()
    >>> vit.peftlab_name, vit.embed_dim, len(vit.blocks), sum(p.numel() for p in vit.parameters())
    ('peftlab_vit_mini', 192, 6, 2719296)
    """
    path = EMBEDDED.get(name, expanded(name))
    is_file = name in EMBEDDED or path.suffix in (".safetensors", ".npz")
    if path.suffix in (".pth", ".pt", ".bin", ".ckpt"):
        raise PeftlabError(
            f"{path}: peftlab reads no pickle. Save the weights anew where you trust them: "
            f"safetensors.torch.save_file(state_dict, {path.stem + '.safetensors'!r})"
        )
    loaded = _from_file(path, pretrained, architecture) if is_file else _from_timm(name, pretrained)
    with located(repr(name)):
        vit: ViT = as_vit(loaded).requires_grad_(False).eval()
    img_size = SIDES.get(name) if img_size is None else img_size
    if img_size is not None:
        resample(vit, (img_size, img_size) if isinstance(img_size, int) else img_size)
    vit.peftlab_name = path.stem if is_file else name.removeprefix("timm/")
    if not pretrained:
        for scale in (module for module in vit.modules() if isinstance(module, LayerScale)):
            nn.init.ones_(scale.gamma)
        vit.peftlab_name += " (random weights)"
    if not vit.patch_embed.proj.weight.is_meta:
        check_stages(vit)
        note_use("backbone", vit.peftlab_name, lambda: fingerprint(vit))
    return vit


def _from_file(path: Path, pretrained: bool, architecture: str | None) -> nn.Module:
    if not path.is_file():
        raise PeftlabError(f"{path}: no such weights file. Check the path; embedded backbones: {', '.join(EMBEDDED)}")
    tensors, stored = read_tensors(path) if path.suffix == ".safetensors" else ({}, None)
    if architecture is None and stored:
        vit: ViT = VisionTransformer(**stored["architecture"], num_classes=0)
        mean, std = NORMALISATIONS[stored["normalisation"]]
        side = vit.patch_embed.img_size[0]
        vit.pretrained_cfg = {"mean": mean, "std": std, "input_size": (3, side, side)}
    else:
        if architecture and not timm.is_model(architecture):
            raise PeftlabError(
                f"{path}: unknown architecture {architecture!r}{hint(architecture, timm.list_models())}"
            )
        if not timm.is_model(architecture or path.stem):
            raise PeftlabError(
                f"{path}: its architecture is unknown. Name it, as in load_backbone({str(path)!r}, "
                "architecture='vit_base_patch16_224'), or name the file after it: vit_base_patch16_224.safetensors"
            )
        vit = timm.create_model(architecture or path.stem, pretrained=False, num_classes=0)
        as_large_as(vit, tensors.get("pos_embed"))
    if not pretrained:
        return vit
    try:
        if path.suffix == ".npz":
            load_checkpoint(vit, str(path))
        else:
            tensors = {key: t.float() for key, t in tensors.items() if not key.startswith("head.")}
            family: Any = inspect.getmodule(type(vit))  # timm's file of this class knows its checkpoints' layouts
            vit.load_state_dict(family.checkpoint_filter_fn(tensors, vit))
    except (RuntimeError, KeyError) as error:
        first, *more = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise PeftlabError(
            f"{path}: these weights do not fit the architecture: {shorten(first, 200)}"
            f"{f' and {len(more)} more of the kind' if more else ''}. Name another architecture"
        ) from None
    return vit


def as_large_as(vit: Any, stored: Tensor | None) -> None:
    """Give a ViT the input size of position embeddings [1, tokens, width], or timm would resample them; in place.

    A grid that is not square stays timm's to resample.
    """
    if stored is None or getattr(vit, "pos_embed", None) is None:
        return
    side = math.isqrt(patches := stored.shape[1] - vit.pos_embed.shape[1] + vit.patch_embed.num_patches)
    if side**2 == patches != vit.patch_embed.num_patches:
        vit.set_input_size(tuple(side * patch for patch in vit.patch_embed.patch_size))


def _from_timm(name: str, pretrained: bool) -> nn.Module:
    model = name.removeprefix("timm/")
    base = model.split(".")[0]
    if not timm.is_model(base):
        known = [*EMBEDDED, *timm.list_models(["vit_*", "eva*", "swin_*"])]
        raise PeftlabError(
            f"unknown backbone {name!r}{hint(base, known)} Known: {', '.join(EMBEDDED)}, and what timm has of vit_*, "
            "eva*, swin*"
        )
    tags = timm.list_pretrained(f"{base}.*")
    if pretrained and model not in tags:
        raise PeftlabError(
            f"{name!r} does not say which weights: one name has several checkpoints with other data and input "
            f"ranges. Choose one of: {', '.join(tags) or 'none published'}"
        )
    try:
        return timm.create_model(model, pretrained=pretrained, num_classes=0)
    except Exception as error:  # hub errors come as many types, from requests to httpx to huggingface_hub's own
        offline = " HF_HUB_OFFLINE is set, so only the local cache was searched." if _offline() else ""
        raise PeftlabError(
            f"could not load {name!r}: {type(error).__name__}: {str(error).splitlines()[0]}.{offline} "
            "Download it once with the network on, or give the path of a .safetensors file"
        ) from error


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")


def save_backbone(vit: ViT, path: str | Path, architecture: dict[str, Any], normalisation: str = "imagenet") -> None:
    """Write a plain VisionTransformer as fp16 safetensors with what `load_backbone` needs to rebuild it.

    architecture: keywords of VisionTransformer. normalisation: a key of protocols.NORMALISATIONS.
    """
    tensors = {name: t.half() for name, t in vit.state_dict().items()}
    write_tensors(path, tensors, {"architecture": architecture, "normalisation": normalisation})
