"""A reader's own copy of the lessons: brought up to date where the reader changed nothing, opened in JupyterLab."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..common.errors import DataError, PeftlabError
from ..common.files import read_json, sweep_parts, write_json, write_text
from ..common.paths import REPOSITORY, lab_folder

LESSONS = REPOSITORY / "notebooks"
START_PAGE = "start.md"
_BROUGHT = ".lessons.json"  # what was brought: {file name: digest}


def copy_lessons(folder: str | Path, lessons: str | Path = LESSONS) -> list[str]:
    """Bring every lesson and the start page into a folder; return what there is to tell, a sentence each.

    A file that the reader changed (running a cell changes it, too) is never written again. Where its lesson is newer
    than the one that was brought, the new one comes next to it as NAME.updated.ipynb. A deleted copy is brought again.
    Raises PeftlabError when the folder is the one that the lessons come from, or is a file.
    """
    folder, lessons = Path(folder).resolve(), Path(lessons).resolve()
    if folder == lessons:
        raise PeftlabError(f"{folder} holds the lessons themselves; name another folder for your copy")
    if folder.exists() and not folder.is_dir():
        raise PeftlabError(f"{folder} is a file; name a folder for your copy of the lessons")
    folder.mkdir(parents=True, exist_ok=True)
    sweep_parts(folder)
    brought = _brought(folder)
    before = dict(brought)
    told, kept = [], []
    for lesson in [*sorted(lessons.glob("*.ipynb")), lessons / START_PAGE]:
        text, name, update = lesson.read_text("utf-8"), lesson.name, f"{lesson.stem}.updated{lesson.suffix}"
        if _bring(text, folder / name, brought):
            continue
        kept.append(name)
        if _digest(text) in (brought.get(name), brought.get(update)):  # it was brought at an earlier time
            continue
        if _bring(text, folder / update, brought):
            told.append(f"{name}: there is a newer lesson; yours is changed and stays, the new one is {update}")
        else:
            told.append(f"{name}: there is a newer lesson, but you changed {update}, too; delete that to get it")
    if brought != before:  # so that a folder where nothing changes may be read-only
        write_json(folder / _BROUGHT, brought)
    return [*told, f"kept as you changed them: {', '.join(kept)}"] if kept else told


def _bring(text: str, copy: Path, brought: dict[str, Any]) -> bool:
    """Write a lesson unless its copy has changed since it was brought. Returns whether the copy is the lesson."""
    new, there = _digest(text), _digest(copy.read_text("utf-8", errors="replace")) if copy.exists() else None
    if there not in (None, new, brought.get(copy.name)):
        return False
    if there != new:
        write_text(copy, text)
    brought[copy.name] = new
    return True


def _digest(text: str) -> str:
    """Of what a reader can change. JupyterLab writes its kernel into a notebook that is merely opened: no change."""
    content: object = text
    with contextlib.suppress(ValueError, KeyError, TypeError):  # the start page, or a damaged notebook
        content = [(cell["cell_type"], cell["source"], cell.get("outputs")) for cell in json.loads(text)["cells"]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _brought(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / _BROUGHT)
    except DataError:  # the first time, or damaged: then whatever differs counts as the reader's and stays
        return {}


def lesson_folder(folder: str | Path | None = None) -> Path:
    """Where a reader works: the named folder, the current one if lessons were copied into it, or `lab_folder()`."""
    if folder is None:
        folder = Path.cwd() if (Path.cwd() / _BROUGHT).exists() else lab_folder()
    return Path(folder).resolve()


def draw_data() -> None:
    """Draw the synthetic images that lessons train on, each task with its bar, so that no first cell waits for them.

    Once on a machine: what is drawn already is left alone. Raises DataError where nothing can be written.
    """
    from ..tasks.captions import load_captions
    from ..tasks.load import load_task, pick_tasks

    for name in pick_tasks(3, "synthetic"):
        load_task(name, "synthetic")
    load_captions("scenes")


def open_lab(folder: str | Path) -> None:
    """Open JupyterLab on the start page of a folder of lessons; return when it is closed.

    What it must not ask (news, updates, which viewer) is settled by the files in jupyter/, and so is the kernel: it
    loads `first_cells`. Root may open it, for containers often have no other user. Which tabs were open is kept with
    the lessons, apart from the reader's other work.
    """
    from jupyterlab.labapp import LabApp

    ours = str(Path(__file__).parent / "jupyter")
    for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH"):
        os.environ[name] = os.pathsep.join(filter(None, [ours, os.environ.get(name)]))
    LabApp.launch_instance([f"--ServerApp.root_dir={folder}", f"--LabApp.workspaces_dir={folder}/.workspaces"])
