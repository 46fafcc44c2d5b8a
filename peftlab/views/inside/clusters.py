"""GIFT's clusters as maps over images, block by block, beside the same maps before training and two controls."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor

from ...analysis.clusters import THRESHOLD, assignment, centre, kmeans_maps, maps_of, random_maps, stretch
from ...analysis.segmentation import image_ious
from ...backbones.preprocess import prepare_for
from ...backbones.stages import outputs
from ...backbones.types import Pixels, ViT
from ...methods.core.model import PeftModel, attach
from ..gift import outlined
from .drawn import SHOWN, Pictured, common_size, pictures
from .explorer import Choice, Explorer, Table
from .packing import outline

BEST, RANDOM = 6, 3  # clusters: the best by IoU, and as their control others at random
NAMES = ["best", "2nd", "3rd", *(f"{i}th" for i in range(4, BEST + 1)), *(f"random {i + 1}" for i in range(RANDOM))]
CONTROLS = {
    "k-means 3": lambda f: torch.cat([kmeans_maps(each[None], 3) for each in f]),  # of each image alone
    "96 random directions": lambda f: random_maps(f, 96),
}


def gift(models: Mapping[str, PeftModel], images: Sequence[Pictured]) -> Explorer:
    """Clusters' maps of images by source, block and cluster, with their IoU with the objects -> Explorer.

    models: {form: model tuned with gift or gift_linear}. Of each model the maps before training stand beside the
    trained ones. The best clusters are chosen anew for each image, by looking at the answer, in every source alike.
    Raises PeftlabError where models read images of different sizes, and where nothing is generated.
    """
    size = common_size(models)
    pixels = torch.cat([image.pixels(size) for image in images])
    objects = [image.mask(size) for image in images]
    found = sources(models, pixels)
    every = [[image_ious(maps, objects) for maps in each] for each in found.values()]
    chosen = [[choose(ious) for ious in each] for each in every]
    maps, ious = _chosen(list(found.values()), chosen), _chosen(every, chosen)
    numbers = _chosen([[(1.0 + torch.arange(m.shape[1])).expand_as(m) for m in each] for each in every], chosen)
    axes = ["image", "maps of", "block", "cluster"]
    return Explorer(
        title="GIFT's clusters over images",
        choices=[
            Choice("image", [image.name for image in images]),
            Choice("maps of", list(found), "list"),
            Choice("block", range(1, maps.shape[2] + 1), "slider", first=maps.shape[2]),
            Choice("cluster", NAMES),
        ],
        pictures=pictures(images),
        pictured=["image"],
        maps=bright(maps),
        mapped=axes,
        unit="of the map's range",
        outlines=[outline(image.mask(SHOWN)[0]) for image in images],
        facts=[
            Table("IoU of the bright region with the outline", axes, ious, "percent"),
            Table("the whole image as one region", ["image"], torch.cat(objects).float().mean((1, 2)), "percent"),
            Table("number of the map", axes, numbers),
        ],
        chart=Table("IoU of the maps of each block", ["image", "maps of", "cluster", "block"], ious.mT, "percent"),
        missing="k-means has three clusters only.",
        strip=_strip({n: maps[:2, i, -1, 0] for i, n in enumerate(found)}, ious[:, :, -1, 0].mean(0), pixels[:2]),
    )


@torch.inference_mode()
def sources(models: Mapping[str, PeftModel], pixels: Pixels) -> dict[str, list[Float[Tensor, "batch _ rows columns"]]]:
    """{source: for each block the maps of images}: each model trained and before training, then the controls."""
    found, frozen = {}, features(next(iter(models.values())).backbone, pixels)
    for name, model in models.items():
        options = model.method.options()
        before = attach(model.backbone, model.method.name, model.num_classes, **options)
        own, base = features(model.vit, pixels), features(model.backbone, pixels)
        found[f"{name} trained"] = [maps_of(f, assignment(model, i)) for i, f in enumerate(own)]
        found[f"{name} before training"] = [maps_of(f, assignment(before, i)) for i, f in enumerate(base)]
    return found | {name: [make(f) for f in frozen] for name, make in CONTROLS.items()}


def features(vit: ViT, pixels: Pixels) -> list[Float[Tensor, "batch rows columns width"]]:
    """What the attention of each block gives the patches, less its mean over channels."""
    every = outputs(vit, [block.attn.proj for block in vit.blocks], prepare_for(vit, pixels))
    patches, grid = vit.patch_embed.num_patches, vit.patch_embed.grid_size
    return [centre(tokens[:, -patches:].unflatten(1, grid).cpu()) for tokens in every]


def choose(ious: Float[Tensor, "batch clusters"]) -> Int64[Tensor, "batch chosen"]:
    """Of each image the clusters with the highest IoU, then others at random; at most as many as there are."""
    drawn = torch.randperm(ious.shape[1], generator=torch.Generator().manual_seed(0)).tolist()
    best = ious.argsort(1, descending=True)[:, :BEST].tolist()
    return torch.tensor([row + [c for c in drawn if c not in row][:RANDOM] for row in best])


def bright(maps: Float[Tensor, "*maps rows columns"]) -> Float[Tensor, "*maps rows columns"]:
    """Maps stretched to [0, 1], zero below the threshold, as the recipe shows them.

    >>> bright(torch.tensor([[0.0, 1.0], [3.0, 4.0]]))
    tensor([[0.0000, 0.0000],
            [0.7500, 1.0000]])
    """
    whole = stretch(maps)
    return torch.where(whole < THRESHOLD, 0.0, whole)  # where there is no map, NaN stays


def _chosen(
    found: Sequence[Sequence[Float[Tensor, "batch _clusters ..."]]],
    chosen: Sequence[Sequence[Int64[Tensor, "batch _"]]],
) -> Float[Tensor, "batch sources blocks clusters ..."]:
    """Of every source and block the chosen clusters; NaN where a source has fewer."""
    rows = []
    for each, numbers in zip(found, chosen, strict=True):
        values = torch.stack(
            [value[torch.arange(len(c))[:, None], c] for value, c in zip(each, numbers, strict=True)], 1
        )
        missing = torch.full((*values.shape[:2], len(NAMES) - values.shape[2], *values.shape[3:]), torch.nan)
        rows.append(torch.cat([values, missing], 2))
    return torch.stack(rows, 1)


def _strip(maps: Mapping[str, Tensor], ious: Float[Tensor, " sources"], pixels: Pixels) -> Figure:
    """The best map of the last block, trained and before training and of a control, for paper."""
    shown = [*list(maps)[:2], list(CONTROLS)[0]]
    titles = {name: f"{name}:\nIoU {iou:.2f}" for name, iou in zip(maps, ious, strict=True)}
    figure = outlined({titles[name]: maps[name] for name in shown}, pixels)
    figure.set_size_inches(6.4, 2.1 * len(pixels) + 0.5)
    return figure
