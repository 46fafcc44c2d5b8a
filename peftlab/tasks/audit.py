"""Look at every image and every list of a folder in the VTAB-1k layout: the work behind `peftlab data audit`."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd

from ..common.errors import DataError
from ..common.progress import progress
from .task import as_rgb, open_image
from .vtab1k import SPLITS, VTAB, TaskSpec, list_lines, parse_line, read_classes

DISJOINT = ("train800", "val200", "test")
SHOWN = 20  # problems printed by str()

Entry: TypeAlias = tuple[Path, int]  # an image and its label
Lists: TypeAlias = dict[str, list[Entry]]  # of each split


class Finding(NamedTuple):
    """What was found of one image. `digest`: sha256 of its size and decoded RGB pixels, where they were read."""

    digest: bytes | None = None
    fault: Literal["unreadable", "mode"] | None = None
    problem: str | None = None  # one sentence


@dataclass(frozen=True)
class Audit:
    """`table`: one row per task and split. `problems`: one sentence each, naming the file and the fix.

    Columns: images; expected (VTAB-1k's count, absent for tasks VTAB does not know); classes that occur; declared
    classes; smallest and largest share of an occurring class, 0 to 1; duplicates: images whose pixels occurred before
    in the same list; shared: images whose pixels also occur in an earlier split (train800, val200, test;
    for train800val200: in test); unreadable; wrong_mode. Columns that need pixels are empty after decode=False.
    """

    table: pd.DataFrame
    problems: list[str]

    @property
    def differing(self) -> pd.DataFrame:
        """The rows whose number of images is not that of VTAB-1k."""
        return self.table[(self.table["images"] != self.table["expected"]).fillna(False)]

    def summary(self) -> str:
        """One sentence."""
        tasks, differing = self.table["task"].nunique(), self.differing
        text = f"{_count(tasks, 'task')}, {_count(len(self.problems), 'problem')}."
        if len(differing):
            text += (
                f" {len(differing)} of {len(self.table)} splits have not VTAB-1k's size "
                f"({', '.join(differing['task'].unique())}): results on them are not VTAB-1k results."
            )
        return text

    def __str__(self) -> str:
        hidden = len(self.problems) - SHOWN
        more = [f"... and {hidden} more, see Audit.problems"] if hidden > 0 else []
        return "\n".join([self.table.to_string(index=False), "", self.summary(), *self.problems[:SHOWN], *more])


def _count(n: int, word: str) -> str:
    """A number with its noun.

    >>> _count(1, "task"), _count(3, "problem")
    ('1 task', '3 problems')
    """
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def audit(folder: str | Path, decode: bool = True) -> Audit:
    """Audit one task folder, or every task in a root folder. It goes on after every problem.

    decode=False reads the lists and looks whether the images exist, but opens none. Raises DataError only when there
    is nothing to audit.
    """
    folder = Path(folder).expanduser()
    tasks = find_tasks(folder)
    if not tasks:
        raise DataError(f"{folder}: no task in the VTAB-1k layout here. Name the folder that holds cifar/, dtd/, ...")
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for task in tasks:
        more_rows, more_problems = _audit_task(task, decode)
        rows += more_rows
        problems += more_problems
    return Audit(pd.DataFrame(rows).convert_dtypes(), problems)


def find_tasks(folder: str | Path) -> list[Path]:
    """The task folders: `folder` itself or those in it, known by a list file or by the name of a VTAB task."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    if _has_list(folder):
        return [folder]
    return sorted(p for p in folder.iterdir() if p.is_dir() and (p.name in VTAB or _has_list(p)))


def _has_list(folder: Path) -> bool:
    return any((folder / f"{split}.txt").is_file() for split in SPLITS)


def _audit_task(folder: Path, decode: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """-> (rows of the table, problems) of one task."""
    problems: list[str] = []
    spec = VTAB.get(folder.name)
    declared = _declared(folder, spec, problems)
    lists = {split: _entries(folder, split, declared, problems) for split in SPLITS}
    wanted = dict.fromkeys(path for entries in lists.values() for path, _ in entries)
    seen = {path: _inspect(path, decode) for path in progress(wanted, desc=folder.name, unit="image")}
    problems += [finding.problem for finding in seen.values() if finding.problem]
    rows = []
    for split in SPLITS:
        entries, labels = lists[split], Counter(label for _, label in lists[split])
        size = None
        if spec:
            size = {"train800": 800, "val200": 200, "train800val200": 1000, "test": spec.test_size}[split]
        row: dict[str, Any] = {"task": folder.name, "split": split, "images": len(entries), "expected": size}
        row |= {"classes": len(labels), "declared": declared}
        row["smallest"] = min(labels.values()) / len(entries) if entries else None
        row["largest"] = max(labels.values()) / len(entries) if entries else None
        row["duplicates"], row["shared"] = _repeats(folder, split, lists, seen, problems) if decode else (None, None)
        row["unreadable"] = sum(seen[path].fault == "unreadable" for path, _ in entries)
        row["wrong_mode"] = sum(seen[path].fault == "mode" for path, _ in entries) if decode else None
        rows.append(row)
    _compare_union(folder, lists, seen, decode, problems)
    return rows, problems


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
    before = {seen[path].digest: (path, label) for other in others for path, label in lists[other]}
    own: dict[bytes, Entry] = {}
    twice, shared = [], []
    for path, label in lists[split]:
        digest = seen[path].digest
        if digest is None:
            continue
        if digest in before:
            shared.append((path, label, *before[digest]))
        if digest in own:
            twice.append((path, label, *own[digest]))
        own.setdefault(digest, (path, label))
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
