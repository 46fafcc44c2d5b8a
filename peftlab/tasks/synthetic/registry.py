"""Synthetic tasks of VTAB tasks, drawn from a seed in seconds, in the VTAB-1k folder layout. They are not VTAB.

    <cache>/synthetic/<name>-v<version>/{train800,val200,train800val200,test}.txt, classes.txt
    <cache>/synthetic/<name>-v<version>/images/{train800,val200,test}/000000.png
    <cache>/synthetic/<name>-v<version>/factors.json     what each image shows: {"images/test/000000.png": {...}, ...}

An image depends on its task and its index alone, whatever else is drawn. Whoever changes a single pixel, label or
factor of a task raises its `version`: a new folder is drawn, and results on the old images keep their name. Labels are
the same everywhere; other releases of numpy, Pillow or matplotlib's fonts may change a grey level.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from ...common.errors import PeftlabError
from . import clevr, digits, dsprites, smallnorb, textures

SIZES = {"train800": 800, "val200": 200, "test": 500}  # images of each split, drawn in this order


@dataclass(frozen=True)
class SyntheticTask:
    """draw(index, rng) -> (image uint8 [h, w] or [h, w, 3], label, factors: a dict that JSON can hold).

    masks(index, rng) -> bool [objects, h, w]: where that image shows each of its objects; None: it has none.
    """

    name: str
    group: str
    classes: tuple
    draw: Callable
    about: str
    masks: Callable | None = None
    version: int = 1


SYNTHETIC = {
    look.name: look
    for look in (
        SyntheticTask("digits", "natural", digits.CLASSES, digits.draw, "the central digit, in the manner of SVHN"),
        SyntheticTask("textures", "specialized", textures.CLASSES, textures.draw, "land from above, as in EuroSAT"),
        SyntheticTask(
            "clevr_count",
            "structured",
            clevr.COUNTS,
            clevr.draw_count,
            "number of solids in a scene",
            clevr.masks_count,
        ),
        SyntheticTask(
            "clevr_dist",
            "structured",
            clevr.DISTANCES,
            clevr.draw_dist,
            "depth of the nearest solid",
            clevr.masks_dist,
        ),
        SyntheticTask(
            "dsprites_loc",
            "structured",
            dsprites.LOCATIONS,
            dsprites.draw_loc,
            "x position in 16 bins",
            dsprites.masks_loc,
        ),
        SyntheticTask(
            "dsprites_ori",
            "structured",
            dsprites.ORIENTATIONS,
            dsprites.draw_ori,
            "orientation in 16 bins",
            dsprites.masks_ori,
        ),
        SyntheticTask(
            "smallnorb_azi",
            "structured",
            smallnorb.AZIMUTHS,
            smallnorb.draw_azi,
            "azimuth of the toy",
            smallnorb.masks_azi,
        ),
        SyntheticTask(
            "smallnorb_ele",
            "structured",
            smallnorb.ELEVATIONS,
            smallnorb.draw_ele,
            "elevation of the camera",
            smallnorb.masks_ele,
        ),
    )
}


def image_rng(name, index):
    """The random numbers of one image of a synthetic task."""
    return np.random.default_rng((0, zlib.crc32(name.encode()), index))


def draw(name, index):
    """Image `index` of a task -> (image uint8, label, factors). Indices run over train800, val200, test in turn."""
    return SYNTHETIC[name].draw(index, image_rng(name, index))


def object_masks(name, split, rows):
    """Where some images of a split show each of their objects -> a list of bool [objects, 64, 64].

    Nothing is read: the scenes are rebuilt from their seeds. Raises PeftlabError for a synthetic task without objects.
    """
    if name not in SYNTHETIC or SYNTHETIC[name].masks is None:
        having = ", ".join(look.name for look in SYNTHETIC.values() if look.masks)
        raise PeftlabError(f"no object masks for {name!r}; the renderer has them for {having}")
    first = {"train800": 0, "train800val200": 0, "val200": SIZES["train800"]}
    first["test"] = SIZES["train800"] + SIZES["val200"]
    with threadpool_limits(1):
        indices = [first[split] + row for row in rows]
        return [SYNTHETIC[name].masks(index, image_rng(name, index)) for index in indices]
