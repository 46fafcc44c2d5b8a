"""What an audit of images says: a table and sentences."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from .fgvc import FGVC

SHOWN = 20  # problems printed by str()

Labelled: TypeAlias = tuple[Any, Any]  # an image and its label
Pairs: TypeAlias = list[tuple[Any, Any, Any, Any]]  # image, label, the image that it repeats, label of that


@dataclass(frozen=True)
class Audit:
    """`table`: one row per task and split. `problems`: one sentence each, naming the file and the fix.

    Columns: images; expected (the published count, absent where there is none); classes that occur; declared
    classes; smallest and largest share of an occurring class, 0 to 1; duplicates: images whose pixels occurred before
    in the same list; shared: images whose pixels also occur in an earlier split (train800, val200, test;
    for train800val200: in test); unreadable; wrong_mode. Of a reader's own images and of FGVC, near-copies count as
    duplicates. Columns that need pixels are empty after decode=False.
    """

    table: pd.DataFrame
    problems: list[str]

    @property
    def differing(self) -> pd.DataFrame:
        """The rows whose number of images is not the published one."""
        return self.table[(self.table["images"] != self.table["expected"]).fillna(False)]

    def summary(self) -> str:
        """One sentence."""
        tasks, differing = self.table["task"].nunique(), self.differing
        text = f"{_count(tasks, 'task')}, {_count(len(self.problems), 'problem')}."
        if len(differing):
            names = differing["task"].unique()
            benchmarks = " or ".join(sorted({"FGVC" if name in FGVC else "VTAB-1k" for name in names}))
            text += (
                f" {len(differing)} of {len(self.table)} splits have not the published size "
                f"({', '.join(names)}): results on them are not {benchmarks} results."
            )
        return text

    def __str__(self) -> str:
        hidden = len(self.problems) - SHOWN
        more = [f"... and {hidden} more, see Audit.problems"] if hidden > 0 else []
        text = "\n".join([self.table.to_string(index=False), "", self.summary(), *self.problems[:SHOWN], *more])
        return text.encode(errors="backslashreplace").decode()  # names that are not UTF-8 could not be printed


def _count(n: int, word: str) -> str:
    """A number with its noun.

    >>> _count(1, "task"), _count(3, "problem")
    ('1 task', '3 problems')
    """
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def joined(audits: Sequence[Audit]) -> Audit:
    """Several audits as one."""
    problems = [problem for each in audits for problem in each.problems]
    rows = [row for each in audits for row in each.table.to_dict("records")]
    return Audit(pd.DataFrame(rows).convert_dtypes(), problems)


def balance(entries: Sequence[Labelled]) -> dict[str, Any]:
    """The columns of the table that need the labels alone.

    >>> balance([("a.png", 0), ("b.png", 0), ("c.png", 0), ("d.png", 1)])
    {'images': 4, 'classes': 2, 'smallest': 0.25, 'largest': 0.75}
    """
    labels = Counter(label for _, label in entries)
    shares = [n / len(entries) for n in labels.values()]
    return {
        "images": len(entries),
        "classes": len(labels),
        "smallest": min(shares, default=None),
        "largest": max(shares, default=None),
    }


def repeated(
    entries: Sequence[Labelled], keys: Mapping[Any, Hashable], others: Sequence[Labelled]
) -> tuple[Pairs, Pairs]:
    """Images of a list that repeat another of it, and those that repeat one of the others.

    keys: of each image, equal for equal images, None where unknown.

    >>> keys = {"a.png": 1, "b.png": 1, "c.png": 2, "d.png": None}
    >>> repeated([("a.png", 0), ("b.png", 1), ("d.png", 0)], keys, [("c.png", 0), ("d.png", 0)])
    ([('b.png', 1, 'a.png', 0)], [])
    """
    before = {keys[image]: (image, label) for image, label in others if keys[image] is not None}
    own: dict[Hashable, Labelled] = {}
    twice, shared = [], []
    for image, label in entries:
        key = keys[image]
        if key is None:
            continue
        if key in before:
            shared.append((image, label, *before[key]))
        if key in own:
            twice.append((image, label, *own[key]))
        own.setdefault(key, (image, label))
    return twice, shared
