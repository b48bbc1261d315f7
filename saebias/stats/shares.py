"""Intervals of shares and of other numbers between 0 and 1 that stay honest at 0 and at 1, where a bootstrap collapses to a point.

Shapes: N rows, G clusters, F columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saebias.errors import InputError
from saebias.stats.checks import cluster_index, finite, same_rows
from saebias.stats.resampling import Estimate, cluster_sums


def wilson(value: ArrayLike, n_effective: ArrayLike, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a share from `n_effective` independent observations (Wilson 1927, JASA 22:209); `quantile` is z or t."""
    value, n = np.asarray(value, dtype=np.float64), np.asarray(n_effective, dtype=np.float64)
    squared = quantile**2
    centre = (value + squared / (2 * n)) / (1 + squared / n)
    half = quantile * np.sqrt(value * (1 - value) / n + squared / (4 * n**2)) / (1 + squared / n)
    # At 0 and 1 the ends are exact in theory; rounding would put the value itself outside.
    return np.clip(centre - half, 0.0, value), np.clip(centre + half, value, 1.0)


def interval_from_influence(
    value_F: np.ndarray, influence_NF: np.ndarray, clusters: ArrayLike, level: float, n_fallback: float, n_most: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson intervals of numbers in [0, 1] whose variance is the cluster-summed influence: G/(G-1) sum_c (sum_{i in c} influence_i)^2.

    The effective sample size is value*(1-value)/variance (Korn & Graubard 1998, Survey Methodology 24:193), with Student's t on G-1 degrees of freedom.
    Where the variance is zero (a value of 0 or 1) `n_fallback` independent observations are assumed, and never more than `n_most`
    (the row count for 0/1 data, whose variance over few clusters can be luckily small; no limit for probabilities, which vary less than 0/1 data).
    """
    _, n_clusters = cluster_index(clusters)
    sums_GF = cluster_sums(clusters, influence_NF)
    variance_F = n_clusters / (n_clusters - 1) * (sums_GF**2).sum(axis=0)
    binomial_F = value_F * (1 - value_F)
    n_F = np.full(value_F.shape, float(n_fallback))
    regular_F = (variance_F > 0) & (binomial_F > 1e-12)
    n_F[regular_F] = np.minimum(binomial_F[regular_F] / variance_F[regular_F], n_most)
    return wilson(value_F, n_F, float(stats.t.ppf(0.5 + level / 2, n_clusters - 1)))


def share_estimate(hits: ArrayLike, clusters: ArrayLike, level: float = 0.95) -> Estimate:
    """The share of hits (0 or 1 per row, or a probability) with a cluster-adjusted Wilson interval; 0 of 300 gives an upper end above 0."""
    hits_N = finite(hits, "hits")
    if ((hits_N < 0) | (hits_N > 1)).any():
        raise InputError(f"hits hold {hits_N.min():g} to {hits_N.max():g}; a share needs values from 0 to 1")
    index_N, n_clusters = cluster_index(clusters)
    rows = same_rows(hits=hits_N, clusters=index_N)
    value = float(hits_N.mean())
    if n_clusters < 2:
        return Estimate(value, np.nan, np.nan, rows, n_clusters, "one cluster: no interval")
    # Probabilities that are all alike leave no doubt; hits that are all alike do.
    fallback, most = (n_clusters, rows) if np.isin(hits_N, (0, 1)).all() else (np.inf, np.inf)
    low_F, high_F = interval_from_influence(np.array([value]), ((hits_N - value) / rows)[:, None], index_N, level, fallback, most)
    return Estimate(value, float(low_F[0]), float(high_F[0]), rows, n_clusters)


def difference_of_shares(a: Estimate, b: Estimate) -> Estimate:
    """a - b for shares of two disjoint groups of clusters, from their own intervals (Newcombe 1998, Statistics in Medicine 17:873, method 10)."""
    value = a.value - b.value
    low = value - float(np.hypot(a.value - a.low, b.high - b.value))
    high = value + float(np.hypot(a.high - a.value, b.value - b.low))
    return Estimate(value, low, high, a.n_rows + b.n_rows, a.n_clusters + b.n_clusters, a.note or b.note)
