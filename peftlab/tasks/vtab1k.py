"""The 19 VTAB tasks and the reader of the de-facto VTAB-1k folder layout.

<root>/<task>/{train800,val200,train800val200,test}.txt     lines: images/<split>/000000.jpg <label>
<root>/<task>/images/<split>/000000.jpg
<root>/<task>/classes.txt                                   optional: one class name a line, in label order
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ..common.errors import DataError
from .files import inside, read_text, shown

SPLITS = ("train800", "val200", "train800val200", "test")
JUDGED_BY = {"train800": ("val200", "test"), "train800val200": ("test",)}  # training list: those it is measured on
TRAIN_SPLITS = tuple(JUDGED_BY)
LONGEST = 18  # digits of a label that surely fits into 64 bits


@dataclass(frozen=True)
class TaskSpec:
    """What is known about a task before any file is read. `test_size` is that of the public VTAB-1k export."""

    name: str
    group: str
    num_classes: int
    test_size: int
    about: str


# Source of groups, class counts and test sizes: public VTAB-1k readers and exports (see data/README.md).
VTAB = {
    row[0]: TaskSpec(*row)
    for row in (
        ("cifar", "natural", 100, 10_000, "CIFAR-100: the object in a 32 px photograph"),
        ("caltech101", "natural", 102, 6_085, "Caltech-101: the object shown, or background clutter"),
        ("dtd", "natural", 47, 1_880, "Describable Textures: the adjective that fits the texture"),
        ("oxford_flowers102", "natural", 102, 6_149, "Flowers-102: the species of the flower"),
        ("oxford_iiit_pet", "natural", 37, 3_669, "Oxford-IIIT Pet: the breed of cat or dog"),
        ("svhn", "natural", 10, 26_032, "Street View House Numbers: the central digit"),
        ("sun397", "natural", 397, 21_750, "SUN397: the kind of scene"),
        ("patch_camelyon", "specialized", 2, 32_768, "PatchCamelyon: tumour tissue in the centre of the patch or not"),
        ("eurosat", "specialized", 10, 5_400, "EuroSAT: land use in a satellite image"),
        ("resisc45", "specialized", 45, 6_300, "RESISC45: the scene in an aerial image"),
        ("diabetic_retinopathy", "specialized", 5, 42_670, "Diabetic Retinopathy: severity in a retina photograph"),
        ("clevr_count", "structured", 8, 15_000, "CLEVR: number of objects, label = objects - 3"),
        ("clevr_dist", "structured", 6, 15_000, "CLEVR: distance of the nearest object, cut at 8, 8.5, 9, 9.5, 10"),
        ("dmlab", "structured", 6, 22_735, "DMLab: distance and reward of the nearest object in a maze"),
        ("kitti", "structured", 4, 711, "KITTI: distance of the nearest vehicle, cut at 8 m and 20 m, or none"),
        ("dsprites_loc", "structured", 16, 73_728, "dSprites: x position of the sprite in 16 bins"),
        ("dsprites_ori", "structured", 16, 73_728, "dSprites: orientation of the sprite in 16 bins"),
        ("smallnorb_azi", "structured", 18, 12_150, "SmallNORB: azimuth of the camera in steps of 20 degrees"),
        ("smallnorb_ele", "structured", 9, 12_150, "SmallNORB: elevation of the camera in steps of 5 degrees"),
    )
}


def has_lists(folder: Path) -> bool:
    """Whether a folder has a list of VTAB-1k in it. A lone test.txt may be anything, and is none."""
    return any(os.path.isfile(folder / f"{split}.txt") for split in SPLITS if split != "test")


def find_tasks(folder: str | Path) -> list[Path]:
    """The task folders: `folder` itself or those in it, known by a list file or by the name of a VTAB task.

    Raises DataError for a folder that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return []
    if has_lists(folder):
        return [folder]
    try:
        below = sorted(p for p in folder.iterdir() if p.is_dir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Make it readable for you") from None
    return [p for p in below if p.name in VTAB or has_lists(p)]


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The non-empty lines of a text file -> [(line number, text)]. Raises DataError when the file is not UTF-8."""
    lines = enumerate(read_text(file).split("\n"), 1)  # splitlines would end a line at U+2028, which a name may hold
    return [(number, line.strip()) for number, line in lines if line.strip()]


def list_lines(folder: str | Path, split: str) -> list[tuple[int, str]]:
    """The non-empty lines of a split's list -> [(line number, text)].

    Raises DataError when the folder or the file is missing, or the list is empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder. Point PEFTLAB_DATA (or root=) at the folder that holds it, fetch the data "
            "with 'peftlab data fetch', or ask for the synthetic task with root='synthetic'"
        )
    file = folder / f"{split}.txt"
    if not os.path.lexists(file):
        there = ", ".join(sorted(p.stem for p in folder.glob("*.txt") if p.stem in SPLITS)) or "none"
        raise DataError(f"{file}: this split is missing (found: {there}). Fetch the task again: peftlab data fetch")
    lines = read_lines(file)
    if not lines:
        raise DataError(f"{file}: the list is empty. Fetch the task again: peftlab data fetch")
    return lines


def parse_line(folder: Path, split: str, number: int, line: str, num_classes: int | None) -> tuple[Path, int]:
    """A line of a list -> (Path of the image, label). num_classes None takes any label from 0 up.

    >>> path, label = parse_line(Path("vtab-1k/dtd"), "test", 1, "images/test/000000.jpg 3", num_classes=47)
    >>> path.as_posix(), label
    ('vtab-1k/dtd/images/test/000000.jpg', 3)

    Raises DataError naming file, line and fix: a malformed line, a label out of range, a path that leaves the folder.
    """
    where = f"{folder / split}.txt, line {number}"
    name, _, label = line.rpartition(" ")
    if not name or not re.fullmatch("-?[0-9]+", label):
        raise DataError(f"{where}: {shown(line)} is not '<path> <label>'. Fix or remove the line")
    short = len(label) <= LONGEST
    if not short or int(label) < 0 or (num_classes is not None and int(label) >= num_classes):
        allowed = "" if num_classes is None else f": {num_classes} classes, 0 to {num_classes - 1}"
        said = label if short else f"of {len(label.removeprefix('-'))} digits"
        raise DataError(f"{where}: label {said} is out of range{allowed}. Fix the label, or the list of classes")
    path = inside(folder, name)
    if path is None:
        raise DataError(f"{where}: {shown(name)} leaves the task's folder. Use a path inside {folder}")
    return path, int(label)


def read_split(
    folder: str | Path, split: str, num_classes: int | None
) -> tuple[list[Path], Int64[np.ndarray, " images"]]:
    """Read one list file -> (image Paths, labels). Images are not opened here.

    Raises DataError as `list_lines` and `parse_line` do, at the first problem; `peftlab data audit` names them all.
    """
    folder = Path(folder)
    entries = [parse_line(folder, split, number, line, num_classes) for number, line in list_lines(folder, split)]
    paths, labels = zip(*entries, strict=True)
    return list(paths), np.array(labels, dtype=np.int64)


def read_classes(folder: str | Path, spec: TaskSpec | None = None) -> tuple[str, ...]:
    """Class names in label order: those of classes.txt, which may list a subset of the task's classes, else numbers.

    Without a file and without a spec nothing is known: an empty tuple. Raises DataError when the file is empty, has a
    name twice, or has more names than the task has classes.
    """
    file = Path(folder) / "classes.txt"
    if not os.path.lexists(file):
        return tuple(f"class {i}" for i in range(spec.num_classes)) if spec else ()
    names = tuple(name for _, name in read_lines(file))
    if not names:
        raise DataError(f"{file}: no class names in it. Write one a line, or remove the file")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(f"{file}: {shown(twice)} stands there twice. Give each class a name of its own")
    if spec and len(names) > spec.num_classes:
        raise DataError(f"{file}: {len(names)} class names, but the task has {spec.num_classes}. Remove the surplus")
    return names
