"""A task: images, labels, class names, splits, group."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import DataError, PeftlabError, near
from ..paths import data_root
from .vtab1k import SPLITS, VTAB, list_lines, read_classes, read_split

__all__ = ["SPLITS", "VTAB", "Task", "available_tasks", "load_image", "load_task", "pick_tasks", "task_names"]


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

    `rendered` marks our own look-alikes: they are never to be averaged with, or called, VTAB.
    """

    name: str
    group: str
    about: str
    classes: tuple
    folder: Path
    rendered: bool

    @property
    def num_classes(self):
        return len(self.classes)

    @property
    def title(self):
        """The name for tables and pictures; look-alikes carry their tag."""
        return f"{self.name} (rendered)" if self.rendered else self.name

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
        """12 hex digits over the folder's name (look-alikes carry their version in it) and the list files."""
        content = self.folder.name.encode() + b"".join((self.folder / f"{split}.txt").read_bytes() for split in SPLITS)
        return hashlib.sha256(content).hexdigest()[:12]


def load_task(name, root=None):
    """Load a task by name.

    root: a folder in the VTAB-1k layout reads the real task; None takes $PEFTLAB_DATA if it is set and otherwise
    draws the look-alike; "rendered" draws the look-alike in any case. Raises PeftlabError for unknown names and
    DataError for damaged folders.
    """
    from .rendered import RENDERED, rendered_task

    root = root if root is not None else data_root()
    known = set(VTAB) | set(RENDERED)
    if name not in known:
        raise PeftlabError(f"unknown task {name!r}{near(name, known)}")
    if name not in VTAB or root is None or str(root) == "rendered":
        if name not in RENDERED:
            raise PeftlabError(
                f"task {name!r} has no rendered look-alike. Set PEFTLAB_DATA (or root=) to a VTAB-1k folder; "
                f"look-alikes exist of: {', '.join(sorted(RENDERED))}"
            )
        return rendered_task(name)
    folder, spec = Path(root).expanduser() / name, VTAB[name]
    list_lines(folder, "train800")  # a wrong folder is said now, not at the first use
    return Task(name, spec.group, spec.about, read_classes(folder, spec), folder, rendered=False)


def task_names():
    """All names that `load_task` knows, VTAB's first."""
    from .rendered import RENDERED

    return [*VTAB, *(name for name in RENDERED if name not in VTAB)]


def available_tasks(root=None):
    """Names that can be loaded now: VTAB tasks on disk under root or $PEFTLAB_DATA, or else all look-alikes."""
    from .rendered import RENDERED

    root = root if root is not None else data_root()
    if root is None or str(root) == "rendered":
        return list(RENDERED)
    return [name for name in VTAB if (Path(root).expanduser() / name).is_dir()]


def pick_tasks(n, root=None):
    """Up to n names of available tasks, taken from the groups in turn, so that three tasks show three groups."""
    from .rendered import RENDERED

    names = available_tasks(root)
    group = {name: (VTAB.get(name) or RENDERED[name]).group for name in names}
    rank = {name: (sum(group[other] == group[name] for other in names[:i]), i) for i, name in enumerate(names)}
    return sorted(names, key=rank.get)[:n]
