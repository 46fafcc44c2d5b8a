"""FGVC: the five fine-grained tasks of VPT (arXiv:2203.12119) and GIFT (arXiv:2312.00700), by their lists.

    <root>/cub/train.json  val.json  test.json      {"001.Black_footed_Albatross/....jpg": class id, ...}
    <root>/cub/images/001.Black_footed_Albatross/...

The lists are in data/ of github.com/savadikarc/gift: VPT's, and for Stanford Cars GIFT's own, as its
scripts/visual_classification/fgvc/DATA.md says. Class ids are numbered anew in their order, as in json_dataset.py of
both. VPT's code trains on train.json alone (get_loaders in train.py): here that is train_split="train800";
train800val200 is train.json and val.json together.
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ..common.errors import DataError
from ..common.paths import expanded
from .files import inside, read_text, shown
from .task import Task

LISTS = {"train800": ("train",), "val200": ("val",), "train800val200": ("train", "val"), "test": ("test",)}


@dataclass(frozen=True)
class FgvcSpec:
    """What is known about a task before any file is read.

    folders: names of its folder, in lower case, letters and digits alone; the first is GIFT's. inside: the folder in
    it that the lists' paths start from. test_size: of the data set's own test split. images: where to get them.
    """

    name: str
    num_classes: int
    test_size: int
    about: str
    folders: tuple[str, ...]
    inside: str
    images: str


FGVC = {
    row[0]: FgvcSpec(*row)
    for row in (
        ("cub", 200, 5_794, "CUB-200-2011: the species of the bird", ("cub", "cub2002011"), "images",
         "https://data.caltech.edu/records/65de6-vp158"),
        ("nabirds", 555, 24_633, "NABirds: the species, sex or age of the bird", ("nabirds",), "images",
         "https://dl.allaboutbirds.org/nabirds"),
        ("oxford_flowers", 102, 6_149, "Flowers-102 with all images of its official lists: the species",
         ("oxfordflowers", "oxfordflower"), "", "https://www.robots.ox.ac.uk/~vgg/data/flowers"),
        ("stanford_dogs", 120, 8_580, "Stanford Dogs: the breed", ("stanforddogs",), "Images",
         "http://vision.stanford.edu/aditya86/ImageNetDogs"),
        ("stanford_cars", 196, 8_041, "Stanford Cars: make, model and year", ("stanfordcars",), "",
         "https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset"),
    )
}  # fmt: skip


def fgvc_task(name: str, root: str | Path) -> Task:
    """An FGVC task in a folder of root, or in root itself. Raises DataError for what is missing, with its source."""
    spec, root = FGVC[name], expanded(root)
    folder = fgvc_folder(name, root)
    if folder is None:
        raise DataError(
            f"{root}: no folder {spec.folders[0]} with train.json, val.json and test.json in it. Take the lists from "
            f"data/{spec.folders[0]} of github.com/savadikarc/gift, the images from {spec.images}"
        )
    task = FgvcTask(name, "fgvc", spec.about, (), folder, synthetic=False)
    images = folder / spec.inside
    if not images.is_dir():
        raise DataError(f"{images}: no such folder. Unpack the images of {spec.images} there")
    names = task.class_names()
    if len(names) > spec.num_classes:
        raise DataError(
            f"{folder / 'train.json'}: {len(names)} classes, but {name} has {spec.num_classes}. Replace it"
        )
    return FgvcTask(name, "fgvc", spec.about, names, folder, synthetic=False)


def fgvc_folder(name: str, root: Path) -> Path | None:
    """The folder of a task: root itself, if it has lists and such a name, or one in it; None where there is none."""
    if fgvc_name(root) == name:
        return root
    below = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    return next((folder for folder in below if fgvc_name(folder) == name), None)


def fgvc_name(folder: Path) -> str | None:
    """The task whose lists a folder holds, by the folder's name."""
    plain = re.sub("[^a-z0-9]", "", folder.name.lower())
    found = (name for name, spec in FGVC.items() if plain in spec.folders)
    return next(found, None) if os.path.lexists(folder / "train.json") else None


@dataclass(frozen=True)
class FgvcTask(Task):
    """A task whose lists are train.json, val.json and test.json."""

    @cached_property
    def _json(self) -> dict[str, dict[str, int | str]]:
        """The lists read so far: path -> class id."""
        return {}

    def _read(self, name: str) -> tuple[list[Path], Int64[np.ndarray, " images"]]:
        rows = [(path, self._label(path, key, part)) for part in LISTS[name] for path, key in self._part(part).items()]
        start = self.folder / FGVC[self.name].inside
        return [start / path for path, _ in rows], np.array([label for _, label in rows], dtype=np.int64)

    def _part(self, part: str) -> dict[str, int | str]:
        """A list. Raises DataError, naming the file, unless it maps paths within the folder to class ids."""
        if part not in self._json:
            self._json[part] = _read_json(self.folder / f"{part}.json", FGVC[self.name].folders[0])
        return self._json[part]

    @cached_property
    def _ids(self) -> dict[int | str, int]:
        """Class id -> label: the ids of train.json in their order."""
        keys = set(self._part("train").values())
        if len({type(key) for key in keys}) > 1:
            raise DataError(f"{self.folder / 'train.json'}: some class ids are text, others numbers. Fetch it again")
        return {key: label for label, key in enumerate(sorted(keys))}

    def _label(self, path: str, key: int | str, part: str) -> int:
        if key not in self._ids:
            where = f"{self.folder / part}.json: {shown(path)}"
            raise DataError(
                f"{where} has class {key!r}, which no image of train.json has. Remove the line, or add one"
            )
        return self._ids[key]

    def class_names(self) -> tuple[str, ...]:
        """Names in label order: of the folder that a class has for itself, else its id.

        001.Black_footed_Albatross and n02085620-Chihuahua become Black footed Albatross and Chihuahua.
        """
        parents: dict[int | str, set[str]] = {key: set() for key in self._ids}
        for path, key in self._part("train").items():
            parents[key].add(os.path.basename(os.path.dirname(path)))
        names = [next(iter(each)) if len(each) == 1 else "" for each in parents.values()]
        if "" in names or len(set(names)) < len(names):
            return tuple(f"class {key}" for key in parents)
        return tuple(re.sub(r"^(\d+\.|n\d+-)", "", name).replace("_", " ") for name in names)


def _read_json(file: Path, source: str) -> dict[str, int | str]:
    again = f"Fetch it again from data/{source} of github.com/savadikarc/gift"
    if not os.path.lexists(file):
        raise DataError(f"{file}: this list is missing. Take it from data/{source} of github.com/savadikarc/gift")
    text = read_text(file)
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON ({error}). {again}") from None
    if not isinstance(rows, dict) or not rows:
        raise DataError(f"{file}: no object of paths and class ids. {again}")
    for path, key in rows.items():
        if isinstance(key, bool) or not isinstance(key, (int, str)) or inside(file.parent, path) is None:
            raise DataError(f"{file}: {shown(path)}: {shown(key)} is not a path in the folder with its class. {again}")
    return rows
