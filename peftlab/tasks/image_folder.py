"""A reader's own images as a task: a folder with a folder for each class, or a CSV of paths and labels.

    photos/cat/*.jpg, photos/dog/*.jpg                  split here, copies of one picture never on both sides
    photos/train/cat/*.jpg, photos/val/..., photos/test/...     split already (torchvision's ImageFolder layout)
    photos.csv                                          columns path, label, perhaps split (train, val or test)

The images are copied into the cache in the VTAB-1k layout, once for each state of the folder, and read from there:
what happens to the folder afterwards changes no run. Nothing is written into the folder itself.
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..common.errors import DataError
from ..common.paths import cache_folder
from ..common.progress import progress
from .files import read_text, regular
from .once import made_once
from .split import copies, split, thumbnail
from .task import Task, open_image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"}
SIDE = 512  # pixels; of a larger image's shorter side in the copy, finer than any backbone here reads
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class Entry(NamedTuple):
    """An image: its file, the name of its class, and "train", "val" or "test" where the reader has split already."""

    path: Path
    label: str
    split: str | None = None


def image_folder(place: str | Path, budget: int | None = None, seed: int = 0) -> Task:
    """The task of a folder of images or of a CSV file.

    Not split yet: a fifth of the images is for the test, a fifth of the rest to choose on (val200), all stratified by
    class. Split into train and val alone, as Imagenette: val is the test, and a fifth of train is to choose on.
    budget: keep at most so many images to train and choose on, as VTAB-1k keeps 1,000. seed: of the split.

    Raises DataError, naming file and fix, where there are no classes, no images, too few of a class, or unreadable
    ones.
    """
    place = Path(place).expanduser().resolve()
    entries = _read_csv(place) if place.is_file() else _read_folder(place)
    classes = tuple(sorted({entry.label for entry in entries}))
    if len(classes) < 2:
        raise DataError(f"{place}: {len(classes)} class; two are needed. Put the images of each into its own folder")
    states = [(str(entry.path), *entry[1:], (s := regular(entry.path)).st_size, s.st_mtime_ns) for entry in entries]
    state = hashlib.sha256(json.dumps([states, budget, seed]).encode()).hexdigest()[:12]
    folder = cache_folder() / "folders" / state / place.stem
    made_once(folder, lambda part: _write(part, entries, classes, budget, seed))
    return Task(place.stem, "yours", f"{len(classes)} classes", classes, folder, synthetic=False)


def _read_folder(root: Path) -> list[Entry]:
    """Images below class folders, or below train, val and test."""
    below = _folders(root)
    names = {name: SPLIT_NAMES.get(name.lower()) for name in below}
    if "train" not in names.values():
        return _classes(root, None)
    if odd := [name for name, kind in names.items() if kind is None]:
        raise DataError(f"{root}: {odd[0]} stands beside train. Name it val or test, or move it away")
    return [entry for name, kind in names.items() for entry in _classes(root / name, kind)]


def _classes(folder: Path, split: str | None) -> list[Entry]:
    names = _folders(folder)
    if not names:
        raise DataError(f"{folder}: no folders in it. Put the images of each class into a folder of its own")
    found = {name: sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES) for name in names}
    if empty := [name for name, paths in found.items() if not paths]:
        raise DataError(f"{folder / empty[0]}: no images in this class's folder. Put some there, or remove it")
    return [Entry(path, name, split) for name, paths in found.items() for path in paths]


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder or CSV file")
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _read_csv(file: Path) -> list[Entry]:
    """Rows of path (relative ones start at the file), label, and perhaps split."""
    rows = csv.DictReader(read_text(file).splitlines())
    if missing := {"path", "label"} - set(rows.fieldnames or ()):
        raise DataError(f"{file}: no column {' and no column '.join(sorted(missing))}. Its first line names them")
    entries = []
    for row in rows:
        where, kind = f"{file}, line {rows.line_num}", row.get("split") or None
        if not (row["path"] or "").strip() or not (row["label"] or "").strip():
            raise DataError(f"{where}: path or label is empty. Fill it in, or remove the line")
        if kind is not None and kind.lower() not in SPLIT_NAMES:
            raise DataError(f"{where}: split {kind!r} is none of train, val, test. Correct it")
        entries.append(Entry(file.parent / row["path"], row["label"].strip(), kind and SPLIT_NAMES[kind.lower()]))
    if len({entry.split is None for entry in entries}) > 1:
        raise DataError(f"{file}: some lines name a split and others do not. Name it in all of them, or in none")
    return entries


def plain(image: Image.Image, path: Path) -> Image.Image:
    """An image in RGB or grey, transparent parts on white. Raises DataError for more than 8 bits a channel."""
    if image.mode in ("RGB", "L"):
        return image
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path}: image mode {image.mode}, more than 8 bits. Choose its range and save it as 8 bit")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _copy(entry: Entry, stem: Path) -> UInt8[np.ndarray, "16 16 3"]:
    """Write the copy of an image, stem with its suffix, and give its thumbnail.

    A file stays byte for byte as it is, unless it is large or neither RGB nor grey: then a JPEG of high quality.
    """
    original = open_image(entry.path)
    image = plain(original, entry.path)
    if image is original and min(image.size) <= SIDE:
        shutil.copyfile(entry.path, stem.with_suffix(entry.path.suffix.lower()))
    else:
        image.thumbnail((image.width, SIDE) if image.width > image.height else (SIDE, image.height))
        image.save(stem.with_suffix(".jpg"), quality=95, subsampling=0)
    return thumbnail(image)


def _write(folder: Path, entries: Sequence[Entry], classes: Sequence[str], budget: int | None, seed: int) -> None:
    """Copies of all images, their lists and the names of the classes, in the VTAB-1k layout."""
    (folder / "images").mkdir()
    bar = progress(entries, desc="reading your images (once)", unit="image")
    work = (joblib.delayed(_copy)(entry, folder / "images" / f"{i:06d}") for i, entry in enumerate(bar))
    thumbnails = joblib.Parallel(n_jobs=-1, prefer="threads")(work)
    names = sorted(f"images/{path.name}" for path in (folder / "images").iterdir())
    labels = np.array([classes.index(entry.label) for entry in entries])
    given = None if entries[0].split is None else np.array([entry.split for entry in entries])
    lists = split(labels, copies(np.array(thumbnails)), given, classes, budget, seed)
    for name, rows in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{names[row]} {labels[row]}\n" for row in rows))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
