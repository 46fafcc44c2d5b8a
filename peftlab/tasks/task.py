"""A task: images, labels, class names, splits, group."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..common.errors import DataError, PeftlabError, near
from .vtab1k import SPLITS, read_split


def load_image(path):
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


def read_pixels(paths, size, interpolation="bicubic"):
    """Images resized directly to size (height, width) -> uint8 tensor [n, height, width, 3]."""
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    out = np.empty((len(paths), *size, 3), dtype=np.uint8)
    for row, path in enumerate(paths):
        out[row] = np.asarray(load_image(path).resize(size[::-1], method))
    return torch.from_numpy(out)


@dataclass(frozen=True)
class Task:
    """One classification task. Nothing is read until it is asked for.

    `synthetic` marks our own synthetic tasks: they are never to be averaged with, or called, VTAB.
    """

    name: str
    group: str
    about: str
    classes: tuple
    folder: Path
    synthetic: bool

    @property
    def num_classes(self):
        return len(self.classes)

    @property
    def title(self):
        """The name for tables and pictures; synthetic tasks carry their tag."""
        return f"{self.name} (synthetic)" if self.synthetic else self.name

    def split(self, name):
        """-> (image Paths, labels int64 [n]) of 'train800', 'val200', 'train800val200' or 'test'."""
        if name not in SPLITS:
            raise PeftlabError(f"unknown split {name!r}{near(name, SPLITS)}")
        return read_split(self.folder, name, self.num_classes)

    def labels(self, split):
        """int64 [n]."""
        return self.split(split)[1]

    def size(self, split):
        """Number of images."""
        return len(self.labels(split))

    def pixels(self, split, size, indices=None, interpolation="bicubic"):
        """Images resized directly to size (height, width) -> uint8 tensor [n, height, width, 3]."""
        paths = self.split(split)[0]
        return read_pixels(paths if indices is None else [paths[i] for i in indices], size, interpolation)

    @cached_property
    def fingerprint(self):
        """12 hex digits over the folder's name (synthetic tasks carry their version in it) and the list files."""
        content = self.folder.name.encode() + b"".join((self.folder / f"{split}.txt").read_bytes() for split in SPLITS)
        return hashlib.sha256(content).hexdigest()[:12]
