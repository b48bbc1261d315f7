"""How alike two latents are once the noise of single images is taken off both: correlation of what the images of a cluster share.

Numerator and denominator are covariances of different images of one cluster, so both speak of clusters, and neither depends on how large those are.
Shapes: N images in G clusters, K pairs of latents.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse, stats

from saebias.stats.checks import cluster_index, same_rows

MIN_CLUSTERS = 3


def corrected_correlations(first_NK: sparse.csr_array, second_NK: sparse.csr_array, clusters_N: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Per pair of columns C(x, y) / sqrt(C(x, x) C(y, y)) [K]: 1 where both follow the same quantity of a cluster, however noisy their images are.

    C(x, y) is the mean over clusters of x_i y_j, i and j different images of one cluster, less the same over different clusters: an unbiased estimate of the
    covariance between clusters (variance components by products of pairs, as in a one-way analysis of variance). It replaces the split halves of Spearman 1904
    (Am. J. Psychol. 15:72) by all splits at once. May exceed 1. NaN where the interval of C(x, x) or C(y, y) does not lie above 0: what images of a cluster do
    not share cannot be corrected for. Clusters of one image are left out.
    """
    same_rows(first=_sized(first_NK), second=_sized(second_NK), clusters=clusters_N)
    index_N, _ = cluster_index(clusters_N)
    several_G = np.bincount(index_N) > 1
    if several_G.sum() < MIN_CLUSTERS:
        return np.full(first_NK.shape[1], np.nan)
    kept_N = several_G[index_N]
    group_N, _ = cluster_index(index_N[kept_N])
    within = _Within(group_N, np.bincount(group_N))
    first_NK, second_NK = first_NK[kept_N], second_NK[kept_N]
    own_first_K, own_second_K = within.shown(first_NK, level), within.shown(second_NK, level)
    shared_K, _ = within.covariance(first_NK, second_NK)
    return shared_K / np.sqrt(own_first_K * own_second_K)


def _sized(matrix_NK: sparse.csr_array) -> range:
    return range(matrix_NK.shape[0])


class _Within:
    """Covariances between clusters, of rows numbered by cluster."""

    def __init__(self, group_N: np.ndarray, size_G: np.ndarray) -> None:
        shape = len(size_G), len(group_N)
        self.size_G, self.in_cluster_GN = size_G, sparse.csr_array((np.ones(len(group_N)), (group_N, np.arange(len(group_N)))), shape=shape)

    def covariance(self, x_NK: sparse.csr_array, y_NK: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
        """(covariance between clusters, its standard error) per column."""
        n = len(self.size_G)
        sum_x_GK, sum_y_GK = self.in_cluster_GN @ x_NK, self.in_cluster_GN @ y_NK
        own_GK = self.in_cluster_GN @ x_NK.multiply(y_NK)
        pairs_GK = _rows_times(sum_x_GK.multiply(sum_y_GK) - own_GK, 1 / (self.size_G * (self.size_G - 1)))
        mean_x_GK, mean_y_GK = _rows_times(sum_x_GK, 1 / self.size_G), _rows_times(sum_y_GK, 1 / self.size_G)
        total_x_K, total_y_K = _sum(mean_x_GK), _sum(mean_y_GK)
        across_K = (total_x_K * total_y_K - _sum(mean_x_GK.multiply(mean_y_GK).tocsr())) / (n * (n - 1))
        # What each cluster adds, to first order: its spread over clusters is the standard error.
        added_GK = pairs_GK - mean_x_GK.multiply(total_y_K[None] / n) - mean_y_GK.multiply(total_x_K[None] / n)
        variance_K = np.maximum(_sum(added_GK.multiply(added_GK)) / n - (_sum(added_GK) / n) ** 2, 0) * n / (n - 1)
        return _sum(pairs_GK) / n - across_K, np.sqrt(variance_K / n)

    def shown(self, x_NK: sparse.csr_array, level: float) -> np.ndarray:
        """The variance between clusters, NaN where its interval does not lie above 0."""
        value_K, error_K = self.covariance(x_NK, x_NK)
        is_shown_K = value_K - stats.t.ppf((1 + level) / 2, len(self.size_G) - 1) * error_K > 1e-12 * np.abs(value_K)
        return np.where(is_shown_K, value_K, np.nan)


def _rows_times(matrix_GK: sparse.sparray, factor_G: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(sparse.diags_array(factor_G) @ matrix_GK)


def _sum(matrix_GK: sparse.csr_array) -> np.ndarray:
    return np.asarray(matrix_GK.sum(axis=0)).ravel()
