"""Which method to take, in words: the cheapest of those that are not significantly different from the best."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..common.tensors import read_tensors


class Advice(NamedTuple):
    """method: the one to take. text: Markdown, with the numbers."""

    method: str
    text: str


def right_by_image(final: pd.DataFrame) -> dict[str, np.ndarray]:
    """{method: whether each seed was right on each test image, bool [seeds, images]} of runs of one task.

    final: with the columns method, seed and folder, whose predictions are read.
    """
    found: dict[str, list[np.ndarray]] = {}
    for row in final.sort_values("seed").to_dict("records"):
        kept = read_tensors(f"{row['folder']}/predictions.safetensors")[0]
        found.setdefault(row["method"], []).append((kept["test"] == kept["labels test"]).numpy())
    return {name: np.stack(seeds) for name, seeds in found.items()}


def advise(
    table: pd.DataFrame, cost: Mapping[str, float], images: int, seeds: int, mergeable: Collection[str]
) -> Advice:
    """Of the methods that are not significantly behind the best, the one of least cost; one that merges, if any does.

    table: from `images.against_best`. cost: arithmetic of a training step of each method, in GFLOPs. images, seeds:
    how many the table was measured with.
    """
    if len(table) == 1:
        more = "More minutes, or more methods, make a comparison."
        return Advice(
            table.index[0],
            f"**Only `{table.index[0]}` was trained**, so it is compared with nothing: {_top(table)}. {more}",
        )
    best, alike = table.index[0], list(table.index[~table["behind"]])
    method = min([name for name in alike if name in mergeable] or alike, key=lambda name: cost[name])
    lines = [f"**Take `{method}`.** {_why(table, method, cost)}"]
    if others := [name for name in alike if name not in (best, method)]:
        lines.append(f"**Not significantly different** from `{best}`: {_list(table, others)}.")
    if table["behind"].any():
        lines.append(f"Significantly behind `{best}`: {_list(table, list(table.index[table['behind']]))}.")
    if len(alike) > 1:
        lines.append(_limits(table, method, images, seeds))
    return Advice(method, "\n\n".join(lines))


def _why(table: pd.DataFrame, method: str, cost: Mapping[str, float]) -> str:
    best, row = table.index[0], table.loc[method]
    if method == best:
        return f"It has the best mean: {_top(table)}."
    return (
        f"The best mean has `{best}`: {_top(table)}. `{method}` has {100 * row['accuracy']:.1f} %, which is **not "
        f"significantly different** ({_points(row)}), and its training step takes {cost[method] / cost[best]:.2f} "
        "times the arithmetic."
    )


def _top(table: pd.DataFrame) -> str:
    accuracy, low, high = (100 * table[column].iloc[0] for column in ("accuracy", "low", "high"))
    return f"{accuracy:.1f} % of the test images right (95 % interval {low:.1f} to {high:.1f})"


def _limits(table: pd.DataFrame, method: str, images: int, seeds: int) -> str:
    """What *not significantly different* leaves open."""
    best, rest = table.index[0], table.iloc[1:]
    seen = 100 * ((rest["below high"] - rest["below low"]) / 2)[~rest["behind"]].max()
    more = "more test images" if seeds > 1 else "more test images, and a second seed,"
    take = "" if method == best else f"; until then `{best}` is the careful choice"
    return (
        f"*Not significantly different* does not mean equal: {images} test images and {seeds} seed{'s' * (seeds > 1)} "
        f"cannot show differences below about {seen:.1f} points. If those matter to you, {more} will tell{take}."
    )


def caption(table: pd.DataFrame, images: int) -> str:
    """What the picture of `images.against_best` shows, in a sentence."""
    best, others, behind = table.index[0], len(table) - 1, int(table["behind"].sum())
    if not others:
        return f"Test accuracy of {best} on {images} images."
    are = "is" if 1 in (behind, others) else "are"
    return (
        f"Test accuracy of each method on {images} images, and its difference to the best: {behind} of {others} "
        f"other{'s' * (others > 1)} {are} significantly behind {best}."
    )


def runs_table(final: pd.DataFrame) -> pd.DataFrame:
    """The runs of each method in a row -> DataFrame of text and numbers, with readable columns.

    >>> runs = pd.DataFrame({"method": "lora", "seed": [0, 1], "test_accuracy": [0.9, 0.92], "train_accuracy": 1.0})
    >>> runs_table(runs.assign(lr=0.005, epochs=10, train_images=200, seconds=30.0)).iloc[0, :3].tolist()
    ['90.0, 92.0', '100.0, 100.0', '0.005']
    """
    percent = lambda values: ", ".join(f"{100 * value:.1f}" for value in values)  # noqa: E731
    by = final.sort_values("seed").groupby("method", sort=False)
    columns = {
        "test accuracy (%), each seed": by["test_accuracy"].agg(percent),
        "training accuracy (%)": by["train_accuracy"].agg(percent),
        "learning rate": by["lr"].first().map("{:.4g}".format),
        "epochs": by["epochs"].first(),
        "training images": by["train_images"].first(),
        "seconds a run": by["seconds"].mean().round(1),
    }
    return pd.DataFrame(columns).rename_axis(index=None, columns="method")


def costs_table(card: pd.DataFrame) -> pd.DataFrame:
    """A cost card as text with readable columns."""
    columns = {
        "trained parameters": card["parameters"].map("{:,}".format),
        "GFLOPs, training": card["gflops_training"].map("{:.2f}".format),
        "peak memory (MiB)": card["peak_mib"].map("{:.0f}".format),
        "training step (ms)": card["step_ms"].map("{:.0f}".format),
        "one image (ms)": card["latency_ms"].map("{:.1f}".format),
        "a plain ViT at the end": card["merged"].map({True: "yes", False: "no"}),
    }
    return pd.DataFrame(columns).rename_axis(index=None, columns="method")


def _list(table: pd.DataFrame, names: list[str]) -> str:
    return ", ".join(f"`{name}` ({_points(table.loc[name])})" for name in names)


def _points(row: Any) -> str:
    """A difference to the best with its interval.

    >>> _points(pd.Series({"below": 0.01, "below low": -0.004, "below high": 0.024}))
    '-1.0 points, -2.4 to +0.4'
    """
    middle, low, high = (0 - 100 * row[name] for name in ("below", "below high", "below low"))
    return f"{middle:+.1f} points, {low:+.1f} to {high:+.1f}"
