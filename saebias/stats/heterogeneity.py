"""How far group means (contexts) really differ, once the part that sampling alone would produce is taken away.

The unit that varies by chance is the cluster within a group. Shapes: N rows, G units (cluster x group), O groups, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saebias.stats.checks import cluster_index, finite, same_rows
from saebias.stats.resampling import bootstrap_counts, cluster_sums

_BISECTIONS = 50


@dataclass(frozen=True)
class GroupMeans:
    """Ratios of sums per group with bootstrap draws: `draws_RO` has the spread of the sampling error, clusters resampled within their group."""

    names_O: np.ndarray
    means_O: np.ndarray
    draws_RO: np.ndarray
    n_rows_O: np.ndarray
    n_clusters_O: np.ndarray


@dataclass(frozen=True)
class Spread:
    """Standard deviation over groups, free of sampling noise.

    `variance` is signed: var(means) minus the mean sampling variance, below 0 about half of the time when the groups are equal. `spread` is
    sqrt(max(0, variance)); `low` is exactly 0 when chance alone explains the differences. `p` is from groups permuted among clusters. `reliability`, 0 to 1, is
    the share of the variance of the observed means that is no sampling noise.
    """

    spread: float
    low: float
    high: float
    variance: float
    variance_low: float
    variance_high: float
    p: float
    n_groups: int
    n_rows: int
    n_clusters: int
    note: str = ""
    reliability: float = float("nan")


def unit_of_rows(groups: ArrayLike, clusters: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(names_O, group_N, unit_N, group_G): a unit is a cluster within a group; a cluster met in two groups is two units, which errs to the wide side."""
    names_O, group_N = np.unique(np.asarray(groups), return_inverse=True)
    cluster_N, n_clusters = cluster_index(clusters)
    pair_G, unit_N = np.unique(group_N.reshape(-1) * n_clusters + cluster_N, return_inverse=True)
    return names_O, group_N.reshape(-1), unit_N.reshape(-1), pair_G // n_clusters


def group_ratios(numerators: ArrayLike, denominators: ArrayLike, groups: ArrayLike, clusters: ArrayLike, *, n_draws: int = 2000, seed: int) -> GroupMeans:
    """sum(numerator) / sum(denominator) per group, with draws of clusters within groups (paired across the columns of numerators_NK, if there are several).

    Deviations of the draws are widened by sqrt(G_o / (G_o - 1)), the bootstrap's known shrinkage with few clusters (Rao & Wu 1988, JASA 83:231). A group of one
    cluster has NaN draws; a group whose denominator is 0 is NaN, and a draw where it is 0 is NaN.
    """
    top_NK, bottom_NK = finite(numerators, "numerators"), finite(denominators, "denominators")
    same_rows(numerators=top_NK, denominators=bottom_NK, groups=np.asarray(groups), clusters=np.asarray(clusters))
    names_O, group_N, unit_N, group_G = unit_of_rows(groups, clusters)
    shape = top_NK.shape[1:]
    columns = np.concatenate([top_NK.reshape(len(top_NK), -1), bottom_NK.reshape(len(bottom_NK), -1)], axis=1)
    sums_GK = cluster_sums(unit_N, columns)
    counts_RG = bootstrap_counts(np.arange(len(group_G)), n_draws, seed, strata=group_G)
    means, draws = [], []
    for group in range(len(names_O)):
        members = np.flatnonzero(group_G == group)
        means.append(_ratio(sums_GK[members].sum(axis=0)))
        widening = np.sqrt(len(members) / (len(members) - 1)) if len(members) > 1 else np.nan
        draws.append(means[-1] + widening * (_ratio(counts_RG[:, members] @ sums_GK[members]) - means[-1]))
    n_rows_O, n_clusters_O = np.bincount(group_N), np.bincount(group_G)
    return GroupMeans(names_O, np.stack(means).reshape(-1, *shape), np.stack(draws, axis=1).reshape(n_draws, -1, *shape), n_rows_O, n_clusters_O)


def group_means(values: ArrayLike, groups: ArrayLike, clusters: ArrayLike, *, n_draws: int = 2000, seed: int) -> GroupMeans:
    """The mean of each group with draws of clusters within groups; see `group_ratios`."""
    values_N = finite(values, "values")
    return group_ratios(values_N, np.ones_like(values_N), groups, clusters, n_draws=n_draws, seed=seed)


def _ratio(sums: np.ndarray) -> np.ndarray:
    top, bottom = np.split(sums, 2, axis=-1)
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0)


def spread_of_groups(
    values: ArrayLike, groups: ArrayLike, clusters: ArrayLike, *, seed: int, n_draws: int = 2000, n_permutations: int = 1999, level: float = 0.95
) -> Spread:
    """The standard deviation of group means beyond sampling noise, for these groups (not for a population of groups).

    variance = var_o(mean_o) - mean_o(v_o), with v_o = G/(G-1) sum_c (sum of c's residuals)^2 / n_o^2, the sampling variance of a mean of clustered rows: the
    moment estimator of a between-group variance. The interval of `spread` inverts a bootstrap test: it holds every s for which the observed var_o(mean_o) is
    neither in the upper nor in the lower tail of var_o(s * pattern + sampling error), the pattern being the observed one scaled to standard deviation 1. Hence
    low = 0 exactly when no difference at all explains the data at that level, which a percentile interval can never say: its draws add noise to noise.
    Groups of one cluster are left out and named in `note`. With fewer than two groups left all numbers are NaN.
    """
    values_N, groups_N, clusters_N = finite(values, "values"), np.asarray(groups), np.asarray(clusters)
    same_rows(values=values_N, groups=groups_N, clusters=clusters_N)
    keep_N, note = _groups_with_two_clusters(groups_N, clusters_N)
    if len(np.unique(groups_N[keep_N])) < 2:
        nan = float("nan")
        return Spread(nan, nan, nan, nan, nan, nan, nan, 0, 0, 0, "; ".join(filter(None, [note, "fewer than two groups"])))
    values_N, groups_N, clusters_N = values_N[keep_N], groups_N[keep_N], clusters_N[keep_N]
    means = group_means(values_N, groups_N, clusters_N, n_draws=n_draws, seed=seed)
    observed = float(means.means_O.var(ddof=1))
    noise = float(sampling_variances(values_N, groups_N, clusters_N).mean())
    variance = observed - noise
    errors_RO = means.draws_RO - means.means_O
    low, high = size_interval(means.means_O - means.means_O.mean(), errors_RO - errors_RO.mean(axis=1, keepdims=True), level)
    # The interval is of the root mean square; a standard deviation over O groups divides by O - 1.
    by_degrees = float(np.sqrt(len(means.names_O) / (len(means.names_O) - 1)))
    low, high = low * by_degrees, high * by_degrees
    kept = np.sqrt(max(0.0, variance) / observed) if observed > 0 else 0.0
    deviations_R = (kept * means.means_O + errors_RO).var(axis=1, ddof=1) - noise - max(0.0, variance)
    tail_low, tail_high = np.quantile(deviations_R, [(1 - level) / 2, (1 + level) / 2])
    p = _permutation_p(values_N, groups_N, clusters_N, n_permutations, seed)
    n_groups, n_clusters = len(means.names_O), int(means.n_clusters_O.sum())
    spread = float(np.sqrt(max(0.0, variance)))
    # Where the inverted test says "some difference" its ends, squared, are the better interval of the variance; at 0 the signed one goes on below 0.
    variance_low = low**2 if low > 0 else min(0.0, variance - tail_high)
    variance_high = max(high**2, variance - tail_low if low == 0 else variance)
    reliability = max(0.0, variance) / observed if observed > 0 else 0.0
    return Spread(spread, low, high, variance, variance_low, variance_high, p, n_groups, len(values_N), n_clusters, note, reliability)


def sampling_variances(values_N: np.ndarray, groups_N: np.ndarray, clusters_N: np.ndarray) -> np.ndarray:
    """Sampling variance of every group's mean, v_O, from residuals summed within clusters."""
    _, group_N, unit_N, group_G = unit_of_rows(groups_N, clusters_N)
    n_O = np.bincount(group_N)
    mean_O = np.bincount(group_N, weights=values_N) / n_O
    residual_G = np.bincount(unit_N, weights=values_N - mean_O[group_N])
    clusters_O = np.bincount(group_G)
    return clusters_O / (clusters_O - 1) * np.bincount(group_G, weights=residual_G**2) / n_O**2


def _groups_with_two_clusters(groups_N: np.ndarray, clusters_N: np.ndarray) -> tuple[np.ndarray, str]:
    names_O, group_N, _, group_G = unit_of_rows(groups_N, clusters_N)
    single_O = np.bincount(group_G, minlength=len(names_O)) < 2
    note = f"left out (one cluster): {', '.join(str(name) for name in names_O[single_O])}" if single_O.any() else ""
    return ~single_O[group_N], note


def size_interval(pattern_O: np.ndarray, errors_RO: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Interval of the root mean square of true differences of which `pattern_O` was observed and `errors_RO` are draws of the sampling error.

    It holds every size s for which the observed mean square lies between the tails of mean_o (s * pattern / rms(pattern) + error)^2.
    """
    observed = float((pattern_O**2).mean())
    if observed == 0:
        return 0.0, 0.0
    cross_R = errors_RO @ pattern_O / len(pattern_O)
    error_R = (errors_RO**2).mean(axis=1)

    def quantile(scale: float, tail: float) -> float:
        return float(np.quantile(scale**2 * observed + 2 * scale * cross_R + error_R, tail))

    def boundary(tail: float) -> float:
        """The scale at which the observed mean square is that quantile; 0 when it is reached without any difference."""
        if quantile(0.0, tail) >= observed:
            return 0.0
        below, above = 0.0, 1.0
        while quantile(above, tail) < observed:
            below, above = above, 2 * above
        for _ in range(_BISECTIONS):
            middle = (below + above) / 2
            below, above = (middle, above) if quantile(middle, tail) < observed else (below, middle)
        return above

    size = float(np.sqrt(observed))
    return boundary((1 + level) / 2) * size, boundary((1 - level) / 2) * size


def _permutation_p(values_N: np.ndarray, groups_N: np.ndarray, clusters_N: np.ndarray, n_permutations: int, seed: int) -> float:
    """p of var_o(mean_o) when groups are dealt anew to the clusters; needs no variance estimate, so it holds with few clusters too."""
    names_O, _, unit_N, group_G = unit_of_rows(groups_N, clusters_N)
    value_G, size_G = np.bincount(unit_N, weights=values_N), np.bincount(unit_N).astype(np.float64)
    n_groups = len(names_O)
    dealt_RG = np.random.default_rng([seed, 7]).permuted(np.broadcast_to(group_G, (n_permutations, len(group_G))), axis=1)
    dealt_RG = np.concatenate([group_G[None], dealt_RG])
    flat = (dealt_RG + np.arange(len(dealt_RG))[:, None] * n_groups).ravel()
    sums_RO, sizes_RO = (
        np.bincount(flat, weights=np.broadcast_to(column_G, dealt_RG.shape).ravel(), minlength=len(dealt_RG) * n_groups).reshape(-1, n_groups)
        for column_G in (value_G, size_G)
    )
    variance_R = (sums_RO / sizes_RO).var(axis=1, ddof=1)
    return float((1 + np.sum(variance_R[1:] >= variance_R[0] * (1 - 1e-12))) / (n_permutations + 1))


@dataclass(frozen=True)
class SpreadChange:
    """Spread over groups before and after something was done to the same rows; `change` = after - before, with its paired interval."""

    before: float
    after: float
    change: float
    low: float
    high: float
    n_rows: int
    n_clusters: int
    note: str = ""


def spread_change(before: ArrayLike, after: ArrayLike, groups: ArrayLike, clusters: ArrayLike, *, seed: int, n_draws: int = 2000) -> SpreadChange:
    """How the spread of group means changes (an intervention, another language), rows paired: 95 % interval from clusters resampled within groups.

    A draw adds its sampling error to the observed means shrunk to the corrected spread and takes the known noise away again, so draws centre on the corrected
    spread and not above it. Groups of one cluster are left out; NaN with a note when fewer than two groups are left.
    """
    values_N2 = np.stack([finite(before, "before"), finite(after, "after")], axis=1)
    groups_N, clusters_N = np.asarray(groups), np.asarray(clusters)
    same_rows(values=values_N2, groups=groups_N, clusters=clusters_N)
    keep_N, note = _groups_with_two_clusters(groups_N, clusters_N)
    values_N2, groups_N, clusters_N = values_N2[keep_N], groups_N[keep_N], clusters_N[keep_N]
    n_clusters = len(np.unique(clusters_N))
    if len(np.unique(groups_N)) < 2:
        nan = float("nan")
        return SpreadChange(nan, nan, nan, nan, nan, len(values_N2), n_clusters, "; ".join(filter(None, [note, "fewer than two groups"])))
    means = group_means(values_N2, groups_N, clusters_N, n_draws=n_draws, seed=seed)
    spreads, draws = [], []
    for side in range(2):
        noise = float(sampling_variances(values_N2[:, side], groups_N, clusters_N).mean())
        mean_O = means.means_O[:, side]
        observed = float(mean_O.var(ddof=1))
        kept = np.sqrt(max(0.0, observed - noise) / observed) if observed > 0 else 0.0
        drawn_R = (kept * (mean_O - mean_O.mean()) + means.draws_RO[:, :, side] - mean_O).var(axis=1, ddof=1)
        spreads.append(float(np.sqrt(max(0.0, observed - noise))))
        draws.append(np.sqrt(np.maximum(0.0, drawn_R - noise)))
    change = spreads[1] - spreads[0]
    low, high = (float(end) for end in np.quantile(draws[1] - draws[0], [0.025, 0.975]))
    return SpreadChange(*spreads, change, min(low, change), max(high, change), len(values_N2), n_clusters, note)
