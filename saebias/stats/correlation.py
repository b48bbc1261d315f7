"""Rank and product-moment correlations with intervals, their differences, and what is left of them given covariates. Shapes: N rows, C covariates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saebias.stats.checks import finite, same_rows
from saebias.stats.resampling import Estimate


def spearman(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Spearman's rank correlation with an interval over pairs: Fisher's z with variance (1 + r^2/2)/(n - 3) (Bonett & Wright 2000, Psychometrika 65:23).

    A perfect order gets the interval of one that is half an exchange of neighbours short of it. NaN with a note below five pairs or when a side is constant.
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
    width = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + (r**2 / 2 if rank else 0)) / (n - 3))
    if abs(r) > 1 - 1e-12:
        if not rank:
            return Estimate(float(np.sign(r)), np.nan, np.nan, n, n, "perfect correlation: the interval is not defined")
        # Fisher's z of 1 is infinite. A perfect order of n is known to half of its smallest step, 1 - r = 12/(n(n^2 - 1)) for one exchange of neighbours.
        nearest = float(np.tanh(np.arctanh(1 - 6 / (n * (n**2 - 1))) - width))
        return Estimate(1.0, nearest, 1.0, n, n) if r > 0 else Estimate(-1.0, -1.0, -nearest, n, n)
    return Estimate(r, float(np.tanh(np.arctanh(r) - width)), float(np.tanh(np.arctanh(r) + width)), n, n)


@dataclass(frozen=True)
class CorrelationDifference:
    """Correlation a minus correlation b from disjoint samples, with its interval and Fisher's z test."""

    value: float
    low: float
    high: float
    z: float
    p: float
    note: str = ""


def difference_of_correlations(a: Estimate, b: Estimate, *, rank: bool = False) -> CorrelationDifference:
    """a - b for correlations of two disjoint samples: interval from their own intervals (Zou 2007, Psychological Methods 12:399), p from Fisher's z.

    `rank=True` for Spearman correlations (variance (1 + r^2/2)/(n - 3) instead of 1/(n - 3)). NaN with a note when a side has no interval. Correlations over
    the same contexts (two languages) are dependent: bootstrap their difference instead.
    """
    if np.isnan([a.low, a.high, b.low, b.high]).any():
        return CorrelationDifference(a.value - b.value, np.nan, np.nan, np.nan, np.nan, a.note or b.note or "a side has no interval")
    value = a.value - b.value
    variance = sum((1 + (side.value**2 / 2 if rank else 0)) / (side.n_rows - 3) for side in (a, b))
    z = float((np.arctanh(a.value) - np.arctanh(b.value)) / np.sqrt(variance))
    low = value - float(np.hypot(a.value - a.low, b.high - b.value))
    high = value + float(np.hypot(a.high - a.value, b.value - b.low))
    return CorrelationDifference(value, low, high, z, float(2 * stats.norm.sf(abs(z))))


def partial_correlation(a: ArrayLike, b: ArrayLike, given: ArrayLike, level: float = 0.95, *, rank: bool = False) -> Estimate:
    """Correlation of a and b after least squares took the covariates given_NC out of both (of ranks with `rank=True`), Fisher's z with n - C - 3.

    NaN with a note when too few rows are left or a covariate explains a side entirely.
    """
    a_N, b_N, given_NC = finite(a, "a"), finite(b, "b"), finite(given, "given")
    given_NC = given_NC[:, None] if given_NC.ndim == 1 else given_NC
    n = same_rows(a=a_N, b=b_N, given=given_NC)
    if rank:
        a_N, b_N, given_NC = stats.rankdata(a_N), stats.rankdata(b_N), stats.rankdata(given_NC, axis=0)
    design = np.column_stack([np.ones(n), given_NC])
    used = int(np.linalg.matrix_rank(design)) - 1
    if n - used < 5:
        return Estimate(np.nan, np.nan, np.nan, n, n, f"{n} rows and {used} covariates: a partial correlation needs five rows more than covariates")
    residuals = [side_N - design @ np.linalg.lstsq(design, side_N, rcond=None)[0] for side_N in (a_N, b_N)]
    if any(residual @ residual <= 1e-12 * n * max(side_N.var(), 1e-300) for residual, side_N in zip(residuals, (a_N, b_N), strict=True)):
        return Estimate(np.nan, np.nan, np.nan, n, n, "a side is explained entirely by the covariates")
    r = float(np.clip(residuals[0] @ residuals[1] / np.sqrt((residuals[0] @ residuals[0]) * (residuals[1] @ residuals[1])), -1, 1))
    if abs(r) > 1 - 1e-12:
        return Estimate(float(np.sign(r)), np.nan, np.nan, n, n, "perfect correlation: the interval is not defined")
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + (r**2 / 2 if rank else 0)) / (n - used - 3))
    return Estimate(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)), n, n)
