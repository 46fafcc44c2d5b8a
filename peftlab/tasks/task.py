"""A task: images, labels, class names, splits, group."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image, ImageOps, UnidentifiedImageError

from ..backbones.types import Pixels
from ..common.errors import DataError, PeftlabError, check_choice
from .files import digests, regular
from .vtab1k import JUDGED_BY, SPLITS, read_split

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # another of Pillow's, EPS, runs whatever it is given
COPIES = 0.1  # share of a training list; so many of a list's images are not in another by chance


def open_image(path: str | Path) -> Image.Image:
    """One image as it is stored, turned upright as its EXIF says.

    Raises DataError naming the file when it is missing, no regular file, damaged, an animation, or claims more pixels
    than Pillow takes for honest.
    """
    regular(path)
    return decode_image(path, path, "Replace the file or fetch the task again")


def decode_image(file: str | Path | BytesIO, name: object, fix: str) -> Image.Image:
    """The image in a file, or in its bytes. Raises DataError as `open_image` does, with the fix."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                pictures = image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a camera's JPEG
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: too large an image ({error}). Replace it by a smaller one") from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # which only names the file again
        raise DataError(f"{name}: not a readable image{why}. {fix}") from None
    if pictures:
        raise DataError(f"{name}: an animation or several pages, not one image. Save the one that is meant")
    return image


def as_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    """An image in RGB. Raises DataError naming the file when its mode is another than RGB or L."""
    if image.mode not in ("RGB", "L"):
        conversion = "point(lambda v: v / 257).convert('L')" if image.mode.startswith("I") else "convert('RGB')"
        raise DataError(
            f"{path}: image mode {image.mode}, expected RGB or L (8 bit). Convert it: "
            f"PIL.Image.open(path).{conversion}.save(path)"
        )
    return image.convert("RGB")


def load_image(path: str | Path) -> Image.Image:
    """Open one image as RGB. Raises DataError as `open_image` and `as_rgb` do."""
    return as_rgb(open_image(path), path)


def read_pixels(paths: Sequence[str | Path], size: tuple[int, int], interpolation: str = "bicubic") -> Pixels:
    """Images resized directly, without a crop, to size (height, width). interpolation: 'bicubic' or 'bilinear'."""
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    out = np.empty((len(paths), *size, 3), dtype=np.uint8)
    for row, path in enumerate(paths):
        out[row] = np.asarray(load_image(path).resize(size[::-1], method))
    return torch.from_numpy(out)


@dataclass(frozen=True)
class Task:
    """One classification task. Nothing is read until it is asked for.

    `synthetic` marks tasks drawn here: they are never averaged with, or called, VTAB.

    >>> task = Task("dtd", "natural", "the texture", ("banded", "dotted"), Path("vtab-1k/dtd"), synthetic=False)
    >>> task.num_classes, task.title
    (2, 'dtd')
    """

    name: str
    group: str
    about: str
    classes: tuple[str, ...]
    folder: Path
    synthetic: bool

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def title(self) -> str:
        """The name for tables and pictures; synthetic tasks carry their tag."""
        return f"{self.name} (synthetic)" if self.synthetic else self.name

    @cached_property
    def _lists(self) -> dict[str, tuple[list[Path], Int64[np.ndarray, " images"]]]:
        """The lists read so far: each once, so that a task stays as it was read."""
        return {}

    def split(self, name: str) -> tuple[list[Path], Int64[np.ndarray, " images"]]:
        """-> (image Paths, labels) of 'train800', 'val200', 'train800val200' or 'test'."""
        check_choice("split", name, SPLITS)
        if name not in self._lists:
            self._lists[name] = self._read(name)
        paths, labels = self._lists[name]
        return list(paths), labels.copy()

    def _read(self, name: str) -> tuple[list[Path], Int64[np.ndarray, " images"]]:
        """A list from the disk. Tasks in another layout than VTAB-1k's read it otherwise."""
        return read_split(self.folder, name, self.num_classes)

    def labels(self, split: str) -> Int64[np.ndarray, " images"]:
        """The class of each image of a split, from 0."""
        return self.split(split)[1]

    def size(self, split: str) -> int:
        """Number of images of a split."""
        return len(self.labels(split))

    def pixels(
        self,
        split: str,
        size: tuple[int, int],
        indices: Iterable[SupportsIndex] | None = None,
        interpolation: str = "bicubic",
    ) -> Pixels:
        """The images of a split, or those at `indices`, as `read_pixels` gives them. Raises PeftlabError beyond."""
        paths = self.split(split)[0]
        try:
            chosen = paths if indices is None else [paths[i] for i in indices]
        except IndexError:
            last = len(paths) - 1
            raise PeftlabError(f"images of {split} of {self.title} are counted from 0 to {last}") from None
        return read_pixels(chosen, size, interpolation)

    @cached_property
    def digests(self) -> dict[Path, str]:
        """The content of every image that the lists name, as 32 hex digits. Raises DataError for a missing one."""
        return digests(self.folder, [path for split in SPLITS for path in self.split(split)[0]])

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits over the folder's name (synthetic tasks carry their version in it), classes, lists and images.

        Raises DataError for a list or an image that is missing or no regular file.
        """
        rows = []
        for split in SPLITS:
            for path, label in zip(*self.split(split), strict=True):
                rows.append([split, path.relative_to(self.folder).as_posix(), int(label), self.digests[path]])
        content = json.dumps([self.folder.name, self.classes, rows])
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def check_disjoint(self, train_split: str) -> None:
        """Raise DataError where a training list shares images with one that its result is measured on.

        train800 is measured on val200 and test, train800val200 on test. One file in both is refused, by whatever path;
        copies under other names are from a tenth of the training list on. Fewer occur in the genuine data: dSprites
        draws its first and last angle alike, CIFAR-100 has some photographs twice. `peftlab data audit` names them.
        """
        check_choice("training split", train_split, JUDGED_BY)
        ours = {path: self.digests[path] for path in self.split(train_split)[0]}
        for split in JUDGED_BY[train_split]:
            theirs = {path: self.digests[path] for path in self.split(split)[0]}
            shared = set(ours.values()) & set(theirs.values())
            equal, twins = ([path for path in each if each[path] in shared] for each in (ours, theirs))
            files = {os.path.realpath(path) for path in twins}
            same = [path for path in equal if os.path.realpath(path) in files]
            if same or len(equal) >= COPIES * len(ours):
                first, *_ = same or equal
                twin = next(path for path in twins if theirs[path] == ours[first])
                raise DataError(
                    f"{self.folder / train_split}.txt: {len(same or equal)} of its {len(ours)} images are also in "
                    f"{split}.txt, on which the result is measured (first: {first.relative_to(self.folder)}, there "
                    f"{twin.relative_to(self.folder)}). Remove their lines from one of the two lists"
                )
