"""Intervals, tests and areas against scipy, statsmodels' textbook case and numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from iba.evaluation.stats import (
    Resampling,
    crossed_interval,
    effect_size,
    holm,
    mean_interval,
    ratio_interval,
    resampled_means,
    sign_flip_test,
)

HOW = Resampling(confidence=0.95, n_resamples=4000, seed=3)


def test_the_mean_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).exponential(size=80)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    found = mean_interval(values, HOW)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.estimate == pytest.approx(values.mean())
    assert found.n == 80


def test_the_mean_interval_of_coin_flips_is_the_binomial_one() -> None:
    """100 tosses, half heads: the bootstrap mean is Binomial(100, ½)/100, whose quantiles are exact."""
    found = mean_interval(np.repeat([0.0, 1.0], 50), Resampling(0.95, 20000, 1))
    exact = scipy_stats.binom(100, 0.5).ppf([0.025, 0.975]) / 100
    assert (found.low, found.high) == pytest.approx(tuple(exact), abs=0.011)


def test_intervals_of_degenerate_samples() -> None:
    constant = mean_interval(np.full(5, 0.25), HOW)
    assert (constant.low, constant.high) == (0.25, 0.25)
    single = mean_interval(np.array([0.5]), HOW)
    assert single.estimate == 0.5
    assert math.isnan(single.low)
    assert math.isnan(mean_interval(np.zeros(0), HOW).estimate)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert mean_interval(values, HOW) == mean_interval(values, HOW)
    assert mean_interval(values, HOW) != mean_interval(values, Resampling(0.95, 4000, 4))


def test_a_ratio_of_proportional_columns_has_no_width() -> None:
    """Resampled together, a numerator that is half of its denominator always gives one half."""
    bits = np.random.default_rng(0).exponential(size=30)
    found = ratio_interval(bits / 2, bits, HOW)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_shared_resamples_keep_columns_together() -> None:
    values = np.random.default_rng(0).normal(size=(40, 1))
    draws = resampled_means(np.hstack([values, 2 * values + 1]), HOW)
    np.testing.assert_allclose(draws[:, 1], 2 * draws[:, 0] + 1)
    assert draws[:, 0].std() == pytest.approx(values.std() / math.sqrt(40), rel=0.05)


def test_the_crossed_interval_by_hand() -> None:
    """Seed means 1, 2, 3: squared error 1/3 on 2 degrees of freedom; instances −1, 1 twice: 1/3 on 3."""
    values = np.array([[1.0], [2.0], [3.0]]) + np.array([[-1.0, 1.0, -1.0, 1.0]])
    found = crossed_interval(values, HOW)
    freedom = (2 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (1 / 3) ** 2 / 3)
    width = scipy_stats.t.ppf(0.975, freedom) * math.sqrt(2 / 3)
    assert (found.estimate, found.low, found.high) == pytest.approx((2.0, 2 - width, 2 + width))
    assert found.n == 4


@pytest.mark.parametrize(("n_seeds", "of_seeds"), [(3, 0.2), (3, 0.02), (5, 0.05)])
def test_the_crossed_interval_covers_the_mean_of_few_seeds(n_seeds: int, of_seeds: float) -> None:
    """600 experiments of 40 instances, whose own standard error is 0.05; the interval must hold 0."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(600):
        seeds, instances = rng.normal(0, of_seeds, (n_seeds, 1)), rng.normal(0, 0.3, (1, 40))
        found = crossed_interval(seeds + instances + rng.normal(0, 0.1, (n_seeds, 40)), HOW)
        covered += found.contains(0.0)
    assert 0.91 <= covered / 600 <= 0.98


def test_two_seeds_have_no_interval() -> None:
    found = crossed_interval(np.array([[0.1, 0.2], [0.3, 0.4]]), HOW)
    assert found.estimate == pytest.approx(0.25)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    same = crossed_interval(np.full((3, 4), 0.5), HOW)
    assert (same.low, same.high) == (0.5, 0.5)


def test_the_sign_flip_test_counts_all_signs_of_a_small_sample() -> None:
    """Five differences have 2⁵ sign patterns; the exact two-sided p doubles the smaller tail."""
    differences = np.array([[0.5, 0.4, 0.3, 0.2, -0.1], [0.1, -0.1, 0.2, -0.2, 0.05]])
    for row, p_value in zip(differences, sign_flip_test(differences, HOW), strict=True):
        means = [np.mean(np.abs(row) * signs) for signs in product((-1, 1), repeat=5)]
        above = sum(m >= row.mean() - 1e-12 for m in means) / 32
        below = sum(m <= row.mean() + 1e-12 for m in means) / 32
        assert p_value == pytest.approx(min(1.0, 2 * min(above, below)))


def test_the_sign_flip_test_agrees_with_students_test_on_a_large_normal_sample() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, size=(1, 400))
    expected = scipy_stats.ttest_1samp(differences[0], 0).pvalue
    assert sign_flip_test(differences, HOW)[0] == pytest.approx(expected, abs=0.01)


def test_holm_on_a_known_table() -> None:
    """Holm's steps by hand: sorted p × (4, 3, 2, 1), made monotone."""
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.4, 0.9])), [0.8, 0.9])


def test_effect_size_by_hand() -> None:
    assert effect_size(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert effect_size(np.zeros(4)) == 0.0
    assert effect_size(np.full(4, -0.5)) == -math.inf
