"""How every latent of a dictionary goes with a label of clusters: AUROC, permutation p, interval, from sparse codes and in blocks of latents.

The same statistics as `saebias.stats.effects` computes on dense columns, at the cost of the active codes alone.
Shapes: N rows, F latents, G clusters, R permutations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, stats

from saebias.errors import InputError
from saebias.mechanistic.codes import SparseCodes, rank_sums
from saebias.stats.checks import binary, cluster_index, same_rows
from saebias.stats.shares import wilson

_PERMUTATION_CHUNK = 512
# Memory of one block of permuted statistics, in numbers.
_CHUNK_ELEMENTS = 4_000_000


@dataclass(frozen=True, eq=False)
class Association:
    """AUROC of each latent with a 0/1 label, its two-sided permutation p over clusters, and the clustered interval at `level`; a dead one has .5 and 1."""

    auroc_F: np.ndarray
    p_F: np.ndarray
    low_F: np.ndarray
    high_F: np.ndarray
    level: float
    n_rows: int
    n_clusters: int


def associate(codes: SparseCodes, labels: ArrayLike, clusters: ArrayLike, *, n_permutations: int, seed: int, level: float = 0.95) -> Association:
    """The association of all latents with a label that is constant within clusters.

    p = (1 + #{|AUROC_r - .5| >= |AUROC - .5|}) / (R + 1) with labels permuted among clusters; intervals by Obuchowski 1997 (Biometrics 53:567) on the Wilson
    scale. Raises InputError when a label is missing or a cluster holds both.
    """
    if not codes.n_latents:
        raise InputError(f"codes have no latents (shape ({codes.n_rows}, 0)); hand in a column for each")
    if n_permutations < 1:
        raise InputError(f"{n_permutations} permutations give no p; ask for 99 at least")
    y_N = binary(labels, "visible gender")
    index_N, n_clusters = cluster_index(clusters)
    same_rows(codes=codes, labels=y_N, clusters=index_N)
    y_G = np.zeros(n_clusters, dtype=bool)
    y_G[index_N] = y_N
    mixed = np.unique(index_N[y_G[index_N] != y_N])
    if len(mixed):
        raise InputError(f"{len(mixed)} clusters hold images of both genders; permuting needs one gender per cluster (cluster by drawing, not by scene)")
    packed = _packed_permutations(y_G, n_permutations, seed)
    auroc_F, p_F = np.full(codes.n_latents, 0.5), np.ones(codes.n_latents)
    size_G = np.bincount(index_N)
    for block in codes.blocks():
        sums = rank_sums(codes, block, index_N, n_clusters)
        n1 = int(y_N.sum())
        observed_F = sums.of_labels(y_G[None].astype(np.float64), np.array([[n1]]))[0]
        auroc_F[block] = 0.5 + observed_F / (2 * n1 * (len(y_N) - n1))
        # A silent latent is the same under every permutation; it is left out of the work, not of the count of tests.
        live = np.flatnonzero(np.diff(codes.matrix.indptr[block.start : block.stop + 1]))
        threshold_F = np.abs(observed_F[live]) / (n1 * (len(y_N) - n1)) * (1 - 1e-9)
        p_F[block.start + live] = _exceedances(sums.above_UF[:, live], sums.zero_SF[:, live], packed, size_G, threshold_F) / (n_permutations + 1)
    low_F, high_F = _intervals(codes, y_N, index_N, n_clusters, auroc_F, level)
    return Association(auroc_F, p_F, low_F, high_F, level, len(y_N), n_clusters)


def _packed_permutations(y_G: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    """Labels of the clusters in random order, a bit each: many permutations of many clusters would not fit as bytes."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_ELEMENTS // len(y_G))
    sizes = (min(step, n_permutations - start) for start in range(0, n_permutations, step))
    return np.concatenate([np.packbits(rng.permuted(np.broadcast_to(y_G, (size, len(y_G))), axis=1), axis=1) for size in sizes])


def _exceedances(above_UF: sparse.csr_array, zero_SF: np.ndarray, packed: np.ndarray, size_G: np.ndarray, threshold_F: np.ndarray) -> np.ndarray:
    """1 + the number of permutations whose |AUROC - .5| (doubled) reaches the threshold, per latent."""
    rows = int(size_G.sum())
    count_F = np.ones(len(threshold_F))
    # Few columns at a time when there are many permutations, and the other way round: either way the block is bounded.
    step = max(1, min(_PERMUTATION_CHUNK, _CHUNK_ELEMENTS // max(1, len(threshold_F)), _CHUNK_ELEMENTS // len(size_G)))
    dense = above_UF.toarray() if above_UF.shape[0] * above_UF.shape[1] <= _CHUNK_ELEMENTS else None
    for start in range(0, len(packed), step):
        labels_RG = np.unpackbits(packed[start : start + step], axis=1, count=len(size_G)).astype(np.float64)
        n1_R = labels_RG @ size_G
        drawn_RF = labels_RG @ dense if dense is not None else np.asarray(above_UF.T @ labels_RG.T).T
        drawn_RF += n1_R[:, None] * zero_SF
        np.abs(drawn_RF, out=drawn_RF)
        count_F += (drawn_RF >= threshold_F * np.maximum(n1_R * (rows - n1_R), 1)[:, None]).sum(axis=0)
    return count_F


def _intervals(codes: SparseCodes, y_N: np.ndarray, index_N: np.ndarray, n_clusters: int, auroc_F: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    if n_clusters < 2:
        return np.full_like(auroc_F, np.nan), np.full_like(auroc_F, np.nan)
    squares_F = np.empty_like(auroc_F)
    for block in codes.blocks():
        squares_F[block] = _influence_squares(codes, block, y_N, index_N, n_clusters, auroc_F[block])
    variance_F = n_clusters / (n_clusters - 1) * squares_F
    binomial_F = auroc_F * (1 - auroc_F)
    rarer = min(len(np.unique(index_N[y_N])), len(np.unique(index_N[~y_N])))
    n_F = np.full(auroc_F.shape, float(rarer))
    regular_F = (variance_F > 1e-15) & (binomial_F > 1e-12)
    n_F[regular_F] = np.minimum(binomial_F[regular_F] / variance_F[regular_F], len(y_N))
    return wilson(auroc_F, n_F, float(stats.t.ppf(0.5 + level / 2, n_clusters - 1)))


def _influence_squares(codes: SparseCodes, block: slice, y_N: np.ndarray, index_N: np.ndarray, n_clusters: int, auroc_F: np.ndarray) -> np.ndarray:
    """Sum over clusters of the squared influence on the AUROC (structural components of DeLong et al. 1988), per latent.

    A row's placement among the other group is its rank among all less its rank within its group, halved and over the other group's size; a cluster of one
    gender sums it. With a value for silent rows and a sparse rest, the square of the sum is a quadratic form in both.
    """
    everyone = rank_sums(codes, block, index_N, n_clusters)
    within = rank_sums(codes, block, index_N, n_clusters, stratum_N=y_N.astype(np.int64))
    size_G = np.bincount(index_N)
    y_G = np.zeros(n_clusters, dtype=bool)
    y_G[index_N] = y_N
    n = np.array([(~y_N).sum(), y_N.sum()])
    total_F = np.zeros(len(auroc_F))
    above = everyone.above_UF - within.above_UF
    for label, sign in ((0, -1.0), (1, 1.0)):
        own, other = n[label], n[1 - label]
        members = y_G == bool(label)
        # Doubled and centred: 2(r_all - r_own) = n_other + the difference of the two centred ranks.
        silent_F = sign * ((other + everyone.zero_SF[0] - within.zero_SF[label]) / (2 * other) - (auroc_F if label else 1 - auroc_F)) / own
        rest_GF = above[members] * (sign / (2 * other * own))
        size = size_G[members].astype(np.float64)
        cross_F = np.asarray(rest_GF.T @ size)
        squares_F = np.asarray(rest_GF.multiply(rest_GF).sum(axis=0)).ravel()
        total_F += silent_F**2 * (size**2).sum() + 2 * silent_F * cross_F + squares_F
    return np.maximum(total_F, 0.0)
