"""Intervals that know which rows belong together.

Captions, languages, prompts and near-duplicates of one image are one cluster; clusters are drawn with replacement, and a draw is the vector of
how often each was drawn, so that a statistic is computed for many draws at once as a product with weights.
Shapes: N rows, G clusters, R draws, K columns (contexts, random sets).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saebias.errors import InputError
from saebias.stats.checks import cluster_index, finite, same_rows

Statistic = Callable[[np.ndarray], np.ndarray]
KINDS = ("percentile", "basic", "bca")
_CHUNK_ELEMENTS = 2_000_000
# A statistic that is undefined in more draws than this has no honest percentile.
_UNDEFINED_DRAWS = 0.01


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `value`, `low` or `high` is NaN when it cannot be computed, and `note` says why."""

    value: float
    low: float
    high: float
    n_rows: int
    n_clusters: int
    note: str = ""

    def covers(self, truth: float) -> bool:
        """Whether `truth` lies in the interval, ends included."""
        return bool(self.low <= truth <= self.high)


def bootstrap_counts(clusters: ArrayLike, n_draws: int, seed: int, strata: ArrayLike | None = None) -> np.ndarray:
    """How often each cluster occurs in each bootstrap draw, counts_RG, clusters in the order of `np.unique`.

    With `strata` (one entry per row, constant within a cluster) clusters are drawn within their stratum, so that no context can be lost from a draw.
    Raises InputError when a cluster lies in two strata.
    """
    index_N, n_clusters = cluster_index(clusters)
    rng = np.random.default_rng(seed)
    stratum_G = stratum_of_clusters(index_N, n_clusters, strata)
    counts_RG = np.zeros((n_draws, n_clusters))
    for stratum in np.unique(stratum_G):
        members = np.flatnonzero(stratum_G == stratum)
        picks_RM = rng.integers(0, len(members), size=(n_draws, len(members)))
        flat = picks_RM + np.arange(n_draws)[:, None] * len(members)
        counts_RG[:, members] = np.bincount(flat.ravel(), minlength=n_draws * len(members)).reshape(n_draws, len(members))
    return counts_RG


def stratum_of_clusters(index_N: np.ndarray, n_clusters: int, strata: ArrayLike | None) -> np.ndarray:
    """The stratum number of every cluster, from strata per row (any labels; None is one stratum); raises InputError when a cluster lies in two."""
    if strata is None:
        return np.zeros(n_clusters, dtype=np.int64)
    stratum_N, _ = cluster_index(strata)
    same_rows(clusters=index_N, strata=stratum_N)
    stratum_G = np.zeros(n_clusters, dtype=np.int64)
    stratum_G[index_N] = stratum_N
    if (stratum_G[index_N] != stratum_N).any():
        raise InputError("a cluster lies in two strata; join the strata, or name clusters within strata")
    return stratum_G


def bootstrap_sums(counts_RG: np.ndarray, clusters: ArrayLike, columns_NK: np.ndarray) -> np.ndarray:
    """Weighted column sums of every draw, sums_RK: all that statistics built from sums and means need, at the cost of one product."""
    return counts_RG @ cluster_sums(clusters, columns_NK)


def cluster_sums(clusters: ArrayLike, columns_NK: np.ndarray) -> np.ndarray:
    """Column sums within each cluster, sums_GK."""
    index_N, n_clusters = cluster_index(clusters)
    same_rows(clusters=index_N, columns=columns_NK)
    order = np.argsort(index_N, kind="stable")
    starts = np.searchsorted(index_N[order], np.arange(n_clusters))
    return np.add.reduceat(np.asarray(columns_NK, dtype=np.float64)[order], starts, axis=0)


def mean_statistic(values: ArrayLike) -> Statistic:
    """The weighted mean of `values` as a statistic of weights_RN."""
    values_N = finite(values, "values")

    def mean(weights_RN: np.ndarray) -> np.ndarray:
        return (weights_RN @ values_N) / weights_RN.sum(axis=1)

    return mean


def cluster_bootstrap(
    statistic: Statistic,
    clusters: ArrayLike,
    *,
    n_draws: int = 2000,
    seed: int,
    level: float = 0.95,
    strata: ArrayLike | None = None,
    kind: str = "percentile",
) -> Estimate:
    """The statistic of all rows with its cluster-bootstrap interval.

    `statistic(weights_RN) -> values_R` gets row multiplicities and may return NaN where it is undefined; `kind` is percentile, basic (2*value - quantiles) or
    bca (bias corrected and accelerated; Efron 1987, Better bootstrap confidence intervals, JASA 82). Memory: a few 16 MB blocks whatever R and N are.
    """
    if kind not in KINDS:
        raise InputError(f"interval kind {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    index_N, n_clusters = cluster_index(clusters)
    value = float(statistic(np.ones((1, len(index_N))))[0])
    if n_clusters < 2:
        return Estimate(value, np.nan, np.nan, len(index_N), n_clusters, "one cluster: no interval")
    draws_R = _evaluate(statistic, bootstrap_counts(clusters, n_draws, seed, strata), index_N)
    leave_one_out_G = _evaluate(statistic, 1.0 - np.eye(n_clusters), index_N) if kind == "bca" else None
    low, high, note = interval_of_draws(value, draws_R, level=level, kind=kind, leave_one_out_G=leave_one_out_G)
    return Estimate(value, low, high, len(index_N), n_clusters, note)


def _evaluate(statistic: Statistic, counts_RG: np.ndarray, index_N: np.ndarray) -> np.ndarray:
    step = max(1, _CHUNK_ELEMENTS // len(index_N))
    return np.concatenate([statistic(counts_RG[start : start + step][:, index_N]) for start in range(0, len(counts_RG), step)])


def interval_of_draws(
    value: float, draws_R: np.ndarray, *, level: float = 0.95, kind: str = "percentile", leave_one_out_G: np.ndarray | None = None
) -> tuple[float, float, str]:
    """(low, high, note) from bootstrap draws; draws that are NaN (a group was empty) are left out, and refused when they exceed 1 %."""
    defined_R = draws_R[~np.isnan(draws_R)]
    undefined = 1 - len(defined_R) / len(draws_R)
    if np.isnan(value) or undefined > _UNDEFINED_DRAWS:
        return np.nan, np.nan, "undefined" if np.isnan(value) else f"undefined in {undefined:.0%} of the draws"
    tail = (1 - level) / 2
    tails = np.array([tail, 1 - tail])
    if kind == "bca":
        assert leave_one_out_G is not None
        tails = _bca_tails(value, defined_R, leave_one_out_G, tails)
    low, high = np.quantile(defined_R, tails)
    if kind == "basic":
        low, high = 2 * value - high, 2 * value - low
    return float(low), float(high), ""


def _bca_tails(value: float, draws_R: np.ndarray, leave_one_out_G: np.ndarray, tails: np.ndarray) -> np.ndarray:
    below = (np.sum(draws_R < value) + 0.5 * np.sum(draws_R == value)) / len(draws_R)
    bias = stats.norm.ppf(np.clip(below, 1 / len(draws_R), 1 - 1 / len(draws_R)))
    deviation_G = np.nanmean(leave_one_out_G) - leave_one_out_G
    spread = np.nansum(deviation_G**2) ** 1.5
    acceleration = np.nansum(deviation_G**3) / (6 * spread) if spread > 0 else 0.0
    z = bias + stats.norm.ppf(tails)
    return stats.norm.cdf(bias + z / (1 - acceleration * z))


def paired_difference(a: ArrayLike, b: ArrayLike, clusters: ArrayLike, *, n_draws: int = 2000, seed: int, level: float = 0.95) -> Estimate:
    """mean(a - b) over rows that were measured twice (two languages, two arms), with a cluster-bootstrap interval."""
    a_N, b_N = finite(a, "a"), finite(b, "b")
    same_rows(a=a_N, b=b_N)
    return cluster_bootstrap(mean_statistic(a_N - b_N), clusters, n_draws=n_draws, seed=seed, level=level)


def crossed_bootstrap(statistic: Statistic, clusters: ArrayLike, crossed: ArrayLike, *, n_draws: int = 2000, seed: int, level: float = 0.95) -> Estimate:
    """As `cluster_bootstrap`, with two crossed factors (image x context): a row's weight is the product of its two multiplicities.

    The pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1:386); it errs to the wide side. `n_clusters` is the smaller of the two counts.
    """
    first_N, n_first = cluster_index(clusters)
    second_N, n_second = cluster_index(crossed)
    value = float(statistic(np.ones((1, same_rows(clusters=first_N, crossed=second_N))))[0])
    if min(n_first, n_second) < 2:
        return Estimate(value, np.nan, np.nan, len(first_N), min(n_first, n_second), "one cluster in a factor: no interval")
    first_RG = bootstrap_counts(clusters, n_draws, seed)
    second_RG = bootstrap_counts(crossed, n_draws, seed + 1)
    step = max(1, _CHUNK_ELEMENTS // len(first_N))
    blocks = (slice(start, start + step) for start in range(0, n_draws, step))
    draws_R = np.concatenate([statistic(first_RG[block][:, first_N] * second_RG[block][:, second_N]) for block in blocks])
    low, high, note = interval_of_draws(value, draws_R, level=level)
    return Estimate(value, low, high, len(first_N), min(n_first, n_second), note)


def two_way_bootstrap(
    values: ArrayLike, clusters: ArrayLike, groups: ArrayLike | None = None, *, n_draws: int = 2000, seed: int, level: float = 0.95
) -> Estimate:
    """The grand mean of values_NK over images (rows) and random sets or contexts (columns), both resampled: the pigeonhole bootstrap as one product.

    `groups` names the columns that belong together (default: each its own). `n_clusters` counts image clusters.
    """
    values_NK = finite(values, "values")
    groups_K = np.arange(values_NK.shape[1]) if groups is None else np.asarray(groups)
    index_N, n_clusters = cluster_index(clusters)
    index_K, n_groups = cluster_index(groups_K)
    same_rows(values=values_NK, clusters=index_N)
    same_rows(columns=values_NK.T, groups=index_K)
    value = float(values_NK.mean())
    if min(n_clusters, n_groups) < 2:
        return Estimate(value, np.nan, np.nan, len(index_N), n_clusters, "one cluster or one column group: no interval")
    rows_RG = bootstrap_counts(index_N, n_draws, seed)
    columns_RH = bootstrap_counts(index_K, n_draws, seed + 1)
    block_sums_GH = cluster_sums(index_K, cluster_sums(index_N, values_NK).T).T
    sizes_R = (rows_RG @ np.bincount(index_N)) * (columns_RH @ np.bincount(index_K))
    draws_R = ((rows_RG @ block_sums_GH) * columns_RH).sum(axis=1) / sizes_R
    low, high, note = interval_of_draws(value, draws_R, level=level)
    return Estimate(value, low, high, len(index_N), n_clusters, note)
