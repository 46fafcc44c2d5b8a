"""Splitting images into lists to train, to choose and to test on, so that copies of one picture stay together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.neighbors import radius_neighbors_graph

from ..common.errors import DataError

# Distance of unit vectors. Photographs of pets saved anew as JPEG at half size lie within 0.13, 95 % of textures and
# of tissue within 0.25. Of 3,000 satellite images the nearest two lie 0.50 apart, of 370 pets 0.67.
ALIKE = 0.3
NOISE = 1.0  # grey levels of 255; keeps the thumbnail of an empty picture from being all noise
FOLDS = 5  # one for the test, one of the rest to choose on


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
    out of the others. Raises DataError for a class with too few images, copies counted once.
    """
    rows = np.random.default_rng(seed).permutation(len(labels))
    if given is None:
        rest, test = _fold(rows, labels, groups, classes, 3, seed)
        val = None
    else:
        last = "test" if "test" in given else "val"
        test = rows[given[rows] == last]
        rest = rows[(given[rows] != last) & ~np.isin(groups[rows], groups[test])]
        val = rest[given[rest] == "val"] if last == "test" and "val" in given else None
    if budget is not None and budget < len(rest):
        rest, _ = train_test_split(rest, train_size=budget, stratify=labels[rest], random_state=seed)
        val = None if val is None else val[np.isin(val, rest)]
    train, val = _fold(rest, labels, groups, classes, 2, seed) if val is None else (rest[~np.isin(rest, val)], val)
    lists = {"train800": train, "val200": val, "train800val200": np.concatenate([train, val]), "test": test}
    return {name: members.tolist() for name, members in lists.items()}


def _fold(
    rows: Int64[np.ndarray, " some"],
    labels: Int64[np.ndarray, " images"],
    groups: Int64[np.ndarray, " images"],
    classes: Sequence[str],
    least: int,
    seed: int,
) -> tuple[Int64[np.ndarray, " most"], Int64[np.ndarray, " few"]]:
    """Rows in two parts, stratified by class: all folds but one, and one. A class needs `least` different pictures."""
    different = [len(set(groups[rows][labels[rows] == label])) for label in range(len(classes))]
    fewest = int(np.argmin(different))
    if different[fewest] < least:
        raise DataError(
            f"class {classes[fewest]!r} has {different[fewest]} different images left, and {least} are needed, to "
            f"train, to choose and to test on. Add some, or remove the class"
        )
    folds = StratifiedGroupKFold(min(FOLDS, different[fewest]), shuffle=True, random_state=seed)
    most, few = next(folds.split(rows, labels[rows], groups[rows]))
    return rows[most], rows[few]
