"""Claims of papers held against our tables: for each difference its size, two intervals and a verdict.

results/claims.yaml says which differences speak to which claim. The first interval is Student's over tasks (of one
task, over seeds), the second test images alone: other images of the same tasks, these very runs.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from ..common.errors import DataError, located, near
from ..results.predictions import correct
from ..results.published import FOLDER, read_table
from ..results.statistics import mean_interval, paired

MARGIN = 1.0  # points: methods closer than that are called equal
VERDICTS = ("supported here", "contradicted here", "cannot be told")
ALONE = "one seed, so open"


def read_claims() -> list[dict[str, Any]]:
    """The claims of results/claims.yaml, each with paper, claim, source, contrasts, needs and perhaps a note."""
    return yaml.safe_load((FOLDER / "claims.yaml").read_text(encoding="utf-8"))


def judged(paper: str = "") -> pd.DataFrame:
    """`judge` of the claims in results/ whose paper's name begins so.

    >>> judged("GIFT v2").head(2)[["of", "than", "tasks"]].values.tolist()
    [['gift_linear', 'lora proj', 8], ['gift_linear large', 'lora proj', 8]]
    """
    return judge([claim for claim in read_claims() if claim["paper"].startswith(paper)])


def judge(claims: list[dict[str, Any]], folder: str | Path = FOLDER) -> pd.DataFrame:
    """Every contrast of some claims -> DataFrame, a row a contrast.

    Columns: claim (its number), table, of, than, expected, tasks, seeds, ahead (tasks with a positive mean
    difference), difference, low, high (points, of perplexity: less is more), images (half of the interval over test
    images, nan without predictions) and verdict. Raises DataError for a table or a label that is not there.
    """
    rows = []
    for number, claim in enumerate(claims):
        for contrast in claim["contrasts"]:
            with located(f"claim {number + 1}, {contrast['of']} - {contrast['than']}"):
                rows.append({"claim": number, **contrast, **effect(Path(folder), **contrast)})
    return pd.DataFrame(rows)


def effect(folder: Path, table: str, of: str, than: str, expected: str) -> dict[str, Any]:
    """What a table says of one contrast: the columns of `judge` from `tasks` on."""
    file = folder / f"{table}.csv"
    runs = final_pairs(read_table(file), of, than)
    value = "test_accuracy" if "test_accuracy" in runs else "test_perplexity"
    ours, theirs = (runs[runs["label"] == label].set_index(["task", "seed"])[value] for label in (of, than))
    each = 100 * (ours - theirs) if value == "test_accuracy" else theirs - ours
    by_task = each.groupby("task").mean()
    if len(by_task) > 1:
        row: Any = paired(runs, than, by="label")[1].loc[of]
        difference, low, high = (100 * float(row[name]) for name in ("difference", "low", "high"))
    else:  # one task: over seeds
        difference, low, high = mean_interval(each)
    images, seeds = over_images(runs, correct(file, runs), of, than), runs["seed"].nunique()
    # Both intervals together; nan is none.
    least, most = float(np.fmin(low, difference - images)), float(np.fmax(high, difference + images))
    return {
        "tasks": len(by_task),
        "seeds": seeds,
        "ahead": int((by_task > 0).sum()),
        "difference": difference,
        "low": low,
        "high": high,
        "images": images,
        "verdict": verdict(least, most, expected) if seeds > 1 else ALONE,
    }


def final_pairs(table: pd.DataFrame, of: str, than: str) -> pd.DataFrame:
    """The final runs of two labels on the tasks and seeds that both have. Raises DataError where there are none."""
    if "train_split" in table:
        table = table[table["train_split"] != "train800"]
    for label in (of, than):
        if label not in set(table["label"]):
            raise DataError(f"no final run is labelled {label!r}{near(label, sorted(set(table['label'])))}")
    runs = table[table["label"].isin([of, than])]
    both = runs.groupby(["task", "seed"])["label"].transform("nunique") == 2
    if not both.any():
        raise DataError("the two have no task and seed in common")
    return runs[both]


def over_images(runs: pd.DataFrame, right: Mapping[str, np.ndarray], of: str, than: str) -> float:
    """Half of the 95 % interval of the mean difference, in points, that other test images of the same tasks leave.

    right: {run: whether each image was right}. Per image the difference is averaged over seeds.
    """
    if not set(runs["run"]) <= set(right):
        return np.nan
    variances = []
    for _, rows in runs.groupby("task"):
        ours, theirs = (
            np.mean([right[run] for run in rows["run"][rows["label"] == label]], 0) for label in (of, than)
        )
        variances.append(np.var(ours - theirs, ddof=1) / len(ours))
    return float(stats.norm.ppf(0.975) * 100 * np.sqrt(np.sum(variances)) / len(variances))


def verdict(low: float, high: float, expected: str) -> str:
    """Of an interval in points, where "better" or "equal" (within MARGIN) is expected.

    >>> [verdict(low, high, "better") for low, high in ((0.2, 1.0), (-0.3, 2.0), (-2.0, -0.1))]
    ['supported here', 'cannot be told', 'contradicted here']
    >>> [verdict(low, high, "equal") for low, high in ((-0.4, 0.9), (-1.2, 0.3), (-3.0, -1.2))]
    ['supported here', 'cannot be told', 'contradicted here']
    """
    least, most = (0.0, np.inf) if expected == "better" else (-MARGIN, MARGIN)
    if low > least and high < most:
        return VERDICTS[0]
    return VERDICTS[1] if high < least or low > most else VERDICTS[2]


def as_markdown(claims: list[dict[str, Any]], judged: pd.DataFrame) -> str:
    """results/claims.md: a section a paper, each claim with its source, our differences and what it would take."""
    return "\n".join(_lines(claims, judged)) + "\n"


def _lines(claims: list[dict[str, Any]], judged: pd.DataFrame) -> Iterator[str]:
    yield "# Claims of the papers, held against our tables\n"
    yield (
        "Made by `peftlab claims` from the tables in this folder; do not edit. Differences are in points of test "
        "accuracy (captioning: of perplexity, by how much ours is lower), in brackets their 95 % interval over tasks "
        "(Student's; of one task over seeds); behind ± half of the one that test images alone leave. *Supported "
        "here*: both lie above 0 (where equal is expected: within a point of 0); *contradicted here*: they lie below. "
        "Each interval is for its row alone: nothing is corrected for how many rows there are. "
        "Of our backbones, subsets and short trainings, that is: what does not show here may be true where the papers "
        "measured.\n"
    )
    paper = ""
    for number, claim in enumerate(claims):
        if claim["paper"] != paper:
            paper = claim["paper"]
            yield f"## {paper}\n"
        yield f"### {claim['claim'][0].upper()}{claim['claim'][1:]}\n"
        yield f"As printed: {claim['source']}.{'' if claim['contrasts'] else ' No table of ours speaks to it.'}\n"
        if claim["contrasts"]:
            yield "| table | ours | expected | difference | ± images | ahead | seeds | verdict |\n|" + 8 * "---|"
        for row in judged[judged["claim"] == number].to_dict("records"):
            interval = "one seed" if np.isnan(row["low"]) else f"{row['low']:+.2f} to {row['high']:+.2f}"
            images = "" if np.isnan(row["images"]) else f"{row['images']:.2f}"
            ours = f"{row['of']} − {row['than']}".replace("|", "\\|")
            size = (
                f"{row['difference']:+.2f} ({interval}) | {images} | {row['ahead']} of {row['tasks']} | {row['seeds']}"
            )
            yield f"| {row['table']} | {ours} | {row['expected']} | {size} | {row['verdict']} |"
        if claim["contrasts"]:
            yield ""
        if "note" in claim:
            yield f"{claim['note'].strip()}\n"
        yield f"What it would take: {claim['needs']}.\n"
