"""Intervals around accuracies."""

import numpy as np
from scipy import stats


def accuracy_interval(accuracy, images, level=0.95):
    """Wilson interval (low, high) of one measured accuracy: the uncertainty that a finite test set leaves.

    It says nothing about seeds or about other training images.
    """
    interval = stats.binomtest(round(accuracy * images), images).proportion_ci(level, method="wilson")
    return interval.low, interval.high


def mean_interval(values, level=0.95):
    """(mean, low, high) of a few repeated measurements, by Student's t. One value alone has no interval: nan."""
    values = np.asarray(values, dtype=float)
    mean = values.mean()
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half
