"""A reader's own images as a task: a folder with a folder for each class, or a CSV of paths and labels.

    photos/cat/*.jpg, photos/dog/*.jpg                  split here, copies of one picture never on both sides
    photos/train/cat/*.jpg, photos/val/..., photos/test/...     split already (torchvision's ImageFolder layout)
    photos.csv                                          columns path, label, perhaps split (train, val or test)
    photos/dataset_info.json                            an image set that Hugging Face's datasets saved (`hf_dataset`)

Nothing is written into the folder. What else lies in it, as text files, is left alone.
"""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ...common.errors import DataError
from ...common.paths import expanded
from ..fgvc import fgvc_name
from ..files import read_text, shown
from ..task import Task
from ..vtab1k import has_lists
from .entries import SPLIT_NAMES, Entry, Tell, make_task, refuse
from .hf_dataset import read_saved, was_saved

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"}
AS_CSV = "Save it as CSV UTF-8 with commas"  # the name that spreadsheets give to it


def image_folder(place: str | Path, budget: int | None = None, seed: int = 0) -> Task:
    """The task of a folder of images or of a CSV file, split as `make_task` says.

    Raises DataError, naming file and fix, as `read_place` and `make_task` do.
    """
    place = expanded(place).resolve()
    return make_task(place, read_place(place), budget, seed)


def read_place(place: Path, tell: Tell = refuse) -> list[Entry]:
    """The images of a folder, a CSV file or a saved data set, none decoded. Raises DataError, naming file and fix.

    tell: takes a problem that leaves other images to be read; by default it is raised.
    """
    if was_saved(place):
        return read_saved(place, tell)
    _refuse_parquet(place)
    if os.path.exists(place) and not place.is_dir():
        return _read_csv(place, tell)
    return _read_folder(place, tell)


def _refuse_parquet(place: Path) -> None:
    """Raise DataError for a Parquet table, and for a folder of them without images, as a clone of the Hub is."""
    tables = [*place.glob("*.parquet"), *place.glob("*/*.parquet")]
    if place.suffix == ".parquet" and place.is_file():
        tables = [place]
    if tables and not (place.is_dir() and images(place)):
        raise DataError(
            f"{min(tables)}: a Parquet table. Read it with load_dataset of Hugging Face's datasets, write that by "
            "save_to_disk, and name the folder it made"
        )


def _read_folder(root: Path, tell: Tell) -> list[Entry]:
    """Images below class folders, or below train, val and test."""
    below = _folders(root)
    if tasks := [name for name in below if has_lists(root / name) or fgvc_name(root / name)]:
        raise DataError(f"{root}: holds tasks with lists of their own, not classes. Name one: {root / tasks[0]}")
    names = {name: SPLIT_NAMES.get(name.lower()) for name in below}
    if "train" not in names.values():
        return _classes(root, None, tell)
    if odd := [name for name, kind in names.items() if kind is None]:
        raise DataError(f"{root}: {odd[0]} stands beside train. Name it val or test, or move it away")
    return [entry for name, kind in names.items() for entry in _classes(root / name, kind, tell)]


def _classes(folder: Path, split: str | None, tell: Tell) -> list[Entry]:
    names = _folders(folder)
    if not names:
        raise DataError(f"{folder}: no folders in it. Put the images of each class into a folder of its own")
    for link in (link for name in names for link in _linked(folder / name)):
        tell(f"{link}: a link to a folder, which is not followed. Put the images themselves there, or remove it")
    found = {name: images(folder / name) for name in names}
    for name in (name for name, paths in found.items() if not paths):
        tell(f"{folder / name}: no images in this class's folder. Put some there, or remove it")
    return [Entry(path, name, split) for name, paths in found.items() for path in paths]


def images(folder: Path) -> list[Path]:
    """The images at any depth below a folder, by their suffix. Raises DataError where the folder cannot be read."""
    return [path for path in visible_files(folder) if path.suffix.lower() in SUFFIXES]


def visible_files(folder: Path) -> list[Path]:
    """The files at any depth below a folder, without hidden ones: macOS puts ._cat.jpg beside cat.jpg, no image."""
    return sorted(where / name for where, _, names in _walk(folder) for name in names)


def _linked(folder: Path) -> list[Path]:
    """The links to folders at any depth below a folder."""
    return sorted(where / name for where, below, _ in _walk(folder) for name in below if (where / name).is_symlink())


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder with the names of its folders and files, without hidden ones. Links are not followed."""
    for where, below, names in os.walk(folder, onerror=_unreadable):
        below[:] = [name for name in below if not name.startswith(".")]
        yield Path(where), below, [name for name in names if not name.startswith(".")]


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder or CSV file")
    try:
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    why = error.strerror or error
    raise DataError(f"{error.filename}: cannot be read ({why}). Make it readable for you, or move it away") from None


def _read_csv(file: Path, tell: Tell) -> list[Entry]:
    """Rows of path (relative ones start at the file), label, and perhaps split."""
    entries: list[Entry] = []
    labelled: dict[Path, tuple[str, int]] = {}
    for number, row in _rows(file):
        where, kind = f"{file}, line {number}", row.get("split") or None
        if surplus := [cell for cell in row.get(None, ()) if cell]:  # else "cat, black" would be a cat
            tell(f"{where}: more cells than columns ({shown(surplus[0])}). Put what holds a comma in quotes")
            continue
        if not (row["path"] or "").strip() or not (row["label"] or "").strip():
            tell(f"{where}: path or label is empty. Fill it in, or remove the line")
            continue
        if kind is not None and kind.lower() not in SPLIT_NAMES:
            tell(f"{where}: split {kind!r} is none of train, val, test. Correct it")
            continue
        path, label = file.parent / row["path"], row["label"].strip()
        other, line = labelled.setdefault(path, (label, number))
        if other != label:
            tell(f"{where}: {path} has the label {label!r} here and {other!r} in line {line}. Keep one of the two")
        elif os.path.lexists(path):
            entries.append(Entry(path, label, kind and SPLIT_NAMES[kind.lower()]))
        else:
            tell(f"{where}: {path}: no such file. Correct the path, or remove the line")
    if len({entry.split is None for entry in entries}) > 1:
        raise DataError(f"{file}: some lines name a split and others do not. Name it in all of them, or in none")
    return entries


def _rows(file: Path) -> list[tuple[int, dict[str | None, Any]]]:
    """The rows of a CSV file, each with the number of its (last) line. Raises DataError where it is none."""
    text = read_text(file, AS_CSV)
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)  # not by splitlines: see `vtab1k.read_lines`
    try:
        names, found = rows.fieldnames or (), [(rows.line_num, row) for row in rows]
    except csv.Error as error:
        raise DataError(f"{file}, line {rows.reader.line_num}: not a table with commas ({error}). {AS_CSV}") from None
    if missing := {"path", "label"} - set(names):
        columns, first = " and no column ".join(sorted(missing)), shown(text.partition("\n")[0])
        raise DataError(f"{file}: no column {columns} in its first line, {first}. Name them there. {AS_CSV}")
    if twice := [name for name in ("path", "label", "split") if names.count(name) > 1]:
        raise DataError(f"{file}: column {twice[0]} stands there twice. Leave one of the two")
    return found
