"""Where every token of a ViT attends, in every block and head, and what its head would answer there."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...analysis.attention import all_attention_maps, prefix_index
from ...analysis.logit_lens import block_logits
from ...analysis.segmentation import drawn_coarsely
from ...backbones.preprocess import prepare_for
from ...backbones.types import Pixels, ViT
from ...common.errors import PeftlabError
from ...methods.core.model import PeftModel
from ...tasks.photographs import Photograph
from ..attention_overlay import attention as overlay
from .drawn import SHOWN, common_size, pictures
from .explorer import Choice, Explorer, Table
from .forward import class_names
from .packing import outline

ON_PAPER = 3  # blocks side by side


def attention(models: Mapping[str, PeftModel], photographs: Sequence[Photograph]) -> Explorer:
    """Attention over the patches of photographs, by block, head and query, with the logit lens below -> Explorer.

    models: {name: model}, the one to compare with first. Raises PeftlabError where they read images of different
    sizes, and where a method puts tokens into the sequence that have no name here.
    """
    size = common_size(models)
    pixels = torch.cat([photo.pixels(size) for photo in photographs])
    masks = torch.cat([photo.mask(SHOWN) for photo in photographs])
    names = list(dict.fromkeys(name for model in models.values() for name in query_names(model.vit)))
    maps = torch.stack([named_maps(model.vit, pixels, names) for model in models.values()], dim=1)
    probability, answer = zip(*(lens(model, pixels) for model in models.values()), strict=True)
    blocks, heads = maps.shape[2:4]
    first, *others = models
    return Explorer(
        title="Where tokens attend",
        choices=[
            Choice("photograph", [photo.name for photo in photographs]),
            Choice(
                "model", list(models), derived={f"{name} less {first}": (i, 0) for i, name in enumerate(others, 1)}
            ),
            Choice("block", range(1, blocks + 1), "slider", first=blocks),
            Choice(
                "head", range(1, heads + 1), "list", {"mean of heads": "mean", "all heads": "each"}, "mean of heads"
            ),
            Choice("query", [*names, *range(maps.shape[4] - len(names))], cells_from=len(names)),
        ],
        pictures=pictures(photographs),
        pictured=["photograph"],
        maps=maps,
        mapped=["photograph", "model", "block", "head", "query"],
        unit="of the query's attention",
        whole="goes to patches",
        outlines=[outline(mask) for mask in masks],
        covered=drawn_coarsely(masks, maps.shape[-2:]),
        inside="of that, within the outline",
        facts=[Table("the model's answer", ["photograph", "model"], np.array(answer).T, "text")],
        chart=Table(
            "Probability of this model's final answer, its head read after each block",
            ["photograph", "model", "block"],
            torch.stack(probability, dim=1),
            "percent",
        ),
        missing="This model has no such token.",
        strip=_strip(models, pixels[:1]),
    )


def query_names(vit: ViT) -> dict[str, int]:
    """{name: position} of the tokens before the patches. Raises PeftlabError where a method added others than a gist.

    >>> from peftlab.backbones.load import load_backbone
    >>> query_names(load_backbone("peftlab_vit_small", img_size=112))
    {'CLS': 0, 'register 1': 1, 'register 2': 2, 'register 3': 3, 'register 4': 4}
    """
    if hasattr(vit.blocks[0], "prompts"):
        raise PeftlabError("prompts of VPT have no names to choose them by; take a model of another method")
    gist = hasattr(vit.blocks[0], "gist")
    count = vit.num_prefix_tokens + gist
    found = {"CLS": prefix_index(vit, "cls", count)} | ({"gist": prefix_index(vit, "gist", count)} if gist else {})
    rest = [index for index in range(count) if index not in found.values()]
    return found | {f"register {i}": index for i, index in enumerate(rest, start=1)}


def named_maps(
    vit: ViT, pixels: Pixels, names: Sequence[str]
) -> Float[Tensor, "batch blocks heads queries rows columns"]:
    """Attention over patches of the tokens named, then of all patches; NaN for a name that this ViT does not have."""
    positions, patches = query_names(vit), vit.patch_embed.num_patches
    maps = torch.stack(all_attention_maps(vit, prepare_for(vit, pixels)), dim=1)[..., -patches:].cpu()
    none = torch.full_like(maps[..., 0, :], torch.nan)
    prefix = [maps[..., positions[name], :] if name in positions else none for name in names]
    rows = torch.cat([torch.stack(prefix, dim=-2), maps[..., -patches:, :]], dim=-2)
    return rows.unflatten(-1, vit.patch_embed.grid_size)


def lens(model: PeftModel, pixels: Pixels) -> tuple[Float[Tensor, "batch blocks"], list[str]]:
    """Probability of a model's final answer when its head is read after each block; the names of these answers."""
    probabilities = block_logits(model, prepare_for(model.vit, pixels)).softmax(-1).cpu()
    final = probabilities[-1].argmax(-1)
    names = class_names(model)
    return probabilities[:, range(len(final)), final].T, [names[i] for i in final.tolist()]


def _strip(models: Mapping[str, PeftModel], pixels: Pixels) -> Figure:
    """CLS of each model in a few blocks, for paper."""
    blocks = np.linspace(0, len(next(iter(models.values())).vit.blocks) - 1, ON_PAPER).round().astype(int).tolist()
    figure, axes = plt.subplots(len(models), len(blocks), figsize=(6.4, 2.2 * len(models)), layout="constrained")
    for row, (name, model) in zip(np.atleast_2d(axes), models.items(), strict=True):
        for ax, block in zip(row, blocks, strict=True):
            overlay(model, pixels, layer=block, ax=ax).set_title(f"{name}, block {block + 1}")
    return figure
