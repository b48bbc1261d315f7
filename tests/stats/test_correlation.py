"""Correlations with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from saebias.stats.correlation import difference_of_correlations, partial_correlation, pearson, spearman


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_intervals_over_sixteen_contexts_cover(rho: float) -> None:
    rng = np.random.default_rng(0)
    rank_rho = 6 / np.pi * np.arcsin(rho / 2)
    covered = {"spearman": [], "pearson": []}
    for _ in range(500):
        a_N = rng.normal(size=16)
        b_N = rho * a_N + np.sqrt(1 - rho**2) * rng.normal(size=16)
        covered["spearman"].append(spearman(a_N, b_N).covers(rank_rho))
        covered["pearson"].append(pearson(a_N, b_N).covers(rho))
    for hits in covered.values():
        assert 0.90 <= np.mean(hits) <= 0.99


def test_values_agree_with_scipy() -> None:
    rng = np.random.default_rng(1)
    a_N, b_N = rng.integers(0, 4, 30), rng.integers(0, 4, 30)
    assert spearman(a_N, b_N).value == pytest.approx(stats.spearmanr(a_N, b_N).statistic)
    assert pearson(a_N, b_N).value == pytest.approx(stats.pearsonr(a_N, b_N).statistic)


def test_a_perfect_order_has_an_interval_that_narrows_with_pairs_and_holds_one_exchange() -> None:
    lows = []
    for n in (6, 16):
        estimate = spearman(np.arange(n), np.exp(np.arange(n)))
        assert estimate.value == estimate.high == 1.0
        assert estimate.low < 1 - 12 / (n * (n**2 - 1))
        lows.append(estimate.low)
        mirrored = spearman(np.arange(n), -np.arange(n))
        assert (mirrored.low, mirrored.high) == (-1.0, -estimate.low)
    assert 0 < lows[0] < lows[1]


def test_a_constant_side_and_too_few_pairs_are_nan_with_a_reason() -> None:
    assert "constant" in spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).note
    assert "needs five" in pearson([1, 2], [3, 4]).note
    assert np.isnan(spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).value)


def test_differences_of_correlations_cover_and_their_test_keeps_its_level() -> None:
    rng = np.random.default_rng(2)
    covered, rejected = [], []
    for _ in range(500):
        sides = []
        for n in (20, 30):
            a_N = rng.normal(size=n)
            sides.append(pearson(a_N, 0.5 * a_N + np.sqrt(0.75) * rng.normal(size=n)))
        found = difference_of_correlations(*sides)
        covered.append(found.low <= 0 <= found.high)
        rejected.append(found.p <= 0.05)
    assert 0.90 <= np.mean(covered) <= 0.99
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)


def test_a_common_cause_vanishes_from_the_partial_correlation() -> None:
    rng = np.random.default_rng(3)
    cause_N = rng.normal(size=200)
    a_N, b_N = cause_N + 0.5 * rng.normal(size=200), cause_N + 0.5 * rng.normal(size=200)
    for rank in (False, True):
        assert (spearman if rank else pearson)(a_N, b_N).low > 0.5
        assert partial_correlation(a_N, b_N, cause_N, rank=rank).covers(0)


def test_partial_correlation_agrees_with_the_textbook_formula() -> None:
    a_N, b_N, c_N = np.random.default_rng(4).normal(size=(3, 40))
    ab, ac, bc = (np.corrcoef(*pair)[0, 1] for pair in ((a_N, b_N), (a_N, c_N), (b_N, c_N)))
    assert partial_correlation(a_N, b_N, c_N).value == pytest.approx((ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2)))


def test_a_side_that_is_its_covariate_is_nan_with_the_reason() -> None:
    a_N, b_N = np.random.default_rng(5).normal(size=(2, 30))
    assert "explained entirely" in partial_correlation(a_N, b_N, a_N).note
