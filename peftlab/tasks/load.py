"""Tasks by name: real ones on disk, or synthetic ones."""

import os
from pathlib import Path
from typing import Any

from ..common.errors import PeftlabError, near
from ..common.paths import data_root, expanded
from ..common.used import note_use
from .fgvc import FGVC, fgvc_folder, fgvc_name, fgvc_task
from .own.hf_dataset import dataset_task
from .own.image_folder import image_folder
from .synthetic.drawing import synthetic_task
from .synthetic.registry import SYNTHETIC
from .task import Task
from .vtab1k import SPLITS, VTAB, has_lists, list_lines, read_classes, read_split


def load_task(name: Any, root: str | Path | None = None, budget: int | None = None) -> Task:
    """Load a task by name, or your own images: by the path of their folder or CSV file, or as a `datasets.Dataset`.

    root: a folder in the VTAB-1k layout, or with FGVC's lists, reads the real task; None takes $PEFTLAB_DATA if it is
    set and otherwise draws the synthetic task; "synthetic" draws it in any case. budget: of your own images, at most
    so many to train and choose on. Raises PeftlabError for unknown names and DataError for damaged folders.
    """
    task = _find(name, root, budget)
    note_use("task", task.title, lambda: task.fingerprint)
    return task


def _find(name: Any, root: str | Path | None, budget: int | None) -> Task:
    if not isinstance(name, (str, Path)):
        return dataset_task(name, budget)
    known = set(task_names())
    if name not in known:
        place = expanded(name)
        if str(name) and (os.path.exists(place) or os.sep in str(name)):
            return _by_path(place, budget)
        raise PeftlabError(
            f"unknown task {str(name)!r}{near(name, known)}; your own images are named by their folder's path"
        )
    _no_budget(name, budget)
    root = root if root is not None else data_root()
    if name in FGVC and root is not None and str(root) != "synthetic":
        return fgvc_task(str(name), root)
    if name not in VTAB or root is None or str(root) == "synthetic":
        if name not in SYNTHETIC:
            layout = "a folder with FGVC's lists" if name in FGVC else "a VTAB-1k folder"
            raise PeftlabError(
                f"task {name!r} has no synthetic task. Set PEFTLAB_DATA (or root=) to {layout}; "
                f"synthetic tasks exist of: {', '.join(sorted(SYNTHETIC))}"
            )
        return synthetic_task(str(name))
    folder, spec = expanded(root) / name, VTAB[str(name)]
    list_lines(folder, "train800")  # a wrong folder is said now, not at the first use
    return Task(str(name), spec.group, spec.about, read_classes(folder, spec), folder, synthetic=False)


def _by_path(place: Path, budget: int | None) -> Task:
    """The task of a folder or a file: one with lists of its own, VTAB-1k's or FGVC's, or a reader's own images."""
    if not has_lists(place) and fgvc_name(place) is None:
        return image_folder(place, budget)
    place = place.resolve()
    _no_budget(place, budget)
    if name := fgvc_name(place):
        return fgvc_task(name, place)
    if place.name in VTAB:
        return _find(place.name, place.parent, None)
    classes = read_classes(place)
    if not classes:
        most = max(int(read_split(place, split, None)[1].max()) for split in SPLITS)
        classes = tuple(f"class {i}" for i in range(most + 1))
    return Task(place.name, "yours", f"{len(classes)} classes", classes, place, synthetic=False)


def _no_budget(name: object, budget: int | None) -> None:
    if budget is not None:
        raise PeftlabError(f"task {str(name)!r} has its lists already; a budget is for a folder of your own images")


def task_names() -> list[str]:
    """All names that `load_task` knows, VTAB's first, then FGVC's.

    >>> names = task_names()
    >>> len(names), names[0], names[-1]
    (26, 'cifar', 'textures')
    """
    return [*VTAB, *FGVC, *(name for name in SYNTHETIC if name not in VTAB)]


def available_tasks(root: str | Path | None = None) -> list[str]:
    """Names that can be loaded now: VTAB's and FGVC's under root or $PEFTLAB_DATA, or else all synthetic tasks."""
    root = root if root is not None else data_root()
    if root is None or str(root) == "synthetic":
        return list(SYNTHETIC)
    root = expanded(root)
    return [name for name in VTAB if (root / name).is_dir()] + [name for name in FGVC if fgvc_folder(name, root)]


def task_group(name: str) -> str:
    """The group of a known task.

    >>> task_group("dtd"), task_group("cub")
    ('natural', 'fgvc')
    """
    return "fgvc" if name in FGVC else (VTAB.get(name) or SYNTHETIC[name]).group


def about_task(name: str) -> str:
    """What a known task is about, in a few words.

    >>> about_task("stanford_dogs")
    'Stanford Dogs: the breed'
    """
    return (VTAB.get(name) or FGVC.get(name) or SYNTHETIC[name]).about


def pick_tasks(n: int, root: str | Path | None = None) -> list[str]:
    """Up to n names of available tasks, taken from the groups in turn, so that three tasks show three groups.

    >>> pick_tasks(3, root="synthetic")
    ['digits', 'textures', 'clevr_count']
    """
    names = available_tasks(root)
    group = {name: task_group(name) for name in names}
    turn = {name: (sum(group[other] == group[name] for other in names[:i]), i) for i, name in enumerate(names)}
    return sorted(names, key=turn.__getitem__)[:n]
