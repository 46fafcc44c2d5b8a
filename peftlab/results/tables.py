"""A comparison as a table of text: methods x tasks with intervals, both averages, costs."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.errors import DataError, PeftlabError
from .ledger import task_titles
from .statistics import averages, mean_interval

COSTS = {
    "parameters": ("parameters", "{:,.0f}"),
    "gflops_training": ("GFLOPs", "{:.2f}"),
    "peak_mib": ("MiB", "{:.0f}"),
    "step_ms": ("ms", "{:.0f}"),
}
COMPARED = ("label", "task", "group", "synthetic", "seed", "train_split", "test_accuracy")


def comparison_table(ledger: pd.DataFrame, by: str = "label", costs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Test accuracies in % -> DataFrame of text, a row a method, the best mean first.

    A task's column: mean over seeds and, from three of them on, half of Student's 95 % interval (of two seeds it is
    nine standard deviations). Averages, with intervals over tasks, are there where every method has every task and
    seed and all tasks are of one kind. costs: a cost card indexed like the methods;
    its columns come first.
    """
    order = ledger.groupby("task")["group"].first().sort_values(kind="stable").index
    values = 100 * ledger.set_index([by, "task"])["test_accuracy"]
    cells = values.groupby([by, "task"]).apply(_with_half_interval).unstack().reindex(columns=order)
    table = cells.fillna("").rename(columns=task_titles(ledger))
    try:
        means = 100 * averages(ledger, by)
    except PeftlabError:
        return table  # incomplete or of both kinds; an average would compare different things
    for name in ("mean over tasks", "mean over groups"):
        ends = zip(means[name], means[f"{name} low"], means[f"{name} high"], strict=True)
        table[name] = [
            f"{mean:.1f}" + ("" if np.isnan(low) else f" ({low:.1f} to {high:.1f})") for mean, low, high in ends
        ]
    if costs is not None:
        for column, (title, form) in reversed(COSTS.items()):
            table.insert(0, title, costs.loc[table.index, column].map(form.format))
    return table.loc[means["mean over tasks"].sort_values(ascending=False).index]


def final_runs(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows of a sweep's table that are compared. Raises DataError, naming its file, for none and for bad ones."""
    _require_columns(table, file, COMPARED)
    tags = table["synthetic"].astype(str)  # one other word makes text of them all, and "False" would count as true
    if (other := tags[~tags.isin(["True", "False"])]).size:
        raise DataError(f"{file}: synthetic holds {other.iloc[0]}, which is neither True nor False. Correct its row")
    table = table[table["train_split"] == "train800val200"]
    if table.empty:
        raise DataError(f"{file}: no final runs (train_split train800val200) in it yet; give the sweep again")
    known = pd.to_numeric(table["test_accuracy"], errors="coerce").between(0, 1)
    if not known.all():
        value = table.loc[~known, "test_accuracy"].iloc[0]
        raise DataError(f"{file}: test_accuracy holds {value}, which is no number from 0 to 1. Correct its row")
    for column in ("label", "task", "group", "seed"):
        if table[column].isna().any():
            raise DataError(f"{file}: {column} holds nan, which is no name. Correct its row")
    keys = ["label", "task", "seed"]
    if twice := list(table.loc[table.duplicated(keys), keys].itertuples(index=False)):
        named = "; ".join(f"{label} on {task}, seed {seed}" for label, task, seed in twice[:3])
        raise DataError(f"{file}: {len(twice)} of its rows are there already ({named}). Take them out")
    return table


def cost_rows(table: pd.DataFrame, file: Path, methods: Iterable[str]) -> pd.DataFrame:
    """The rows of a cost card for some methods, by method.

    Raises DataError, naming its file, for a method that is missing or stands twice and for words in place of numbers.
    """
    _require_columns(table, file, ["method", *COSTS])
    wanted, names = set(methods), table["method"].astype(str)
    table = table[names.isin(wanted)]
    if missing := sorted(wanted - set(names)):
        raise DataError(f"{file}: has no row {', '.join(missing)}. Make it with: peftlab costs --grid --csv")
    if (counts := table["method"].value_counts()).max() > 1:
        raise DataError(f"{file}: {counts.index[0]} has {counts.iloc[0]} rows. Leave one of them")
    for column in COSTS:
        if (words := table[column][pd.to_numeric(table[column], errors="coerce").isna()]).size:
            raise DataError(f"{file}: {column} holds {words.iloc[0]}, which is no number. Correct its row")
    return table.set_index("method")


def require_same_parameters(table: pd.DataFrame, file: Path, costs: pd.DataFrame, costs_file: Path) -> None:
    """Raise DataError where a card is of other options than those that val200 chose."""
    if "parameters" not in table:
        return
    of_card = costs["parameters"].to_dict()
    for label, chosen in table.groupby("label")["parameters"].unique().items():
        if len(chosen) == 1 and chosen[0] != (there := of_card[label]):
            raise DataError(
                f"{costs_file}: {label} has {there:,} parameters, but {chosen[0]:,} in {file}, where other options "
                "were chosen. Leave these alone in the grid, and make the card again with: peftlab costs --grid --csv"
            )


def _require_columns(table: pd.DataFrame, file: Path, columns: Iterable[str]) -> None:
    """Raise DataError, naming its file, where a table lacks columns."""
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{file}: has no column {', '.join(missing)}, so it is another table. Name the right one")


def _with_half_interval(values: pd.Series) -> str:
    mean, _, high = mean_interval(values)
    return f"{mean:.1f}" if len(values) < 3 else f"{mean:.1f} ± {high - mean:.1f}"


def markdown(table: pd.DataFrame) -> str:
    """A DataFrame of text as a Markdown table, its index first and as code.

    >>> print(markdown(pd.DataFrame({"dtd": ["68.2"]}, index=pd.Index(["lora"], name="method"))))
    | method | dtd |
    | --- | --- |
    | `lora` | 68.2 |
    """
    rows = [[table.index.name, *table.columns], ["---"] * (len(table.columns) + 1)]
    rows += [[f"`{name}`", *row] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
