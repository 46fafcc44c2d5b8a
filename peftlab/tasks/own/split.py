"""Splitting images into lists to train, to choose and to test on, so that copies of one picture stay together."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image

from ...common.errors import DataError

# Distance of unit vectors. Photographs of pets saved anew as JPEG at half size lie within 0.13, 95 % of textures and
# of tissue within 0.25. Of 3,000 satellite images the nearest two lie 0.50 apart, of 370 pets 0.67.
ALIKE = 0.3
NOISE = 1.0  # grey levels of 255; keeps the thumbnail of an empty picture from being all noise
FOLDS = 5  # one part of so many for the test, one of the rest to choose on


def thumbnail(image: Image.Image) -> UInt8[np.ndarray, "16 16 3"]:
    """An image as `copies` compares it."""
    return np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX))


def copies(thumbnails: UInt8[np.ndarray, "images height width 3"]) -> Int64[np.ndarray, " images"]:
    """A number for each image, the same for near-duplicates: chains of images whose thumbnails hardly differ.

    Thumbnails are compared by their pattern, whatever their colour, brightness and contrast.

    >>> one, other = np.eye(3), 1 - np.eye(3)
    >>> pictures = [200 * one, 200 * other, 190 * one + 9]
    >>> copies(np.stack([np.stack([p] * 3, axis=-1) for p in pictures]).astype(np.uint8)).tolist()
    [0, 1, 0]
    """
    from scipy.sparse.csgraph import connected_components  # a second to import, in every process that loads a task
    from sklearn.neighbors import radius_neighbors_graph

    pattern = thumbnails - thumbnails.mean((1, 2), keepdims=True)
    pattern = pattern.reshape(len(pattern), -1)
    pattern /= np.sqrt((pattern**2).sum(1, keepdims=True) + NOISE**2 * pattern.shape[1])
    alike = radius_neighbors_graph(pattern, ALIKE)
    return connected_components(alike, directed=False)[1].astype(np.int64)


def split(
    labels: Int64[np.ndarray, " images"],
    groups: Int64[np.ndarray, " images"],
    given: Shaped[np.ndarray, " images"] | None,
    classes: Sequence[str],
    budget: int | None,
    seed: int,
) -> dict[str, list[int]]:
    """Rows of train800, val200, train800val200 and test, shuffled; the numbers in the names are VTAB-1k's.

    given: "train", "val" or "test" of each image, where they are split already; then copies of a test image are left
    out of the others. Raises DataError for a class with too few images, copies counted once, and a budget that has
    not two images for each class.
    """
    rows = np.random.default_rng(seed).permutation(len(labels))
    if given is None:
        rest, test = _fold(rows, labels, groups, classes, 3)
        val = None
    else:
        last = "test" if "test" in given else "val"
        test = rows[given[rows] == last]
        rest = rows[(given[rows] != last) & ~np.isin(groups[rows], groups[test])]
        val = rest[given[rest] == "val"] if last == "test" and "val" in given[rest] else None
    if budget is not None and budget < len(rest):
        strata = labels[rest] * 2 + (0 if val is None else np.isin(rest, val))
        rest = rest[_within(budget, strata, 2 if val is None else 1)]
        val = None if val is None else val[np.isin(val, rest)]
    if val is None:
        train, val = _fold(rest, labels, groups, classes, 2)
    else:
        train = rest[~np.isin(rest, val)]
        _check_trained(train, labels, classes)
    lists = {"train800": train, "val200": val, "train800val200": np.concatenate([train, val]), "test": test}
    return {name: members.tolist() for name, members in lists.items()}


def _within(budget: int, strata: Int64[np.ndarray, " some"], least: int) -> Int64[np.ndarray, " kept"]:
    """So many positions, of each stratum its share of them, but `least` at least; of each the first ones.

    >>> _within(5, np.array([0, 0, 1, 0, 0, 1, 0, 0]), 1).tolist()
    [0, 1, 2, 3, 4]
    """
    names, which, counts = np.unique(strata, return_inverse=True, return_counts=True)
    if budget < least * len(names):
        what = "two images of each class" if least > 1 else "an image of each class to train and one to choose on"
        raise DataError(f"budget is {budget}, too few for {what}. Raise it to {least * len(names)} or more")
    rank = np.zeros(len(strata))
    for number in range(len(names)):
        rank[which == number] = np.arange(counts[number])
    first = np.where(rank < least, rank - least, (rank + 0.5) / counts[which])
    return np.sort(np.argsort(first, kind="stable")[:budget])


def _check_trained(
    train: Int64[np.ndarray, " some"], labels: Int64[np.ndarray, " images"], classes: Sequence[str]
) -> None:
    """Raise DataError for a class without an image to train on, where the reader has split."""
    number = np.bincount(labels[train], minlength=len(classes))
    if not number.all():
        raise DataError(
            f"class {classes[int(number.argmin())]!r} has no image to train on; copies of test images do not count. "
            "Put some into train, or remove the class from all parts"
        )


def _fold(
    rows: Int64[np.ndarray, " some"],
    labels: Int64[np.ndarray, " images"],
    groups: Int64[np.ndarray, " images"],
    classes: Sequence[str],
    least: int,
) -> tuple[Int64[np.ndarray, " most"], Int64[np.ndarray, " few"]]:
    """Shuffled rows in two parts: a fifth of the images of each class, one at least, in the second.

    Copies stay together. A class needs `least` different pictures. scikit-learn's StratifiedGroupKFold has as many
    folds as the rarest class has pictures: where one has three, a third of all images would be the test.
    """
    different = [len(set(groups[rows][labels[rows] == label])) for label in range(len(classes))]
    fewest = int(np.argmin(different))
    if different[fewest] < least:
        raise DataError(
            f"class {classes[fewest]!r} has {different[fewest]} different images left, and {least} are needed, to "
            f"train, to choose and to test on. Add some, or remove the class"
        )
    chosen: set[int] = set()
    for label in range(len(classes)):
        images = Counter(groups[rows][labels[rows] == label].tolist())  # of each picture, in the order of the rows
        wanted = max(1, round(images.total() / FOLDS))
        taken = {picture: images[picture] for picture in images if picture in chosen}
        for picture, number in images.items():
            fits = sum(taken.values()) + number <= wanted and len(taken) <= len(images) - least
            if picture not in taken and fits:
                taken[picture] = number
        chosen |= set(taken or [min(images, key=images.__getitem__)])
    few = np.isin(groups[rows], list(chosen))
    return rows[~few], rows[few]
