"""The tables in results/: what we measured, and what others printed."""

import csv
import io
from pathlib import Path

import pandas as pd

from ..common.errors import DataError, near
from ..common.paths import REPOSITORY

FOLDER = REPOSITORY / "results"


def read_table(file: str | Path) -> pd.DataFrame:
    """A CSV file -> DataFrame. Raises DataError, naming the file, where it is missing, damaged or no table."""
    try:
        if Path(file).exists() and not Path(file).is_file():  # a pipe would be waited for
            raise ValueError("not a file")
        text = Path(file).read_text(encoding="utf-8-sig")
        _check_cells(text)
        return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])  # "NA" and "None" are names
    except (OSError, ValueError, csv.Error) as error:  # pandas' own errors are ValueErrors
        fix = "Save it as CSV UTF-8 with commas, or make it anew"
        raise DataError(f"{file}: cannot be read as a table: {error}. {fix}") from None


def _check_cells(text: str) -> None:
    """Raise ValueError for a line that has not a cell for each column, which pandas would fill up or shift."""
    first = text.partition("\n")[0]
    for mark in (";", "\t"):  # as spreadsheets write it where a comma stands in numbers
        if mark in first and "," not in first:
            raise ValueError(f"its cells are parted by {mark!r}")
    lines = csv.reader(io.StringIO(text), strict=True)
    columns = next(lines, [])
    if len(set(columns)) < len(columns):
        raise ValueError("a column stands twice")
    for cells in lines:
        if cells and len(cells) != len(columns):
            raise ValueError(f"{len(cells)} cells in {len(columns)} columns, line {lines.line_num}")


def read_results(name: str) -> pd.DataFrame:
    """A table of results/, by its name without .csv -> DataFrame. Raises DataError, naming those that are there.

    >>> final = read_results("comparison").query("train_split == 'train800val200'")
    >>> final["label"].nunique(), final["task"].nunique(), final["seed"].nunique(), len(final)
    (19, 9, 3, 513)
    """
    known = sorted(file.stem for file in FOLDER.glob("*.csv"))
    if name not in known:
        raise DataError(f"{FOLDER} has no table {name!r}{near(name, known)}")
    return read_table(FOLDER / f"{name}.csv")


def published_means(published: pd.DataFrame) -> pd.DataFrame:
    """Means over VTAB-1k's 19 tasks as printed, or from the tasks that were -> row, method, parameters_m, source, %.

    published: `read_results("published")`. Only rows that belong to a method of this package.

    >>> means = published_means(read_results("published"))
    >>> for row in means[means["row"] == "VPT-deep"].itertuples():  # the same method in two protocols
    ...     print(row.source.split()[0], round(row[-1], 2))
    FacT, 69.43
    OSU-MLB 71.34
    """
    rows = published[published["method"].notna()]
    keys = ["row", "method", "parameters_m", "source"]
    printed = rows[rows["task"] == "mean over tasks"].set_index(keys)["accuracy"]
    averages = ("natural", "specialized", "structured", "mean over tasks", "mean over groups")
    tasks = rows[~rows["task"].isin(averages)].groupby(keys, sort=False)["accuracy"].mean()
    return pd.concat([tasks, printed]).rename("mean over tasks").reset_index()
