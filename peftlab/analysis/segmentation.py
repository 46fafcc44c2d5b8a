"""How well maps of images fit objects that are known: intersection over union, and whether training raises it."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..results.statistics import mean_interval
from .clusters import highlight


def iou(
    regions: Bool[Tensor, "regions height width"], objects: Bool[Tensor, "objects height width"]
) -> Float[Tensor, "objects regions"]:
    """Intersection over union of every region with every object.

    >>> left, top = torch.tensor([[[True, False], [True, False]]]), torch.tensor([[[True, True], [False, False]]])
    >>> iou(left, top)  # 1 pixel in common, 3 in all
    tensor([[0.3333]])
    """
    a, b = objects.flatten(1).float(), regions.flatten(1).float()
    both = a @ b.T
    return both / (a.sum(1, keepdim=True) + b.sum(1) - both).clamp_min(1)


def drawn_coarsely(
    objects: Bool[Tensor, "objects height width"], grid: Sequence[int]
) -> Float[Tensor, "objects rows columns"]:
    """Objects as maps of their coverage on a grid of patches: what no map has to guess."""
    return F.adaptive_avg_pool2d(objects[:, None].float(), (grid[0], grid[1]))[:, 0]


def object_ious(
    maps: Iterable[Float[Tensor, "_clusters rows columns"]], objects: Sequence[Bool[Tensor, "_objects height width"]]
) -> list[Float[Tensor, "_objects _clusters"]]:
    """IoU of every map's bright region with each object of its image: a table an image."""
    size = objects[0].shape[1:]
    return [iou(highlight(m[None], size)[0] > 0, o) for m, o in zip(maps, objects, strict=True)]


def image_ious(
    maps: Float[Tensor, "batch clusters rows columns"], objects: Sequence[Bool[Tensor, "_objects height width"]]
) -> Float[Tensor, "batch clusters"]:
    """`object_ious`, mean over the objects."""
    return torch.stack([table.mean(0) for table in object_ious(maps, objects)])


def best_map(
    maps: Float[Tensor, "batch clusters rows columns"], objects: Sequence[Bool[Tensor, "_objects height width"]]
) -> tuple[int, float]:
    """One map for all images: number of the one that is best on the first, third, ... and its IoU on the others."""
    ious = image_ious(maps, objects)
    chosen = int(ious[::2].mean(0).argmax())
    return chosen, ious[1::2, chosen].mean().item()


def iou_table(
    sources: Mapping[str, Float[Tensor, "batch _clusters rows columns"]],
    objects: Sequence[Bool[Tensor, "_objects height width"]],
) -> pd.DataFrame:
    """How well maps find objects; a row a source.

    sources: {label: maps}; objects: those of each image. best: of all maps the one with the highest IoU, chosen anew
    for each object *by looking at the answer*; low, high: Student's 95 % interval of its mean over images.
    one_for_all: a single map, chosen on every second image, measured on the others. The last row says how far the
    recipe itself gets: the objects' own coverage of the patches, handed over as their maps.
    """
    rows = []
    for label, maps in sources.items():
        best, low, high = mean_interval([table.amax(1).mean().item() for table in object_ious(maps, objects)])
        row = {"maps": maps.shape[1], "best": best, "low": low, "high": high}
        row["one_for_all"] = best_map(maps, objects)[1]
        rows.append({"source": label} | row)
    coarse = [drawn_coarsely(o, maps.shape[-2:]) for o in objects]
    best, low, high = mean_interval([table.diagonal().mean().item() for table in object_ious(coarse, objects)])
    rows.append({"source": "the objects themselves", "best": best, "low": low, "high": high})
    return pd.DataFrame(rows).set_index("source")


def training_effect(table: pd.DataFrame) -> pd.DataFrame:
    """What training adds to the IoU, from rows of results/segmentation.csv: a row a method and block.

    A trained model less the one it started from (the same seed); low, high: Student's 95 % interval over seeds.
    """
    centred = table[(table["recipe"] == "centred") & table["source"].isin(["gift", "gift_linear"])]
    states = centred.pivot(index=["source", "block", "seed"], columns="state", values="best").dropna()
    gains = (states["trained"] - states["untrained"]).groupby(["source", "block"])
    rows = {key: (*mean_interval(gain), len(gain)) for key, gain in gains}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "seeds"])
    found.index = pd.MultiIndex.from_tuples(found.index, names=["source", "block"])
    return found.reset_index()
