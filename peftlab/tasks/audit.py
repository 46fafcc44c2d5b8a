"""Look at every image and every list of a folder in the VTAB-1k layout: the work behind `peftlab data audit`.

Other folders are looked at by `own.audit`.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd

from ..common.errors import DataError
from ..common.paths import expanded
from ..common.progress import progress
from .fgvc import FGVC, fgvc_folder
from .findings import Audit, balance, joined, repeated
from .own.audit import audit_fgvc, audit_own
from .task import as_rgb, open_image
from .vtab1k import SPLITS, VTAB, TaskSpec, find_tasks, list_lines, parse_line, read_classes

DISJOINT = ("train800", "val200", "test")
Entry: TypeAlias = tuple[Path, int]  # an image and its label
Lists: TypeAlias = dict[str, list[Entry]]  # of each split


class Finding(NamedTuple):
    """What was found of one image. `digest`: sha256 of its size and decoded RGB pixels, where they were read."""

    digest: bytes | None = None
    fault: Literal["unreadable", "mode"] | None = None
    problem: str | None = None  # one sentence


def audit(folder: str | Path, decode: bool = True) -> Audit:
    """Audit one task folder, every task in a root folder, or a reader's own images. It goes on after every problem.

    decode=False reads the lists and looks whether the images exist, but opens none. Raises DataError only when there
    is nothing to audit.
    """
    folder = expanded(folder)
    if not folder.exists():
        raise DataError(f"{folder}: no such folder or CSV file. Check the path")
    audits = [_audit_task(task, decode) for task in find_tasks(folder)]
    audits += [audit_fgvc(name, folder, decode) for name in FGVC if fgvc_folder(name, folder)]
    if not audits and (not folder.is_dir() or any(p.is_dir() for p in folder.iterdir())):
        audits = [audit_own(folder.resolve(), decode)]
    if not audits:
        raise DataError(
            f"{folder}: no task in the VTAB-1k layout here, and no class folders. Name the folder that holds cifar/, "
            "dtd/, ..., or that of your own images"
        )
    return joined(audits)


def _audit_task(folder: Path, decode: bool) -> Audit:
    """The audit of one task in the VTAB-1k layout."""
    problems: list[str] = []
    spec = VTAB.get(folder.name)
    declared = _declared(folder, spec, problems)
    lists = {split: _entries(folder, split, declared, problems) for split in SPLITS}
    wanted = dict.fromkeys(path for entries in lists.values() for path, _ in entries)
    seen = {path: _inspect(path, decode) for path in progress(wanted, desc=folder.name, unit="image")}
    problems += [finding.problem for finding in seen.values() if finding.problem]
    rows = []
    for split in SPLITS:
        entries = lists[split]
        size = None
        if spec:
            size = {"train800": 800, "val200": 200, "train800val200": 1000, "test": spec.test_size}[split]
        labels = balance(entries)
        row: dict[str, Any] = {"task": folder.name, "split": split, "images": labels.pop("images"), "expected": size}
        row |= {"classes": labels.pop("classes"), "declared": declared} | labels
        row["duplicates"], row["shared"] = _repeats(folder, split, lists, seen, problems) if decode else (None, None)
        row["unreadable"] = sum(seen[path].fault == "unreadable" for path, _ in entries)
        row["wrong_mode"] = sum(seen[path].fault == "mode" for path, _ in entries) if decode else None
        rows.append(row)
    _compare_union(folder, lists, seen, decode, problems)
    return Audit(pd.DataFrame(rows), problems)


def _declared(folder: Path, spec: TaskSpec | None, problems: list[str]) -> int | None:
    """Number of classes of classes.txt, else VTAB's, else None: then every label from 0 up is taken."""
    try:
        return len(read_classes(folder, spec)) or None
    except DataError as error:
        problems.append(str(error))
        return spec.num_classes if spec else None


def _entries(folder: Path, split: str, declared: int | None, problems: list[str]) -> list[Entry]:
    """The good lines of a list; the bad ones go to `problems`, where `read_split` would raise."""
    entries, lines = [], []
    try:
        lines = list_lines(folder, split)
    except DataError as error:
        problems.append(str(error))
    for number, line in lines:
        try:
            entries.append(parse_line(folder, split, number, line, declared))
        except DataError as error:
            problems.append(str(error))
    return entries


def _inspect(path: Path, decode: bool) -> Finding:
    """Open an image, or without `decode` only look whether it is there."""
    if not decode:
        missing = Finding(fault="unreadable", problem=f"{path}: in a list, but no such file")
        return Finding() if path.is_file() else missing
    fault: Literal["unreadable", "mode"] = "unreadable"
    try:
        image = open_image(path)
        fault = "mode"
        image = as_rgb(image, path)
    except DataError as error:
        return Finding(fault=fault, problem=str(error))
    return Finding(digest=hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest())


def _repeats(
    folder: Path, split: str, lists: Lists, seen: dict[Path, Finding], problems: list[str]
) -> tuple[int, int]:
    """-> (duplicates, shared) as in Audit; each kind adds one sentence with an example."""
    others = ["test"] if split == "train800val200" else list(DISJOINT[: DISJOINT.index(split)])
    keys = {path: finding.digest for path, finding in seen.items()}
    twice, shared = repeated(lists[split], keys, [entry for other in others for entry in lists[other]])
    for pairs, where in ((twice, "in the same list"), (shared, f"in {' or '.join(others)}")):
        if not pairs:
            continue
        path, _, other_path, _ = pairs[0]
        unlike = sum(label != other for _, label, _, other in pairs)
        problems.append(
            f"{folder / split}.txt: {len(pairs)} of {len(lists[split])} images have the very pixels of another "
            f"{where}, {unlike} of them with another label (first: {path.relative_to(folder)} and "
            f"{other_path.relative_to(folder)}). Remove their lines, or say so with the results"
        )
    return len(twice), len(shared)


def _compare_union(folder: Path, lists: Lists, seen: dict[Path, Finding], decode: bool, problems: list[str]) -> None:
    """train800val200 must hold the images and labels of train800 and val200. By pixels: exports copy the files."""

    def content(*splits: str) -> Counter[tuple[bytes | None, int]]:
        pairs = [(seen[path].digest, label) for split in splits for path, label in lists[split]]
        return Counter(pair for pair in pairs if pair[0] is not None or not decode)

    union, parts = content("train800val200"), content("train800", "val200")
    if union != parts:
        problems.append(
            f"{folder / 'train800val200.txt'}: not train800 and val200 together: {(parts - union).total()} of their "
            f"{'images' if decode else 'labels'} are missing, {(union - parts).total()} are in neither. "
            "Write it anew from the two lists"
        )
