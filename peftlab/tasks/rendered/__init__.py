"""Look-alikes of VTAB tasks, drawn from a seed in seconds, in the VTAB-1k folder layout. They are not VTAB.

    <cache>/rendered/<name>-v<version>/{train800,val200,train800val200,test}.txt, classes.txt
    <cache>/rendered/<name>-v<version>/images/{train800,val200,test}/000000.png
    <cache>/rendered/<name>-v<version>/factors.json     what each image shows: {"images/test/000000.png": {...}, ...}

An image depends on its task and its index alone, whatever else is drawn. Whoever changes a single pixel, label or
factor of a task raises its `version`: a new folder is drawn, and results on the old images keep their name. Labels are
the same everywhere; other releases of numpy, Pillow or matplotlib's fonts may change a grey level.
"""

import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from ...checkpoints import write_json
from ...errors import DataError, PeftlabError, near
from ...paths import cache_folder
from ...progress import progress
from .. import Task
from . import clevr, digits, dsprites, smallnorb, textures

SIZES = {"train800": 800, "val200": 200, "test": 500}  # images of each split, drawn in this order
STALE = 3600  # seconds after which an unfinished folder is taken for abandoned; drawing takes far less


@dataclass(frozen=True)
class LookAlike:
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


RENDERED = {
    look.name: look
    for look in (
        LookAlike("digits", "natural", digits.CLASSES, digits.draw, "the central digit, in the manner of SVHN"),
        LookAlike("textures", "specialized", textures.CLASSES, textures.draw, "land from above, as in EuroSAT"),
        LookAlike(
            "clevr_count",
            "structured",
            clevr.COUNTS,
            clevr.draw_count,
            "number of solids in a scene",
            clevr.masks_count,
        ),
        LookAlike(
            "clevr_dist",
            "structured",
            clevr.DISTANCES,
            clevr.draw_dist,
            "depth of the nearest solid",
            clevr.masks_dist,
        ),
        LookAlike(
            "dsprites_loc",
            "structured",
            dsprites.LOCATIONS,
            dsprites.draw_loc,
            "x position in 16 bins",
            dsprites.masks_loc,
        ),
        LookAlike(
            "dsprites_ori",
            "structured",
            dsprites.ORIENTATIONS,
            dsprites.draw_ori,
            "orientation in 16 bins",
            dsprites.masks_ori,
        ),
        LookAlike(
            "smallnorb_azi",
            "structured",
            smallnorb.AZIMUTHS,
            smallnorb.draw_azi,
            "azimuth of the toy",
            smallnorb.masks_azi,
        ),
        LookAlike(
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
    """The random numbers of one image of a look-alike."""
    return np.random.default_rng((0, zlib.crc32(name.encode()), index))


def draw(name, index):
    """Image `index` of a task -> (image uint8, label, factors). Indices run over train800, val200, test in turn."""
    return RENDERED[name].draw(index, image_rng(name, index))


def object_masks(name, split, rows):
    """Where some images of a split show each of their objects -> a list of bool [objects, 64, 64].

    Nothing is read: the scenes are rebuilt from their seeds. Raises PeftlabError for a look-alike without objects.
    """
    if name not in RENDERED or RENDERED[name].masks is None:
        having = ", ".join(look.name for look in RENDERED.values() if look.masks)
        raise PeftlabError(f"no object masks for {name!r}; the renderer has them for {having}")
    first = {"train800": 0, "train800val200": 0, "val200": SIZES["train800"]}
    first["test"] = SIZES["train800"] + SIZES["val200"]
    with threadpool_limits(1):
        indices = [first[split] + row for row in rows]
        return [RENDERED[name].masks(index, image_rng(name, index)) for index in indices]


def rendered_task(name, folder=None):
    """The look-alike as a Task. Drawn into `folder` (default: the cache) at the first call, read afterwards."""
    if name not in RENDERED:
        raise PeftlabError(f"no rendered look-alike {name!r}{near(name, RENDERED)}")
    look = RENDERED[name]
    folder = Path(folder) if folder is not None else cache_folder() / "rendered" / f"{name}-v{look.version}"
    drawn_once(folder, lambda part: _write(look, part))
    return Task(name, look.group, look.about, look.classes, folder, rendered=True)


def drawn_once(folder, write):
    """Make a folder by write(empty folder) unless it is there. Raises DataError where nothing can be written."""
    if not folder.is_dir():
        try:
            _draw_aside(folder, write)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot draw the task here ({error}). Free some space (10 MB), or set PEFTLAB_CACHE to a "
                "folder that you may write to"
            ) from error


def _draw_aside(folder, write):
    """Draw into a temporary sibling, then rename: whatever happens, `folder` is absent or complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.part-*"):  # of a process that was killed
        if time.time() - left.stat().st_mtime > STALE:
            shutil.rmtree(left, ignore_errors=True)
    part = folder.parent / f".{folder.name}.part-{secrets.token_hex(8)}"
    try:
        part.mkdir()
        with threadpool_limits(1):  # the matrices are small: BLAS threads would only wait for one another
            write(part)
        try:
            os.rename(part, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and its images are the same
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(look, folder):
    """Write all images, lists, class names and factors of a task into an empty folder."""
    names = [f"images/{split}/{i:06d}.png" for split, size in SIZES.items() for i in range(size)]
    for split in SIZES:
        (folder / "images" / split).mkdir(parents=True)
    lines, factors = [], {}
    for index, name in enumerate(progress(names, desc=f"drawing {look.name} (once)", unit="image")):
        image, label, factors[name] = draw(look.name, index)
        Image.fromarray(image).save(folder / name)
        lines.append(f"{name} {label}\n")
    train, val = SIZES["train800"], SIZES["val200"]
    lists = {
        "train800": lines[:train],
        "val200": lines[train : train + val],
        "train800val200": lines[: train + val],
        "test": lines[train + val :],
    }
    for split, members in lists.items():
        (folder / f"{split}.txt").write_text("".join(members))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in look.classes))
    write_json(folder / "factors.json", factors)
