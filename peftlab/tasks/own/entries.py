"""A reader's own images, wherever they stand: checked, copied into the cache, split, and then a task.

The task reads the copies, so that what happens to the images afterwards changes no run. There is one folder of them
for the same images under the same labels, and in it a folder of lists for each budget and seed.
"""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import joblib
import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from ...common.errors import DataError, check_at_least, located
from ...common.files import require_space
from ...common.paths import cache_folder
from ...common.progress import progress
from ..files import digests, regular, shown
from ..once import made_once
from ..task import Task, decode_image
from ..vtab1k import read_split
from .split import copies, split, thumbnail

SIDE = 512  # pixels; of a larger image's shorter side in the copy, finer than any backbone here reads
COPY = 200_000  # bytes that the copy of a photograph takes; measured: 80,000 to 220,000
VERSION = 2  # of copies and split; whoever changes what is made of the same images raises it
GROUPS = "copies.npy"  # in the folder of copies: a number for each image, the same for near-copies
# Control characters, line breaks among them, and what Python reads for bytes that are no UTF-8.
UNLISTED = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
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


@dataclass(frozen=True)
class OwnTask(Task):
    """A task whose lists are in a folder of its folder, named `lists`."""

    lists: str

    def _read(self, name: str) -> tuple[list[Path], Int64[np.ndarray, " images"]]:
        return read_split(self.folder, f"{self.lists}/{name}", self.num_classes)


def make_task(place: str | Path, entries: Sequence[Entry], budget: int | None, seed: int) -> Task:
    """The task of some images. place: where they are; the last part of it is the task's name.

    Not split yet: a fifth of the images is for the test, a fifth of the rest to choose on (val200), all stratified by
    class. Split into train and val alone, as Imagenette: val is the test, and a fifth of train is to choose on.
    budget: keep at most so many images to train and choose on, as VTAB-1k keeps 1,000. seed: of the split.

    Raises DataError, naming file and fix, where there are no classes, too few images of one, or images that nobody
    can read.
    """
    check_at_least("budget", budget, 1)
    name, classes = task_name(place), class_names(place, entries)
    entries = with_splits(entries)
    state = hashlib.sha256(json.dumps([_contents(place, entries), VERSION]).encode()).hexdigest()[:12]
    folder, lists = cache_folder() / "folders" / state / name, f"{budget or 'all'}-{seed}"

    def write_lists(part: Path, copied: Path) -> None:
        with located(place):
            _write_lists(part, copied, entries, classes, budget, seed)

    def write_all(part: Path) -> None:
        _write_copies(part, place, entries, classes)
        (part / lists).mkdir()
        write_lists(part / lists, part)  # at once, so that of images that cannot be split no copies stay

    made_once(folder, write_all)
    made_once(folder / lists, lambda part: write_lists(part, folder))
    return OwnTask(name, "yours", f"{len(classes)} classes", classes, folder, synthetic=False, lists=lists)


def task_name(place: str | Path) -> str:
    """The name of a folder, which may have a point in it; that of a file without its suffix.

    Raises DataError for one that no table can hold.

    >>> task_name("photographs/v1.1")
    'v1.1'
    """
    place = Path(place)
    name = place.stem if place.is_file() else place.name
    if UNLISTED.search(name):
        raise DataError(
            f"{shown(str(place))}: the name of the folder or file is not UTF-8, or has a control character. Rename it"
        )
    return name


def class_names(place: str | Path, entries: Sequence[Entry], tell: Tell = refuse) -> tuple[str, ...]:
    """The names of the classes in their order. Told are names that no list can hold, and fewer classes than two.

    >>> class_names("pets", [Entry(Path("a.png"), "dog"), Entry(Path("b.png"), "cat")])
    ('cat', 'dog')
    """
    classes = tuple(sorted({entry.label for entry in entries}))
    for label in classes:
        if not label.strip() or UNLISTED.search(label):
            tell(f"{place}: the class name {shown(label)} is blank, not UTF-8, or has a control character. Rename it")
    if len(classes) < 2:
        found = f"1 class, {shown(classes[0])}" if classes else "0 classes"
        tell(f"{place}: {found}; two are needed. Put the images of each into its own folder")
    return classes


def with_splits(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The same images; as not split yet where all are in train, so that none was kept for the test.

    >>> [entry.split for entry in with_splits([Entry(Path("a.png"), "cat", "train")])]
    [None]
    """
    if {entry.split for entry in entries} == {"train"}:
        return [entry._replace(split=None) for entry in entries]
    return entries


def _contents(place: str | Path, entries: Sequence[Entry]) -> list[tuple[str, str, str | None]]:
    """Of each image what names its copy: a hash of its content, its label, its split."""
    files = digests(Path(place), [entry.path for entry in entries if isinstance(entry.path, Path)])
    return [
        (files[path] if isinstance(path, Path) else hashlib.sha256(path.read()).hexdigest(), label, split)
        for path, label, split in entries
    ]


def _size(path: Path | Stored) -> int:
    return len(path.read()) if isinstance(path, Stored) else regular(path).st_size


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


def _write_copies(folder: Path, place: str | Path, entries: Sequence[Entry], classes: Sequence[str]) -> None:
    """Copies of all images, the names of the classes and the near-copies."""
    require_space(folder, sum(min(_size(entry.path), COPY) for entry in entries))
    (folder / "images").mkdir()
    bar = progress(entries, desc="reading your images (once)", unit="image")
    work = (joblib.delayed(_copy)(entry, folder / "images" / f"{i:06d}") for i, entry in enumerate(bar))
    made = joblib.Parallel(n_jobs=-1, prefer="threads")(work)
    if wrong := [each for each in made if isinstance(each, DataError)]:
        more = f". {len(wrong) - 1} more cannot be used" if len(wrong) > 1 else ""
        audit = f"; all are named by: peftlab data audit {place}" if more and isinstance(place, Path) else ""
        raise DataError(f"{wrong[0]}{more}{audit}")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    np.save(folder / GROUPS, copies(np.array(made)))


def _write_lists(
    folder: Path, copied: Path, entries: Sequence[Entry], classes: Sequence[str], budget: int | None, seed: int
) -> None:
    """The lists of VTAB-1k for images that are copied already."""
    names = sorted(f"images/{path.name}" for path in (copied / "images").iterdir())
    labels = np.array([classes.index(entry.label) for entry in entries])
    given = None if entries[0].split is None else np.array([entry.split for entry in entries])
    for name, rows in split(labels, np.load(copied / GROUPS), given, classes, budget, seed).items():
        (folder / f"{name}.txt").write_text("".join(f"{names[row]} {labels[row]}\n" for row in rows))
