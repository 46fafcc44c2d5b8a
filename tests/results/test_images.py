"""Intervals over test images and seeds, and methods against the best."""

import numpy as np
import pytest
from scipy import stats

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


def test_intervals_by_hand():
    """Agresti and Coull's of an accuracy, Bonett and Price's of a difference, and what seeds differ by beside them."""
    z, t, one, other = stats.norm.ppf(0.975), stats.t.ppf(0.975, 2), np.arange(40) < 30, np.arange(40) % 4 < 1
    p = (30 + 2) / (40 + 4)
    of_images = z**2 * p * (1 - p) / 44
    ends = (p - of_images**0.5, p + of_images**0.5)
    assert interval(one[None].astype(float), (0, 1), 2, 0.95) == pytest.approx((0.75, *ends))
    each = np.concatenate([np.mean([one, other], axis=0), [0, 0, 1, 1]])  # of two seeds
    half = (z**2 * each.var() / 44 + t**2 * 0.001 / 2) ** 0.5
    found = interval(np.stack([one, other]).astype(float), (0, 1), 2, 0.95, (0.001, 2))
    assert found == pytest.approx((0.5, each.mean() - half, each.mean() + half))
    ahead, behind = ((one & ~other).sum() + 1) / 42, ((other & ~one).sum() + 1) / 42
    middle, half = ahead - behind, z * ((ahead + behind - (ahead - behind) ** 2) / 42) ** 0.5
    found = interval(one[None] - other[None].astype(float), (-1, 1), 1, 0.95)
    assert found == pytest.approx((0.5, middle - half, middle + half))
    seeds = [np.array([[0.1, 0.3], [0.3, 0.5]]), np.array([[0.5, 0.5], [0.4, 0.6]])]
    assert seed_spread(seeds) == pytest.approx((0.01, 2))  # variances 0.02 and 0, of two means each


def test_each_method_has_its_interval_and_its_distance_to_the_best():
    rng = np.random.default_rng(0)
    right = {name: rng.random((2, 50)) < level for name, level in (("a", 0.9), ("b", 0.7), ("c", 0.6))}
    table, a, b, c = against_best(right, 0.9), *(each.astype(float) for each in right.values())
    of_seeds, of_gaps = seed_spread([a, b, c]), seed_spread([a - b, a - c])
    assert table.index[0] == "a"
    assert tuple(table.loc["b", ["accuracy", "low", "high"]]) == interval(b, (0, 1), 2, 0.9, of_seeds)
    below = interval(a - b, (-1, 1), 1, 1 - 0.1 / 2, of_gaps)  # of two comparisons
    assert tuple(table.loc["b", ["below", "below low", "below high"]]) == below


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
