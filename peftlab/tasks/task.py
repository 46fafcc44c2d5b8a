"""A task: images, labels, class names, splits, group."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image, UnidentifiedImageError

from ..backbones.types import Pixels
from ..common.errors import DataError, PeftlabError, near
from .vtab1k import SPLITS, read_split


def load_image(path: str | Path) -> Image.Image:
    """Open one image as RGB. Raises DataError naming the file when it is missing, truncated or of another mode."""
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise DataError(
            f"{path}: the list names this image, but there is no such file. Fetch the task again"
        ) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable image ({error}). Replace the file or fetch the task again") from None
    if image.mode not in ("RGB", "L"):
        raise DataError(
            f"{path}: image mode {image.mode}, expected RGB or L (8 bit). Convert it: "
            f"PIL.Image.open(path).convert('RGB').save(path)"
        )
    return image.convert("RGB")


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

    def split(self, name: str) -> tuple[list[Path], Int64[np.ndarray, " images"]]:
        """-> (image Paths, labels) of 'train800', 'val200', 'train800val200' or 'test'."""
        if name not in SPLITS:
            raise PeftlabError(f"unknown split {name!r}{near(name, SPLITS)}")
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
        """The images of a split, or those at `indices`, as `read_pixels` gives them."""
        paths = self.split(split)[0]
        return read_pixels(paths if indices is None else [paths[i] for i in indices], size, interpolation)

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits over the folder's name (synthetic tasks carry their version in it) and the list files."""
        content = self.folder.name.encode() + b"".join((self.folder / f"{split}.txt").read_bytes() for split in SPLITS)
        return hashlib.sha256(content).hexdigest()[:12]
