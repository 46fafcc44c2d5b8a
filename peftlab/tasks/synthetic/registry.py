"""Synthetic tasks after VTAB's, drawn from a seed in seconds. They are not VTAB.

`drawing` writes each of them to disk once, in the VTAB-1k folder layout:

    <cache>/synthetic/<name>-v<version>/{train800,val200,train800val200,test}.txt, classes.txt
    <cache>/synthetic/<name>-v<version>/images/{train800,val200,test}/000000.png
    <cache>/synthetic/<name>-v<version>/factors.json     what each image shows: {"images/test/000000.png": {...}, ...}

An image depends on its task and its index alone, whatever else is drawn. Whoever changes a single pixel, label or
factor of a task raises its `version`: a new folder is drawn, and results on the old images keep their name. Labels are
the same everywhere; other releases of numpy, Pillow or matplotlib's fonts may change a grey level.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from ...common.errors import PeftlabError
from . import clevr, digits, dsprites, smallnorb, textures

SIZES = {"train800": 800, "val200": 200, "test": 500}  # images of each split, drawn in this order


@dataclass(frozen=True)
class SyntheticTask:
    """What a synthetic task is; images, [64, 64] or [64, 64, 3], are drawn one by one.

    draw(index, rng) -> (image, label, factors: what the image shows, as JSON can hold it). masks(index, rng): where
    that image shows each of its objects; None: it has none.
    """

    name: str
    group: str
    classes: tuple[str, ...]
    draw: Callable[[int, Generator], tuple[UInt8[np.ndarray, "..."], int, dict[str, Any]]]
    about: str
    masks: Callable[[int, Generator], Bool[np.ndarray, "objects 64 64"]] | None = None
    version: int = 1


SYNTHETIC = {
    spec.name: spec
    for spec in (
        SyntheticTask("digits", "natural", digits.CLASSES, digits.draw, "the central digit, in the manner of SVHN"),
        SyntheticTask("textures", "specialized", textures.CLASSES, textures.draw, "land from above, as in EuroSAT"),
        SyntheticTask("clevr_count", "structured", clevr.COUNTS, clevr.draw_count,
                      "number of solids in a scene", clevr.masks_count),
        SyntheticTask("clevr_dist", "structured", clevr.DISTANCES, clevr.draw_dist,
                      "depth of the nearest solid", clevr.masks_dist),
        SyntheticTask("dsprites_loc", "structured", dsprites.LOCATIONS, dsprites.draw_loc,
                      "x position in 16 bins", dsprites.masks_loc),
        SyntheticTask("dsprites_ori", "structured", dsprites.ORIENTATIONS, dsprites.draw_ori,
                      "orientation in 16 bins", dsprites.masks_ori),
        SyntheticTask("smallnorb_azi", "structured", smallnorb.AZIMUTHS, smallnorb.draw_azi,
                      "azimuth of the toy", smallnorb.masks_azi),
        SyntheticTask("smallnorb_ele", "structured", smallnorb.ELEVATIONS, smallnorb.draw_ele,
                      "elevation of the camera", smallnorb.masks_ele),
    )
}  # fmt: skip


def image_rng(name: str, index: int) -> Generator:
    """The random numbers of one image of a synthetic task."""
    return np.random.default_rng((0, zlib.crc32(name.encode()), index))


def draw(name: str, index: int) -> tuple[UInt8[np.ndarray, "..."], int, dict[str, Any]]:
    """Image `index` of a task -> (image, label, factors). Indices run over train800, val200, test in turn.

    >>> image, label, factors = draw("clevr_count", index=2)
    >>> image.shape, SYNTHETIC["clevr_count"].classes[label], len(factors["objects"])
    ((64, 64, 3), '5 objects', 5)
    """
    return SYNTHETIC[name].draw(index, image_rng(name, index))


def object_masks(name: str, split: str, rows: Iterable[int]) -> list[Bool[np.ndarray, "_ 64 64"]]:
    """Where some images of a split show each of their objects -> a list of masks [objects, 64, 64].

    Nothing is read: the scenes are rebuilt from their seeds. Raises PeftlabError for a synthetic task without objects.
    """
    masks = SYNTHETIC[name].masks if name in SYNTHETIC else None
    if masks is None:
        having = ", ".join(spec.name for spec in SYNTHETIC.values() if spec.masks)
        raise PeftlabError(f"no object masks for {name!r}; the renderer has them for {having}")
    first = {"train800": 0, "train800val200": 0, "val200": SIZES["train800"]}
    first["test"] = SIZES["train800"] + SIZES["val200"]
    with threadpool_limits(1):
        indices = [first[split] + row for row in rows]
        return [masks(index, image_rng(name, index)) for index in indices]
