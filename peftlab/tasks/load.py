"""Tasks by name: real ones on disk, or synthetic ones."""

from pathlib import Path

from ..common.errors import PeftlabError, near
from ..common.paths import data_root
from .image_folder import image_folder
from .synthetic.drawing import synthetic_task
from .synthetic.registry import SYNTHETIC
from .task import Task
from .vtab1k import VTAB, list_lines, read_classes


def load_task(name: str, root: str | Path | None = None, budget: int | None = None) -> Task:
    """Load a task by name, or your own images by the path of their folder or CSV file (`image_folder`).

    root: a folder in the VTAB-1k layout reads the real task; None takes $PEFTLAB_DATA if it is set and otherwise
    draws the synthetic task; "synthetic" draws it in any case. budget: of your own images, at most so many to train
    and choose on. Raises PeftlabError for unknown names and DataError for damaged folders.
    """
    root = root if root is not None else data_root()
    known = set(VTAB) | set(SYNTHETIC)
    if name not in known:
        if name and (Path(name).expanduser().exists() or len(Path(name).parts) > 1):
            return image_folder(name, budget)
        raise PeftlabError(
            f"unknown task {name!r}{near(name, known)}; your own images are named by their folder's path"
        )
    if budget is not None:
        raise PeftlabError(f"task {name!r} has its lists already; a budget is for a folder of your own images")
    if name not in VTAB or root is None or str(root) == "synthetic":
        if name not in SYNTHETIC:
            raise PeftlabError(
                f"task {name!r} has no synthetic task. Set PEFTLAB_DATA (or root=) to a VTAB-1k folder; "
                f"synthetic tasks exist of: {', '.join(sorted(SYNTHETIC))}"
            )
        return synthetic_task(name)
    folder, spec = Path(root).expanduser() / name, VTAB[name]
    list_lines(folder, "train800")  # a wrong folder is said now, not at the first use
    return Task(name, spec.group, spec.about, read_classes(folder, spec), folder, synthetic=False)


def task_names() -> list[str]:
    """All names that `load_task` knows, VTAB's first.

    >>> names = task_names()
    >>> len(names), names[0], names[-1]
    (21, 'cifar', 'textures')
    """
    return [*VTAB, *(name for name in SYNTHETIC if name not in VTAB)]


def available_tasks(root: str | Path | None = None) -> list[str]:
    """Names that can be loaded now: VTAB tasks on disk under root or $PEFTLAB_DATA, or else all synthetic tasks."""
    root = root if root is not None else data_root()
    if root is None or str(root) == "synthetic":
        return list(SYNTHETIC)
    return [name for name in VTAB if (Path(root).expanduser() / name).is_dir()]


def pick_tasks(n: int, root: str | Path | None = None) -> list[str]:
    """Up to n names of available tasks, taken from the groups in turn, so that three tasks show three groups.

    >>> pick_tasks(3, root="synthetic")
    ['digits', 'textures', 'clevr_count']
    """
    names = available_tasks(root)
    group = {name: (VTAB.get(name) or SYNTHETIC[name]).group for name in names}
    turn = {name: (sum(group[other] == group[name] for other in names[:i]), i) for i, name in enumerate(names)}
    return sorted(names, key=turn.__getitem__)[:n]
