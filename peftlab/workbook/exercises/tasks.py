"""Exercises of notebook 01_tasks."""

import numpy as np

from .base import Exercise, agrees, equals

_LABELS = ((np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 1, 0, 2])), (np.array([2, 2, 2, 0]), np.array([0, 1, 2, 2])))
_POSITIONS = tuple((x,) for x in range(32))

EXERCISES = {
    "tasks.1": Exercise(
        agrees(lambda train, test: np.mean(test == np.bincount(train).argmax()), *_LABELS),
        "Any model has to beat this number before it has learned anything from the images.",
        (
            (
                agrees(lambda train, test: np.mean(test == np.bincount(test).argmax()), *_LABELS),
                "the most frequent class has to come from the training labels; test labels are not known beforehand",
            ),
            (
                agrees(lambda train, test: np.mean(train == np.bincount(train).argmax()), *_LABELS),
                "measure it on the test labels",
            ),
            (
                agrees(lambda train, test: 1 / len(np.unique(train)), *_LABELS),
                "that is chance for balanced classes; here the classes may be unbalanced",
            ),
            (
                agrees(lambda train, test: 100 * np.mean(test == np.bincount(train).argmax()), *_LABELS),
                "that is in percent; an accuracy is a share, from 0 to 1",
            ),
        ),
        help="np.bincount(train).argmax() is the most frequent class; how often is it right in `test`?",
    ),
    "tasks.2": Exercise(
        agrees(lambda x: x // 2, *_POSITIONS),
        "Two neighbouring columns share a label.",
        (
            (agrees(lambda x: x / 2, *_POSITIONS), "a label is a whole number: round down"),
            (
                agrees(lambda x: x % 16, *_POSITIONS),
                "neighbouring positions should share a label; the remainder sends position 0 and 16 to one class",
            ),
            (
                agrees(lambda x: round(x / 2), *_POSITIONS),
                "round down, not to the nearest: otherwise 17 labels appear",
            ),
        ),
        help="32 positions get 16 labels: how many neighbouring positions share one?",
    ),
    "tasks.3": Exercise(
        equals("val200"),
        "Select on val200, train once more on all 1,000 images, then open the test split once.",
        (
            (equals("test"), "choosing on the test split makes its accuracy too good to be true"),
            (
                equals("train800", "train800val200"),
                "the model has seen these images: more training always looks better",
            ),
        ),
        help="Which images has the model not been trained on, and which ones are kept for the very end?",
    ),
}
