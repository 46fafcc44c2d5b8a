"""Synthetic tasks written to disk, once, in the VTAB-1k folder layout."""

from pathlib import Path

from PIL import Image
from threadpoolctl import threadpool_limits

from ...common.files import write_json
from ...common.paths import cache_folder
from ...common.progress import progress
from ..once import made_once
from ..task import Task
from .registry import SIZES, SYNTHETIC, SyntheticTask, draw


def synthetic_task(name: str) -> Task:
    """The synthetic task as a Task. Drawn into the cache at the first call, read afterwards."""
    spec = SYNTHETIC[name]
    folder = cache_folder() / "synthetic" / f"{name}-v{spec.version}"
    made_once(folder, lambda part: _write(spec, part))
    return Task(name, spec.group, spec.about, spec.classes, folder, synthetic=True)


@threadpool_limits.wrap(limits=1)  # the matrices are small: BLAS threads would only wait for one another
def _write(spec: SyntheticTask, folder: Path) -> None:
    """Write all images, lists, class names and factors of a task into an empty folder."""
    names = [f"images/{split}/{i:06d}.png" for split, size in SIZES.items() for i in range(size)]
    for split in SIZES:
        (folder / "images" / split).mkdir(parents=True)
    lines, factors = [], {}
    for index, name in enumerate(progress(names, desc=f"drawing {spec.name} (once)", unit="image")):
        image, label, factors[name] = draw(spec.name, index)
        Image.fromarray(image).save(folder / name)
        lines.append(f"{name} {label}\n")
    train, val = SIZES["train800"], SIZES["val200"]
    lists = {
        "train800": lines[:train],
        "val200": lines[train : train + val],
        "train800val200": lines[: train + val],
        "test": lines[train + val :],
    }
    for split, members in lists.items():
        (folder / f"{split}.txt").write_text("".join(members))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in spec.classes))
    write_json(folder / "factors.json", factors)
