"""A report on a reader's own images: methods are trained here, the page is made of notebooks/your_images.ipynb.

What is trained lies in the ledger, so that the notebook finds it, and so does the same command after an interruption.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from ..backbones.load import load_backbone
from ..common.errors import PeftlabError
from ..common.files import OURS, sweep_parts, write_text
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
) -> tuple[Path, bool]:
    """Compare methods on a folder of images -> (the page, out/NAME.html, whether every cell of it ran).

    Beside it: NAME_model, the merged model of the recommended method as a folder that timm reads, and the page as a
    PDF if one is wanted. They appear at the end. Ctrl-C leaves nothing but finished epochs in the ledger; the same
    call goes on from there. Raises PeftlabError for bad folders, names and numbers, and without Chromium for a PDF,
    before anything is trained.
    """
    if pdf:
        find_browser()  # before anything is trained
    if not Path(folder).expanduser().exists() and str(folder) not in task_names():
        raise PeftlabError(f"{folder}: no such folder or CSV file, and no task of that name. Check the path")
    began, out = time.perf_counter(), Path(out).resolve()
    task = load_task(_absolute(folder), budget=budget)
    page, model = out / f"{task.name}.html", out / f"{task.name}_model"
    if model.exists() and not any((model / name).is_file() for name in ("config.json", "adapter.json")):
        raise PeftlabError(f"{model}: is there, and no report wrote it. Move it away, or name another folder (--out)")
    vit = load_backbone(_absolute(backbone), img_size=img_size)
    comparison = Comparison(vit, task, tuple(methods), seeds, minutes, epochs)
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
    out.mkdir(parents=True, exist_ok=True)
    sweep_parts(out)
    with TemporaryDirectory(OURS, f"{task.name}.part-", out) as scratch:
        nb, result = run_notebook(NOTEBOOK, values | {"out": scratch}, describe_environment())
        made = Path(scratch) / model.name
        if made.is_dir():
            shutil.rmtree(model, ignore_errors=True)
            os.replace(made, model)
    nb = nbformat.reads(nbformat.writes(nb).replace(json.dumps(scratch)[1:-1], str(out)), as_version=4)
    nb.metadata["peftlab"] |= {
        "name": task.name,
        "title": f"{task.name}: which method, and how sure?",
        "seconds": round(time.perf_counter() - began, 2),
    }
    page.with_suffix(".pdf").unlink(missing_ok=True)  # of an earlier report
    write_text(page, render_page(nb, nb.metadata["peftlab"], folder=NOTEBOOK.parent, alone=True))
    if pdf:
        say(f"printed: {print_pdf(page)}")
    return page, result.ok


def _absolute(name: str | Path) -> str:
    """A path that exists, from the root, for the notebook runs elsewhere; any other name as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else str(name)
