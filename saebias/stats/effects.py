"""How strongly columns (latents) differ between two groups of rows, and how surprising that is when clusters are the unit.

AUROC is the chance that a row of group 1 has the larger value, ties counting half: a rank statistic, so the many exact zeros of a sparse latent are ties
and not evidence. Shapes: N rows, F columns, G clusters, R permutations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saebias.errors import InputError
from saebias.stats.checks import binary, cluster_index, finite, same_rows
from saebias.stats.resampling import cluster_sums, stratum_of_clusters
from saebias.stats.shares import interval_from_influence

# Doubled centred rank sums stay below 2**24 up to this many rows, so products of them with 0/1 labels are exact in float32.
_EXACT_FLOAT32_ROWS = 5_700
_PERMUTATION_CHUNK = 512


def rank_columns(x: ArrayLike) -> np.ndarray:
    """Average ranks (from 1) within each column, ranks_NF; columns of non-negative values that are mostly zero are ranked on their non-zero entries only."""
    x_NF = finite(x, "x")
    if x_NF.size and x_NF.min() >= 0 and np.count_nonzero(x_NF) < 0.4 * x_NF.size:
        return _rank_sparse_columns(x_NF)
    return stats.rankdata(x_NF, axis=0)


def _rank_sparse_columns(x_NF: np.ndarray) -> np.ndarray:
    n_rows, n_columns = x_NF.shape
    column, row = np.nonzero(x_NF.T)
    value = x_NF[row, column]
    order = np.lexsort((value, column))
    column, row, value = column[order], row[order], value[order]
    active_F = np.bincount(column, minlength=n_columns)
    zeros_F = n_rows - active_F
    position = np.arange(1, len(value) + 1) - np.concatenate([[0], np.cumsum(active_F)[:-1]])[column]
    new_tie = np.ones(len(value), dtype=bool)
    new_tie[1:] = (column[1:] != column[:-1]) | (value[1:] != value[:-1])
    tie = np.cumsum(new_tie) - 1
    tie_mean = np.bincount(tie, weights=position) / np.bincount(tie)
    ranks_NF = np.broadcast_to((zeros_F + 1) / 2, x_NF.shape).copy()
    ranks_NF[row, column] = zeros_F[column] + tie_mean[tie]
    return ranks_NF


def auroc_columns(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """AUROC of every column of x_NF for y_N (1 against 0), ties counted half; a constant column gets exactly .5."""
    y_N = binary(y)
    ranks_NF = rank_columns(x)
    same_rows(x=ranks_NF, y=y_N)
    n1 = int(y_N.sum())
    return (y_N @ ranks_NF - n1 * (n1 + 1) / 2) / (n1 * (len(y_N) - n1))


def auroc(x: ArrayLike, y: ArrayLike) -> float:
    """AUROC of one variable x_N for y_N (1 against 0), ties counted half."""
    return float(auroc_columns(np.asarray(x, dtype=np.float64)[:, None], y)[0])


def auroc_intervals(x: ArrayLike, y: ArrayLike, clusters: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(auroc_F, low_F, high_F), with intervals for clustered rows (Obuchowski 1997, Biometrics 53:567) on the Wilson scale.

    At an AUROC of 0 or 1 the interval is that of as many independent observations as the rarer group has clusters. Fewer than two clusters give NaN ends.
    """
    y_N = binary(y)
    x_NF = finite(x, "x")
    index_N, n_clusters = cluster_index(clusters)
    same_rows(x=x_NF, y=y_N, clusters=index_N)
    value_F, influence_NF = auroc_influence(x_NF, y_N)
    if n_clusters < 2:
        return value_F, np.full_like(value_F, np.nan), np.full_like(value_F, np.nan)
    rarer = min(len(np.unique(index_N[y_N])), len(np.unique(index_N[~y_N])))
    low_F, high_F = interval_from_influence(value_F, influence_NF, index_N, level, rarer, len(y_N))
    return value_F, low_F, high_F


def auroc_influence(x_NF: np.ndarray, y_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(auroc_F, influence_NF): how much each row moves the AUROC, from the structural components of DeLong et al. 1988 (Biometrics 44:837)."""
    ranks_NF = rank_columns(x_NF)
    n1, n0 = int(y_N.sum()), int((~y_N).sum())
    value_F = (y_N @ ranks_NF - n1 * (n1 + 1) / 2) / (n1 * n0)
    influence_NF = np.empty_like(ranks_NF)
    influence_NF[y_N] = ((ranks_NF[y_N] - rank_columns(x_NF[y_N])) / n0 - value_F) / n1
    influence_NF[~y_N] = (1 - (ranks_NF[~y_N] - rank_columns(x_NF[~y_N])) / n1 - value_F) / n0
    return value_F, influence_NF


def mean_difference(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """mean(x | y = 1) - mean(x | y = 0) of every column."""
    y_N, x_NF = binary(y), finite(x, "x")
    same_rows(x=x_NF, y=y_N)
    return x_NF[y_N].mean(axis=0) - x_NF[~y_N].mean(axis=0)


def cohens_d(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Mean difference over the pooled standard deviation, per column; NaN where a column does not vary within the groups."""
    y_N, x_NF = binary(y), finite(x, "x")
    n1, n0 = int(y_N.sum()), int((~y_N).sum())
    if min(n1, n0) < 2:
        raise InputError(f"groups of {n1} and {n0} rows: a pooled standard deviation needs two rows in each")
    pooled_F = np.sqrt(((n1 - 1) * x_NF[y_N].var(axis=0, ddof=1) + (n0 - 1) * x_NF[~y_N].var(axis=0, ddof=1)) / (n1 + n0 - 2))
    difference_F = mean_difference(x_NF, y_N)
    # The deviation of equal values is rounding, not variation.
    varies_F = pooled_F > 1e-12 * np.abs(x_NF).max(axis=0)
    return np.divide(difference_F, pooled_F, out=np.full_like(difference_F, np.nan), where=varies_F)


def cluster_permutation_auroc(
    x: ArrayLike, y: ArrayLike, clusters: ArrayLike, n_permutations: int = 9999, seed: int = 0, strata: ArrayLike | None = None
) -> np.ndarray:
    """Two-sided permutation p per column, (1 + #{|AUROC_r - .5| >= |AUROC - .5|}) / (R + 1), labels permuted among clusters.

    The label must be constant within a cluster (else InputError). `strata` (constant within a cluster) restricts the exchange to clusters of one stratum.
    With R permutations over F columns Benjamini-Hochberg can reach q only when at least F/(q(R+1)) columns share the smallest p: choose R accordingly.
    """
    y_N = binary(y)
    index_N, n_clusters = cluster_index(clusters)
    ranks_NF = rank_columns(x)
    rows = same_rows(x=ranks_NF, y=y_N, clusters=index_N)
    y_G = _label_of_clusters(y_N, index_N, n_clusters)
    dtype = np.float32 if rows <= _EXACT_FLOAT32_ROWS else np.float64
    sums_GF = cluster_sums(index_N, 2 * ranks_NF - (rows + 1)).astype(dtype)
    size_G = np.bincount(index_N)
    permuted_RG = permute_within(y_G, strata, index_N, n_permutations, seed)
    n1 = int(y_N.sum())
    # A permutation that ties with the data counts as at least as extreme; the slack keeps rounding from deciding that.
    threshold_F = np.abs(y_G.astype(dtype) @ sums_GF) / dtype(n1 * (rows - n1)) * dtype(1 - 1e-6)
    count_F = np.ones(ranks_NF.shape[1])
    for start in range(0, n_permutations, _PERMUTATION_CHUNK):
        labels_RG = permuted_RG[start : start + _PERMUTATION_CHUNK]
        n1_R = labels_RG @ size_G
        drawn_RF = np.abs(labels_RG.astype(dtype) @ sums_GF)
        drawn_RF /= np.maximum(n1_R * (rows - n1_R), 1).astype(dtype)[:, None]
        count_F += (drawn_RF >= threshold_F).sum(axis=0)
    return count_F / (n_permutations + 1)


def _label_of_clusters(y_N: np.ndarray, index_N: np.ndarray, n_clusters: int) -> np.ndarray:
    y_G = np.zeros(n_clusters, dtype=bool)
    y_G[index_N] = y_N
    mixed = np.unique(index_N[y_G[index_N] != y_N])
    if len(mixed):
        raise InputError(
            f"{len(mixed)} clusters hold rows of both groups; permuting among clusters needs one group per cluster (cluster by drawing, not by scene)"
        )
    return y_G


def permute_within(values_G: np.ndarray, strata: ArrayLike | None, index_N: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    """Permuted copies of per-cluster values, permuted_RG; with strata (one label per row), only clusters of one stratum exchange values."""
    rng = np.random.default_rng(seed)
    stratum_G = stratum_of_clusters(index_N, len(values_G), strata)
    permuted_RG = np.empty((n_permutations, len(values_G)), dtype=values_G.dtype)
    for stratum in np.unique(stratum_G):
        members = np.flatnonzero(stratum_G == stratum)
        permuted_RG[:, members] = rng.permuted(np.broadcast_to(values_G[members], (n_permutations, len(members))), axis=1)
    return permuted_RG


def permutation_p(observed: float, drawn: ArrayLike) -> float:
    """p of an arm among R matched random arms, two-sided: (1 + #{|T_r - med| >= |T - med|}) / (R + 1), med the median of the random arms."""
    drawn_R = finite(drawn, "the random arms' statistics")
    if not np.isfinite(observed):
        raise InputError(f"the arm's statistic is {observed}; a permutation p needs a number")
    if len(drawn_R) == 0:
        raise InputError("no random arms; draw at least 199 matched sets")
    median = np.median(drawn_R)
    distance = abs(observed - median)
    return float((1 + np.sum(np.abs(drawn_R - median) >= distance * (1 - 1e-12))) / (len(drawn_R) + 1))
