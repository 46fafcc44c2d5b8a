"""Intervals over test images and seeds, and methods against the best."""

import numpy as np
import pytest

from peftlab.results.images import against_best, interval, seed_spread


def test_intervals_of_differences_cover_the_truth():
    """200 tests of two methods that are right on 80 and on 75 % of images, two seeds, 95 %."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        hard = rng.random(300)  # images that are hard for one are hard for the other
        draws = [(hard + 0.2 * rng.standard_normal((2, 300))) for _ in range(2)]
        first, second = draws[0] < 0.8, draws[1] < 0.75
        _, low, high = interval(first.astype(float) - second, (-1, 1), 1, 0.95)
        truth = truth_of(0.8) - truth_of(0.75)
        hits += low <= truth <= high
    assert hits >= 184


def truth_of(level, n=400_000):
    rng = np.random.default_rng(1)
    return np.mean(rng.random(n) + 0.2 * rng.standard_normal(n) < level)


def test_seeds_that_differ_widen_the_interval():
    alike, apart = np.full((2, 100), 0.5), np.stack([np.full(100, 0.3), np.full(100, 0.7)])
    widths = [np.ptp(interval(values, (0, 1), 2, 0.95, seed_spread([values]))[1:]) for values in (alike, apart)]
    assert widths[1] > 2 * widths[0]


def test_seeds_that_differ_widen_the_interval_of_each_accuracy():
    alike, apart = np.ones((2, 300), bool), np.ones((2, 300), bool)
    alike[:, 180:], apart[0, 240:], apart[1, 120:] = False, False, False  # 60 and 60, 80 and 40 %
    widths = [np.ptp(against_best({"lora": right}).loc["lora", ["low", "high"]]) for right in (alike, apart)]
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize(("methods", "seeds", "images"), [(2, 2, 2000), (5, 2, 2000), (5, 2, 300), (5, 3, 8000)])
def test_equal_methods_are_seldom_told_apart(methods, seeds, images):
    """Whose seeds differ by a point. About five of a hundred comparisons may have a false alarm."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        level = 0.8 + 0.01 * rng.standard_normal((methods, seeds, 1))
        right = rng.random((methods, seeds, images)) < level
        alarms += against_best({str(i): each for i, each in enumerate(right)})["behind"].any()
    assert alarms <= 10


@pytest.mark.parametrize(("images", "behind"), [(4, False), (40, True)])
def test_few_images_prove_nothing_though_all_agree(images, behind):
    right = {"lora": np.ones((1, images), bool), "linear": np.zeros((1, images), bool)}
    right["linear"][:, 0] = True
    table = against_best(right)
    assert table.index.tolist() == ["lora", "linear"]
    assert table.loc["linear", "behind"] == behind
    assert table.loc["linear", "below"] == pytest.approx(1 - 1 / images)


def test_more_methods_make_each_difference_harder_to_show():
    rng = np.random.default_rng(0)
    best, other = rng.random((1, 400)) < 0.9, rng.random((1, 400)) < 0.8  # one seed, so that its spread has no part
    two = against_best({"best": best, "other": other})
    more = against_best({"best": best, "other": other} | {f"m{i}": other for i in range(8)})
    assert more.loc["other", "below low"] < two.loc["other", "below low"]
    assert more.loc["other", "low"] == two.loc["other", "low"], "accuracies stand for themselves"


def test_one_method_alone_is_the_best():
    table = against_best({"lora": np.ones((1, 5), bool)})
    assert table.index.tolist() == ["lora"] and not table["behind"].any()
