"""Rank and product-moment correlations with intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saebias.stats.checks import finite, same_rows
from saebias.stats.resampling import Estimate


def spearman(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Spearman's rank correlation with an interval over pairs: Fisher's z with variance (1 + r^2/2)/(n - 3) (Bonett & Wright 2000, Psychometrika 65:23).

    NaN with a note below five pairs or when a side is constant.
    """
    return _correlation(stats.rankdata(finite(a, "a")), stats.rankdata(finite(b, "b")), level, rank=True)


def pearson(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Pearson's correlation with Fisher's z interval, variance 1/(n - 3). NaN with a note below five pairs or when a side is constant."""
    return _correlation(finite(a, "a"), finite(b, "b"), level, rank=False)


def _correlation(a_N: np.ndarray, b_N: np.ndarray, level: float, *, rank: bool) -> Estimate:
    n = same_rows(a=a_N, b=b_N)
    if n < 5:
        return Estimate(np.nan, np.nan, np.nan, n, n, f"{n} pairs: a correlation needs five")
    if np.ptp(a_N) == 0 or np.ptp(b_N) == 0:
        return Estimate(np.nan, np.nan, np.nan, n, n, "one side is constant: no correlation")
    r = float(np.clip(np.corrcoef(a_N, b_N)[0, 1], -1, 1))
    if abs(r) > 1 - 1e-12:
        return Estimate(float(np.sign(r)), np.nan, np.nan, n, n, "perfect order: the interval is not defined")
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + (r**2 / 2 if rank else 0)) / (n - 3))
    return Estimate(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)), n, n)
