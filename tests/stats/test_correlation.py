"""Correlations with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from saebias.stats.correlation import pearson, spearman


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


def test_a_constant_side_and_too_few_pairs_are_nan_with_a_reason() -> None:
    assert "constant" in spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).note
    assert "needs five" in pearson([1, 2], [3, 4]).note
    assert np.isnan(spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).value)
