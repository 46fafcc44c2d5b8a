"""Look at every image of a reader's own folder, or of an FGVC task, before any split is made."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import joblib
import numpy as np
import pandas as pd
from jaxtyping import UInt8

from ...common.errors import DataError
from ...common.progress import progress
from ..fgvc import FGVC, LISTS, fgvc_task
from ..findings import Audit, Pairs, balance, repeated
from .entries import Entry, Stored, class_names, open_entry, plain, task_name, with_splits
from .image_folder import SUFFIXES, read_place, visible_files
from .split import copies, thumbnail

NEEDED = 3  # different images of a class, to train, to choose and to test on
PARTS = ("train", "val", "test")


class Look(NamedTuple):
    """What was found of one image."""

    thumbnail: UInt8[np.ndarray, "16 16 3"] | None = None
    fault: Literal["unreadable", "mode"] | None = None
    problem: str | None = None  # one sentence


def audit_own(place: Path, decode: bool = True) -> Audit:
    """Audit class folders, a CSV file or a saved image set. Raises DataError where no image can be found in it."""
    problems: list[str] = []
    entries = with_splits(read_place(place, problems.append))
    if not entries:
        raise DataError(
            problems[0] if problems else f"{place}: no images. Put those of each class into its own folder"
        )
    class_names(place, entries, problems.append)
    if place.is_dir() and isinstance(entries[0].path, Path):
        problems += _strays(place)
    found = _audit(task_name(place), str(place), entries, {}, decode)
    return Audit(found.table, problems + found.problems)


def audit_fgvc(name: str, root: Path, decode: bool = True) -> Audit:
    """Audit an FGVC task. Raises DataError where its lists cannot be read."""
    task, spec = fgvc_task(name, root), FGVC[name]
    lists = {parts[0]: task.split(split) for split, parts in LISTS.items() if len(parts) == 1}
    entries = [
        Entry(path, task.classes[label], part)
        for part, (paths, labels) in lists.items()
        for path, label in zip(paths, labels, strict=True)
    ]
    return _audit(name, str(task.folder), entries, {"test": spec.test_size}, decode)


def _strays(place: Path) -> list[str]:
    """A sentence about the files in class folders that are no images by their suffix, if there are any."""
    below = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")]
    odd = [file for folder in sorted(below) for file in visible_files(folder) if file.suffix.lower() not in SUFFIXES]
    if not odd:
        return []
    kinds = Counter(file.suffix.lower() or "no suffix" for file in odd).most_common()
    says = ", ".join(f"{n} of {kind}" for kind, n in kinds)
    return [
        f"{place}: {len(odd)} files beside the images are left out ({says}; first: {odd[0].relative_to(place)}). "
        "Photographs among them, as .heic, must be saved as JPEG"
    ]


def _audit(name: str, place: str, entries: Sequence[Entry], sizes: dict[str, int], decode: bool) -> Audit:
    """The table and the problems of images that are split already or not yet ("all")."""
    looks = _look_at(entries, decode)
    problems = [look.problem for look in looks if look.problem]
    good = [i for i, look in enumerate(looks) if look.thumbnail is not None]
    keys: dict[int, Any] = dict.fromkeys(range(len(entries)))
    if good:
        numbers = copies(np.array([looks[i].thumbnail for i in good]))
        keys |= {i: int(number) for i, number in zip(good, numbers, strict=True)}
    given = [part for part in PARTS if any(entry.split == part for entry in entries)]
    labelled = [(i, entry.label) for i, entry in enumerate(entries)]
    lists = {part: [each for each in labelled if entries[each[0]].split == part] for part in given}
    lists = lists or {"all": labelled}
    rows = []
    for number, (part, members) in enumerate(lists.items()):
        earlier = list(lists)[:number]
        twice, shared = repeated(members, keys, [each for other in earlier for each in lists[other]])
        where = f"{place}: {part}" if given else place
        problems += [_says(where, len(members), twice, entries, "in the same list")] if twice else []
        problems += [_says(where, len(members), shared, entries, f"in {' or '.join(earlier)}")] if shared else []
        faults = Counter(looks[i].fault for i, _ in members)
        labels = balance(members)
        row = {"task": name, "split": part, "images": labels.pop("images"), "expected": sizes.get(part)}
        row |= {"classes": labels.pop("classes"), "declared": len({entry.label for entry in entries})} | labels
        row["duplicates"], row["shared"] = (len(twice), len(shared)) if decode else (None, None)
        row |= {"unreadable": faults["unreadable"], "wrong_mode": faults["mode"] if decode else None}
        rows.append(row)
    problems += _too_few(place, entries, keys if decode else None, given)
    return Audit(pd.DataFrame(rows), problems)


def _look_at(entries: Sequence[Entry], decode: bool) -> list[Look]:
    if not decode:
        return [Look() if isinstance(e.path, Stored) or e.path.is_file() else _absent(e) for e in entries]
    bar = progress(entries, desc="looking at every image", unit="image")
    return joblib.Parallel(n_jobs=-1, prefer="threads")(joblib.delayed(_look)(entry) for entry in bar)


def _absent(entry: Entry) -> Look:
    return Look(fault="unreadable", problem=f"{entry.path}: in a list, but no such file")


def _look(entry: Entry) -> Look:
    """Open an image."""
    fault: Literal["unreadable", "mode"] = "unreadable"
    try:
        image = open_entry(entry.path)
        fault = "mode"
        return Look(thumbnail(plain(image, entry.path)))
    except DataError as error:
        return Look(fault=fault, problem=str(error))


def _says(where: str, number: int, pairs: Pairs, entries: Sequence[Entry], other: str) -> str:
    """A sentence about near-copies."""
    unlike = sum(label != twin for _, label, _, twin in pairs)
    first = f"{entries[pairs[0][0]].path} and {entries[pairs[0][2]].path}"
    fix = "Keep one of each, or say so with the results"
    if entries[pairs[0][0]].split is None:
        fix = "peftlab keeps them on one side of its split"
    if unlike:
        fix = "One of two labels is probably wrong: correct it, or remove both images"
    return (
        f"{where}: {len(pairs)} of {number} images are near-copies of another {other}, {unlike} of them with another "
        f"label (first: {first}). {fix}"
    )


def _too_few(place: str, entries: Sequence[Entry], keys: dict[int, Any] | None, given: Sequence[str]) -> list[str]:
    """Sentences on classes that cannot be trained or tested. keys: None counts images, else different ones."""
    different: dict[tuple[str, str], set[Any]] = {}
    for i, entry in enumerate(entries):
        key = i if keys is None else keys[i]
        if key is not None:
            different.setdefault((entry.label, entry.split or "all"), set()).add(key)
    classes = sorted({entry.label for entry in entries})
    problems = []
    for part in [part for part in given if part != "val"] or ["all"]:
        numbers = {label: len(different.get((label, part), ())) for label in classes}
        least = 1 if given else NEEDED
        few = [label for label in classes if numbers[label] < least]
        if few:
            fewest = min(few, key=numbers.__getitem__)
            problems.append(
                f"{place}: {len(few)} of {len(classes)} classes have fewer than {least} different images"
                f"{f' in {part}' if given else ', to train, to choose and to test on'} (first: {fewest!r}, "
                f"{numbers[fewest]}). Add some, or remove these classes"
            )
    return problems
