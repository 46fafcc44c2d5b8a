"""Which backbone a model stands on: its weights, what it computes with them, how it reads images."""

import copy
import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
import torch
from timm.layers import DropPath
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..common.errors import PeftlabError
from .eva import from_eva, settings, without_positions
from .preprocess import input_size, normalisation
from .stages import run_stages, stages
from .swin import SwinViT, from_swin
from .types import ViT

FAMILIES: dict[type, Callable[[Any], ViT]] = {Eva: from_eva, SwinTransformer: from_swin}
LARGEST_SIDE = 4096  # pixels; more than any ViT was trained on
_descriptions: dict[int, dict[str, Any]] = {}  # of `described_once`, by id: on the ViT they would go into its copies


def digest(tensors: Mapping[str, Tensor], more: object = "") -> str:
    """12 hex digits over names and bytes of tensors, and over the text of something more.

    >>> digest({"A": torch.zeros(2)}) == digest({"A": torch.zeros(2)}) != digest({"A": torch.zeros(2).half()})
    True
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if more:
        sha.update(str(more).encode())
    return sha.hexdigest()[:12]


def fingerprint(model: nn.Module) -> str:
    """`digest` of all weights. Position embeddings that `load_backbone` resampled count as they were stored.

    >>> from peftlab.backbones.load import load_backbone
    >>> fingerprint(load_backbone()) == fingerprint(load_backbone(img_size=32))
    True
    """
    tensors, stored = dict(model.state_dict()), getattr(model, "peftlab_resampled", None)
    if stored is not None and torch.equal(tensors["pos_embed"].cpu(), stored["to"]):
        tensors["pos_embed"] = stored["from"]
    return digest(tensors)


def resample(vit: ViT, size: tuple[int, int]) -> None:
    """Change the input size (height, width) in place, and keep what the position embeddings were.

    Raises PeftlabError for sides that are no multiples of the patch size: timm would crop the images.
    """
    for side, patch in zip(size, vit.patch_embed.patch_size, strict=True):
        if side % patch or not patch <= side <= LARGEST_SIDE:
            below = min(max(patch, side - side % patch), LARGEST_SIDE - LARGEST_SIDE % patch)
            raise PeftlabError(
                f"img_size is {side}, but must be a multiple of the patch size {patch}, up to {LARGEST_SIDE}; "
                f"the next smaller one is {below}"
            )
    if size == input_size(vit):
        return
    before = vit.pos_embed
    vit.set_input_size(size)
    if before is not None and vit.pos_embed is not before:
        vit.peftlab_resampled = {"from": before.detach().clone(), "to": vit.pos_embed.detach().clone()}


@torch.no_grad()
def probe(vit: ViT) -> str:
    """12 hex digits over what a ViT without head makes of fixed tokens, whatever its input size (but a Swin's).

    Weights alone are blind to the number of heads, activations, epsilons, pooling and dropout. In double precision and
    rounded, so that machines agree.
    """
    numbers = torch.Generator().manual_seed(0)
    # The blocks of a Swin are made for one grid of patches.
    tokens = vit.patch_embed.num_patches if isinstance(vit, SwinViT) else vit.num_prefix_tokens + 4
    x = torch.randn(1, tokens, vit.patch_embed.proj.out_channels, generator=numbers, dtype=torch.float64)
    directions = torch.randn(vit.embed_dim, 8, generator=numbers, dtype=torch.float64) / vit.embed_dim**0.5
    bare = in_double(vit, {id(vit.blocks): nn.Sequential()})
    with torch.autocast("cpu", enabled=False):
        x = bare.norm_pre(x)
        for block in vit.blocks:  # one at a time, so that no second copy of a large model is made
            x = without_positions(in_double(block))(x)
        pooled = bare.forward_head(bare.norm(x), pre_logits=True)
    values = [f"{value:.7f}" for value in (pooled @ directions)[0].tolist()]
    rates = {name: p for name, m in vit.named_modules() if (p := _dropout(m))}
    seen = [values, rates, repr(vit.patch_embed.proj), vit.num_prefix_tokens, vit.no_embed_class]
    return digest({}, [*seen, positions] if (positions := settings(vit)) else seen)


def in_double(module: Any, memo: dict[int, Any] | None = None) -> Any:
    """A copy of a module on the CPU, computing in double precision. memo: what is not copied, as deepcopy has it."""
    return copy.deepcopy(module, memo).cpu().double().eval()


def _dropout(module: nn.Module) -> float:
    """The rate at which a module drops what passes it in training, 0 for most."""
    if isinstance(module, DropPath):
        return module.drop_prob or 0.0
    return module.p if isinstance(module, nn.modules.dropout._DropoutNd) else getattr(module, "prob", 0.0)


def mean_and_std(vit: ViT, kind: str = "backbone") -> list[list[float]]:
    """[mean, std], each of three channels, rounded as they are written down; see `normalisation`."""
    return [[round(value, 6) for value in channels.flatten().tolist()] for channels in normalisation(vit, kind)]


def describe(vit: ViT) -> dict[str, Any]:
    """What identifies a backbone: name, weights, probe, and mean, std and img_size (height, width) of its inputs."""
    if id(vit) in _descriptions:
        return dict(_descriptions[id(vit)])
    mean, std = mean_and_std(vit)
    name = getattr(vit, "peftlab_name", type(vit).__name__)
    same = {"name": name, "weights": fingerprint(vit), "probe": probe(vit), "mean": mean, "std": std}
    return same | {"img_size": list(input_size(vit))}


@contextmanager
def described_once(vit: ViT) -> Iterator[None]:
    """Within, `describe` gives what it gave at first: for whoever makes many specs and changes no weight."""
    nested = id(vit) in _descriptions
    _descriptions[id(vit)] = describe(vit)
    try:
        yield
    finally:
        if not nested:
            del _descriptions[id(vit)]


def as_vit(model: Any) -> ViT:
    """A timm Eva or SwinTransformer written as a VisionTransformer; any other model as it is.

    Raises PeftlabError unless that is plain.
    """
    for family, written in FAMILIES.items():
        model = written(model) if isinstance(model, family) else model
    check_plain(model)
    return model


def _nearest(model: Any) -> str:
    """The name, nearest to this timm model's own, of one that is loaded; nothing for what has no such name."""
    name: Any = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    known = timm.list_models(["vit_*_patch*", "eva02_*", "swin_*"], exclude_filters="*relpos*") if name else []
    return f", such as {difflib.get_close_matches(name, known, n=1, cutoff=0)[0]}" if known else ""


def check_plain(vit: Any) -> None:
    """Raise PeftlabError unless this is a VisionTransformer whose forward pass is timm's own and untouched."""
    if not isinstance(vit, VisionTransformer):
        kind = type(vit).__module__.split(".")[0] + "." + type(vit).__name__
        raise PeftlabError(
            f"this is a {kind}, but peftlab needs a timm VisionTransformer, Eva or SwinTransformer"
            f"{_nearest(vit)}; see peftlab.load_backbone"
        )
    if hasattr(vit, "peftlab_method"):
        raise PeftlabError(
            f"this ViT already carries {vit.peftlab_method}; attach to model.backbone, or to the plain ViT of merge()"
        )
    for name in ("forward", "forward_features", "forward_head", "_pos_embed"):
        if getattr(getattr(vit, name), "__func__", None) is not getattr(VisionTransformer, name):
            raise PeftlabError(
                f"this {type(vit).__name__} has a {name} of its own (as models with two heads have); peftlab knows "
                "that of timm's plain VisionTransformer alone"
            )


@torch.no_grad()
def check_stages(vit: ViT) -> None:
    """Raise PeftlabError unless the stages one after another compute what the model computes."""
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, *input_size(vit), generator=numbers).to(next(vit.parameters()))
    expected, found = vit(x), run_stages(vit, x)
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
        raise PeftlabError(
            f"the {len(stages(vit))} stages of this {type(vit).__name__} do not compute what the model computes "
            f"(they differ by {(found - expected).abs().max():.2g}); use a plain VisionTransformer"
        )
