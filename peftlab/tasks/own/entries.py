"""A reader's own images, wherever they stand: checked, copied into the cache, split, and then a task.

The copies are in the VTAB-1k layout, once for each state of the images, and the task reads them there: what happens
to the images afterwards changes no run.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import joblib
import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from ...common.errors import DataError, check_at_least
from ...common.paths import cache_folder
from ...common.progress import progress
from ..files import regular
from ..once import made_once
from ..task import Task, decode_image
from .split import copies, split, thumbnail

SIDE = 512  # pixels; of a larger image's shorter side in the copy, finer than any backbone here reads
VERSION = 2  # of copies and split; whoever changes what is made of the same images raises it
GROUPS = "copies.npy"  # in the folder of copies: a number for each image, the same for near-copies
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True)
class Stored:
    """An image that stands in a table and not in a file of its own: what messages call it, and its encoded bytes."""

    name: str
    read: Callable[[], bytes]

    def __str__(self) -> str:
        return self.name


Tell: TypeAlias = Callable[[str], None]
"""Takes a sentence about what is wrong: `refuse`, or the `append` of a list of problems."""


def refuse(problem: str) -> None:
    """Raise the problem as a DataError."""
    raise DataError(problem)


class Entry(NamedTuple):
    """An image: where it is, the name of its class, and "train", "val" or "test" where it is split already."""

    path: Path | Stored
    label: str
    split: str | None = None


def make_task(place: str | Path, entries: Sequence[Entry], budget: int | None, seed: int) -> Task:
    """The task of some images. place: where they are; the last part of it is the task's name.

    Not split yet: a fifth of the images is for the test, a fifth of the rest to choose on (val200), all stratified by
    class. Split into train and val alone, as Imagenette: val is the test, and a fifth of train is to choose on.
    budget: keep at most so many images to train and choose on, as VTAB-1k keeps 1,000. seed: of the split.

    Raises DataError, naming file and fix, where there are no classes, too few images of one, or images that nobody
    can read.
    """
    check_at_least("budget", budget, 1)
    name = Path(place).stem
    classes = tuple(sorted({entry.label for entry in entries}))
    if len(classes) < 2:
        found = f"1 class, {classes[0]!r}" if classes else "0 classes"
        raise DataError(f"{place}: {found}; two are needed. Put the images of each into its own folder")
    entries = with_splits(entries)
    states = [(str(entry.path), *entry[1:], *_state(entry.path)) for entry in entries]
    state = hashlib.sha256(json.dumps([states, budget, seed, VERSION]).encode()).hexdigest()[:12]
    folder = cache_folder() / "folders" / state / name
    made_once(folder, lambda part: _write(part, place, entries, classes, budget, seed))
    return Task(name, "yours", f"{len(classes)} classes", classes, folder, synthetic=False)


def with_splits(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The same images; as not split yet where all are in train, so that none was kept for the test.

    >>> [entry.split for entry in with_splits([Entry(Path("a.png"), "cat", "train")])]
    [None]
    """
    if {entry.split for entry in entries} == {"train"}:
        return [entry._replace(split=None) for entry in entries]
    return entries


def _state(path: Path | Stored) -> tuple[int, int] | tuple[str]:
    """What changes when an image does."""
    if isinstance(path, Stored):
        return (hashlib.sha256(path.read()).hexdigest(),)
    found = regular(path)
    return found.st_size, found.st_mtime_ns


def open_entry(path: Path | Stored) -> Image.Image:
    """An image as it is stored, upright. Raises DataError, naming it and the fix, as `open_image` does."""
    fix = "Replace or remove it"
    if isinstance(path, Stored):
        return decode_image(io.BytesIO(path.read()), path, fix)
    regular(path)
    return decode_image(path, path, fix)


def plain(image: Image.Image, path: Path | Stored) -> Image.Image:
    """An image in RGB or grey, transparent parts on white. Raises DataError for more than 8 bits a channel."""
    if image.mode in ("RGB", "L"):
        return image
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path}: image mode {image.mode}, more than 8 bits. Choose its range and save it as 8 bit")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def near_copies(task: Task) -> Int64[np.ndarray, " images"] | None:
    """A number for each image of the task's folder, in the order of its names; None for any but a reader's own task.

    Near-copies have the same number. It was found when the images were copied, so that nobody decodes them again.
    """
    file = task.folder / GROUPS
    return np.load(file) if file.is_file() else None


def _copy(entry: Entry, stem: Path) -> UInt8[np.ndarray, "16 16 3"] | DataError:
    """Write the copy of an image, stem with its suffix, and give its thumbnail, or what is wrong with it.

    A file stays byte for byte as it is, unless it is large or neither RGB nor grey: then a JPEG of high quality.
    """
    try:
        original = open_entry(entry.path)
        image = plain(original, entry.path)
    except DataError as error:
        return error
    small = image is original and min(image.size) <= SIDE
    if small and isinstance(entry.path, Path):
        shutil.copyfile(entry.path, stem.with_suffix(entry.path.suffix.lower()))
    elif small and isinstance(entry.path, Stored):
        stem.with_suffix(f".{(original.format or 'png').lower()}").write_bytes(entry.path.read())
    else:
        image.thumbnail((image.width, SIDE) if image.width > image.height else (SIDE, image.height))
        image.save(stem.with_suffix(".jpg"), quality=95, subsampling=0)
    return thumbnail(image)


def _write(
    folder: Path, place: str | Path, entries: Sequence[Entry], classes: Sequence[str], budget: int | None, seed: int
) -> None:
    """Copies of all images, their lists, the names of the classes and the near-copies, in the VTAB-1k layout."""
    (folder / "images").mkdir()
    bar = progress(entries, desc="reading your images (once)", unit="image")
    work = (joblib.delayed(_copy)(entry, folder / "images" / f"{i:06d}") for i, entry in enumerate(bar))
    made = joblib.Parallel(n_jobs=-1, prefer="threads")(work)
    if wrong := [each for each in made if isinstance(each, DataError)]:
        more = f". {len(wrong) - 1} more cannot be used; all are named by: peftlab data audit {place}"
        raise DataError(f"{wrong[0]}{more if len(wrong) > 1 else ''}")
    groups = copies(np.array(made))
    names = sorted(f"images/{path.name}" for path in (folder / "images").iterdir())
    labels = np.array([classes.index(entry.label) for entry in entries])
    given = None if entries[0].split is None else np.array([entry.split for entry in entries])
    lists = split(labels, groups, given, classes, budget, seed)
    for name, rows in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{names[row]} {labels[row]}\n" for row in rows))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    np.save(folder / GROUPS, groups)
