"""The 19 VTAB tasks and the reader of the de-facto VTAB-1k folder layout.

<root>/<task>/{train800,val200,train800val200,test}.txt     lines: images/<split>/000000.jpg <label>
<root>/<task>/images/<split>/000000.jpg
<root>/<task>/classes.txt                                   optional: one class name a line, in label order
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError

SPLITS = ("train800", "val200", "train800val200", "test")


@dataclass(frozen=True)
class Spec:
    """What is known about a task before any file is read. `test_size` is that of the public VTAB-1k export."""

    name: str
    group: str
    num_classes: int
    test_size: int
    about: str


# Source of groups, class counts and test sizes: public VTAB-1k readers and exports (see data/README.md).
VTAB = {
    row[0]: Spec(*row)
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


def read_split(folder, split, num_classes):
    """Read one list file -> (list of image Paths, labels int64 [n]).

    Raises DataError naming the file, the line and the mend: missing folder or split, empty list, a malformed line,
    a label out of range, a path that leaves the folder. Images are not opened here.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder. Point PEFTLAB_DATA (or root=) at the folder that holds it, "
            "or fetch the data: peftlab data fetch"
        )
    file = folder / f"{split}.txt"
    if not file.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.txt") if p.stem in SPLITS)) or "none"
        raise DataError(f"{file}: this split is missing (found: {there}). Fetch the task again: peftlab data fetch")
    paths, labels = [], []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.lstrip("-").isdigit():
            raise DataError(f"{where}: {line!r} is not '<path> <label>'. Mend or remove the line")
        if not 0 <= int(label) < num_classes:
            raise DataError(
                f"{where}: label {label} is out of range: {num_classes} classes, 0 to {num_classes - 1}. "
                "Mend the label, or the class count if this is another task"
            )
        inside = os.path.normpath(name)
        if os.path.isabs(inside) or inside.split(os.sep)[0] == "..":
            raise DataError(f"{where}: {name!r} leaves the task's folder. Use a path inside {folder}")
        paths.append(folder / inside)
        labels.append(int(label))
    if not paths:
        raise DataError(f"{file}: the list is empty. Fetch the task again: peftlab data fetch")
    return paths, np.array(labels, dtype=np.int64)


def read_classes(folder, num_classes):
    """Class names from classes.txt, or 'class 0', 'class 1', ... where there is no such file."""
    file = Path(folder) / "classes.txt"
    if not file.is_file():
        return tuple(f"class {i}" for i in range(num_classes))
    names = tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
    if len(names) > num_classes:
        raise DataError(
            f"{file}: {len(names)} class names, but the task has {num_classes} classes. Remove the surplus"
        )
    return names


def declared_classes(folder, spec):
    """Number of classes: that of classes.txt when the folder holds a subset of the task's classes, else the spec's."""
    file = Path(folder) / "classes.txt"
    return len(read_classes(folder, spec.num_classes)) if file.is_file() else spec.num_classes
