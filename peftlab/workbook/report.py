"""A report on a reader's own images: methods are trained here, the page is made of notebooks/your_images.ipynb.

What is trained lies in the ledger, so that the notebook finds it, and so does the same command after an interruption.
"""

import os
import re
import time
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from ..backbones.load import load_backbone
from ..common.errors import PeftlabError
from ..common.files import OURS, require_writable, sweep_parts, write_text
from ..common.paths import expanded
from ..tasks.load import load_task, task_names
from ..training.compare import Comparison, forecast, trained
from ..training.time_budget import outlook
from .lessons import LESSONS
from .page.pdf import find_browser, print_pdf
from .page.render import render_page
from .run import describe_environment, run_notebook, say

NOTEBOOK = LESSONS / "your_images.ipynb"
METHODS = ("linear", "lora", "norm", "gist", "full")


def build_report(
    folder: str | Path,
    out: str | Path = "reports",
    *,
    backbone: str = "peftlab_vit_small",
    img_size: int | None = None,
    methods: Sequence[str] = METHODS,
    seeds: int = 2,
    minutes: float = 30,
    budget: int | None = None,
    epochs: int = 10,
    pdf: bool = False,
) -> tuple[Path, str]:
    """Compare methods on a folder of images -> (the page, out/NAME.html; the error in its notebook, "" for none).

    Beside it: NAME_model, the merged model of the recommended method as a folder that timm reads, and the page as a
    PDF if one is wanted. They appear at the end; where the notebook failed, an earlier model stays. Ctrl-C leaves
    nothing but finished epochs in the ledger; the same call goes on from there. Raises PeftlabError for bad folders,
    names and numbers, without Chromium for a PDF, and where `out` may not be written to or holds another folder's
    report, before anything is trained.
    """
    if pdf:
        find_browser()  # before anything is trained
    if not expanded(folder).exists() and str(folder) not in task_names():
        raise PeftlabError(f"{folder}: no such folder or CSV file, and no task of that name. Check the path")
    began, out = time.perf_counter(), Path(out).resolve()
    task = load_task(_absolute(folder), budget=budget)
    page, model = out / f"{task.name}.html", out / f"{task.name}_model"
    if (source := _source(page)) not in (None, repr(_absolute(folder))):
        raise PeftlabError(f"{page}: the report is on {source}; name another folder (--out)")
    empty = model.is_dir() and not any(model.iterdir())
    if model.exists() and not empty and not _has_model(model):
        raise PeftlabError(f"{model}: is there, and no report wrote it. Move it away, or name another folder (--out)")
    vit = load_backbone(_absolute(backbone), img_size=img_size)
    comparison = Comparison(vit, task, tuple(methods), seeds, minutes, epochs)
    out.mkdir(parents=True, exist_ok=True)
    require_writable(page)
    train, test = task.size("train800val200"), task.size("test")
    say(f"{task.name}: {task.num_classes} classes, {train} images to train, {test} to test")
    plan = forecast(comparison)
    say(outlook(plan))
    trained(comparison, plan)
    say("trained; writing the page")
    values = {
        "profile": "full",
        "backbone": _absolute(backbone),
        "folder": _absolute(folder),
        "img_size": img_size,
        "methods": list(methods),
        "seeds": seeds,
        "minutes": minutes,
        "budget": budget,
        "epochs": epochs,
    }
    sweep_parts(out)
    with TemporaryDirectory(OURS, "report.part-", out) as scratch:
        nb, result = run_notebook(NOTEBOOK, values | {"out": scratch}, describe_environment())
        made = Path(scratch) / model.name
        if result.ok and _has_model(made):
            _swap(made, model)
    # the folder's own name goes, the same in JSON and in a cell's Python, which spell the path before it differently
    nb = nbformat.reads(nbformat.writes(nb).replace(f"/{Path(scratch).name}", ""), as_version=4)
    nb.metadata["peftlab"] |= {
        "name": task.name,
        "title": f"{task.name}: which method, and how sure?",
        "seconds": round(time.perf_counter() - began, 2),
    }
    page.with_suffix(".pdf").unlink(missing_ok=True)  # of an earlier report
    write_text(page, render_page(nb, nb.metadata["peftlab"], folder=NOTEBOOK.parent, alone=True))
    if pdf:
        say(f"printed: {print_pdf(page)}")
    return page, result.error


def _source(page: Path) -> str | None:
    """What a report is on, as the table of its parameters spells it; None where there is no report."""
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    found = re.findall("<code>folder</code></th><td><code>(.*?)</code>", text)
    return unescape(found[-1]) if found else None


def _has_model(folder: Path) -> bool:
    """Whether a model was written there to its end: these files are the last."""
    return any((folder / name).is_file() for name in ("config.json", "adapter.json"))


def _swap(made: Path, model: Path) -> None:
    """Put a new model in the place of the earlier one, which is left beside `made`, or stays where that fails."""
    earlier = made.with_name("earlier")
    try:
        if model.exists():
            os.replace(model, earlier)
        os.replace(made, model)
    except BaseException:  # an interruption, too
        if earlier.exists() and not model.exists():
            os.replace(earlier, model)
        raise


def _absolute(name: str | Path) -> str:
    """A path that exists, from the root, for the notebook runs elsewhere; any other name as it is."""
    path = expanded(name)
    return str(path.resolve()) if path.exists() else str(name)
