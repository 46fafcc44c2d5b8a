"""A reader's own images looked at before training: classes, copies, and what frozen features know of the labels."""

import warnings
from collections import Counter, defaultdict
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from ..tasks.own import entries
from ..tasks.own.image_folder import SUFFIXES
from ..tasks.own.split import copies, thumbnail
from ..tasks.task import Task, load_image
from ..tasks.vtab1k import SPLITS
from .probes import knn_accuracy, linear_probe_accuracy

DRAWS = 3  # of the training images, for each size of a learning curve
STEPS = (1 / 8, 1 / 4, 1 / 2, 1)  # of all training images
SMALL = 1.5  # points; who wants to know of less needs more test images than these


def class_counts(task: Task) -> pd.DataFrame:
    """Images of each class to train, to choose and to test on, the largest class first -> DataFrame, a row a class."""
    columns = {"train": "train800", "choose": "val200", "test": "test"}
    counts = {c: np.bincount(task.labels(split), minlength=task.num_classes) for c, split in columns.items()}
    table = pd.DataFrame(counts, index=pd.Index(task.classes, name="class"))
    return table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def balance(counts: pd.DataFrame) -> str:
    """What `class_counts` means for the reader, in a sentence or two.

    >>> balance(pd.DataFrame({"train": [60, 6], "choose": [15, 2], "test": [25, 2]}, index=["cat", "dog"]))
    'The largest class (cat) has 10.0 times the images of the smallest (dog). Who always says cat is right on 93 % of \
the test images: a model has to beat that.'
    """
    total = counts.sum(axis=1)
    most, least = total.index[0], total.index[-1]
    guess = 100 * counts["test"][most] / counts["test"].sum()
    ratio = total[most] / total[least]
    text = f"The largest class ({most}) has {ratio:.1f} times the images of the smallest ({least})."
    if ratio < 1.05:
        text = "All classes have about equally many images."
    return f"{text} Who always says {most} is right on {guess:.0f} % of the test images: a model has to beat that."


def near_copies(task: Task) -> list[list[Path]]:
    """Groups of images whose thumbnails hardly differ, the largest group first; images left out of all lists, too."""
    paths, numbers = _images(task), entries.near_copies(task)
    if numbers is None:
        made = joblib.delayed(lambda path: thumbnail(load_image(path)))
        numbers = copies(np.array(joblib.Parallel(n_jobs=-1, prefer="threads")(map(made, paths))))
    groups: dict[int, list[Path]] = defaultdict(list)
    for path, number in zip(paths, numbers, strict=True):
        groups[int(number)].append(path)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)


def _images(task: Task) -> list[Path]:
    """All that a task's folder holds, whether a list names them or not."""
    return sorted(p for p in task.folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def what_was_found(task: Task, groups: list[list[Path]]) -> pd.Series:
    """Numbers of images: read, copies among them, copies under two labels, used, left out -> Series.

    Copies of test images are left out only where the folder was split already.
    """
    labels = {path: label for split in SPLITS for path, label in zip(*task.split(split), strict=True)}
    images = len(_images(task))
    two = sum(len(Counter(labels[p] for p in group if p in labels)) > 1 for group in groups)
    counts = {
        "images read": images,
        "of them near-copies of another": sum(len(group) - 1 for group in groups),
        "groups of copies with two labels": two,
        "used": len(labels),
        "left out (budget, copies of test images)": images - len(labels),
    }
    return pd.Series(counts, name="images")


def learning_curve(
    train_x: Float[np.ndarray, "train features"],
    train_y: Int64[np.ndarray, " train"],
    test_x: Float[np.ndarray, "test features"],
    test_y: Int64[np.ndarray, " test"],
) -> pd.DataFrame:
    """Test accuracies of nearest neighbours and of a linear probe on parts of the training images -> DataFrame.

    Columns: images, draw, 5 nearest neighbours, linear probe. Parts are drawn at random, all images once. A part with
    a single class has no row.
    """
    rng, rows = np.random.default_rng(0), []
    for share in STEPS:
        n = max(2, round(share * len(train_y)))
        for draw in range(DRAWS if share < 1 else 1):
            chosen = np.sort(rng.permutation(len(train_y))[:n])
            x, y = train_x[chosen], train_y[chosen]
            if len(set(y)) > 1:
                with warnings.catch_warnings():
                    # With an image or two of each class, scikit-learn asks whether labels are numbers.
                    warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
                    knn = knn_accuracy(x, y, test_x, test_y, min(5, n))
                    rows.append((n, draw, knn, linear_probe_accuracy(x, y, test_x, test_y)))
    return pd.DataFrame(rows, columns=["images", "draw", "5 nearest neighbours", "linear probe"])


def more_images(curve: pd.DataFrame, test_images: int) -> str:
    """What the end of a learning curve says about collecting more images.

    >>> curve = pd.DataFrame({"images": [50, 100], "draw": 0, "linear probe": [0.7, 0.75]})
    >>> more_images(curve, test_images=1000)
    'From 50 to 100 training images the linear probe gained 5.0 points: more images would still help.'
    """
    means = 100 * curve.groupby("images")["linear probe"].mean()
    if len(means) < 2:
        return "There are too few training images for a learning curve."
    gain, last = means.iloc[-1] - means.iloc[-2], means.iloc[-1]
    noise = np.sqrt(last * (100 - last) / test_images)  # standard error
    so = "more images would still help"
    if gain <= noise:
        so = f"{test_images} test images cannot show whether more would help (standard error {noise:.1f} points)"
        if noise < SMALL:
            so = "more images of the same kind would add little"
    if last == 100:
        so = f"it is right on all {test_images} test images, and no more than that can be seen here"
    return (
        f"From {means.index[-2]} to {means.index[-1]} training images the linear probe gained {gain:.1f} points: {so}."
    )
