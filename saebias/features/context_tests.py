"""Is a latent's part in the stereotype more than chance, and how large is it: tests and intervals of between-context scores.

score_j = Cov_o(mean_{i in o} a_ij, mean_{i in o} m_i), see `attribution.between_context`. Shapes: N images, F latents, O contexts, G clusters, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from saebias.errors import InputError
from saebias.stats.checks import finite, same_rows
from saebias.stats.heterogeneity import group_means, spread_of_groups, unit_of_rows
from saebias.stats.resampling import Estimate, cluster_sums

_CHUNK = 512


@dataclass(frozen=True)
class ScoreIntervals:
    """Between-context scores with 95 % intervals; `unbiased_F` is the score without what the sampling of images adds to it."""

    score_F: np.ndarray
    low_F: np.ndarray
    high_F: np.ndarray
    unbiased_F: np.ndarray
    n_images: int
    n_clusters: int


def score_intervals(attribution: ArrayLike, gap: ArrayLike, contexts: ArrayLike, clusters: ArrayLike, *, seed: int, n_draws: int = 2000) -> ScoreIntervals:
    """Intervals of the between-context scores of a few latents (attribution_NF of the selected), image clusters resampled within contexts.

    Attribution and gap of one image share their noise, which adds to the covariance once in the data and once more in a draw; the second part, the mean
    covariance of the draws' errors, is taken off the draws, so they centre on the score. Raises InputError when a context has one cluster.
    """
    attribution_NF, gap_N = finite(attribution, "attribution"), finite(gap, "gap")
    clusters_N = np.asarray(clusters)
    same_rows(attribution=attribution_NF, gap=gap_N, contexts=np.asarray(contexts), clusters=clusters_N)
    means = group_means(np.column_stack([attribution_NF, gap_N]), contexts, clusters_N, n_draws=n_draws, seed=seed)
    alone = means.names_O[means.n_clusters_O < 2]
    if len(alone):
        raise InputError(f"context {alone[0]!s} has one cluster of images; leave it out, or give it a second drawing")
    if len(means.names_O) < 3:
        raise InputError(f"{len(means.names_O)} contexts: a covariance over contexts needs at least three")
    score_F = _covariance(means.means_O[None])[0]
    noise_F = _covariance(means.draws_RO - means.means_O).mean(axis=0)
    low_F, high_F = np.quantile(_covariance(means.draws_RO) - noise_F, [0.025, 0.975], axis=0)
    return ScoreIntervals(score_F, low_F, high_F, score_F - noise_F, len(gap_N), len(np.unique(clusters_N)))


def _covariance(values_ROK: np.ndarray) -> np.ndarray:
    """Covariance over contexts of every column with the last one, [R, K - 1]."""
    centred_ROK = values_ROK - values_ROK.mean(axis=1, keepdims=True)
    return np.einsum("rok,ro->rk", centred_ROK[:, :, :-1], centred_ROK[:, :, -1]) / (values_ROK.shape[1] - 1)


def explained_slope(attribution: ArrayLike, gap: ArrayLike, contexts: ArrayLike, clusters: ArrayLike, *, seed: int, level: float = 0.95) -> Estimate:
    """How far the latents' first-order parts, summed, go with the gap from context to context: Cov_o(sum_j a_j, m) / Var_o(m), with Student's t over contexts.

    1: together they make the differences; more than 1: they overshoot, and the rest holds against them, so this is no share. The interval leaves out one
    context at a time (jackknife). NaN with a note below four contexts, or where the gap is not shown to differ between contexts.
    """
    sum_N, gap_N = finite(attribution, "attribution").sum(axis=1), finite(gap, "gap")
    names, index_N = np.unique(np.asarray(contexts), return_inverse=True)
    same_rows(attribution=sum_N, gap=gap_N, contexts=index_N, clusters=np.asarray(clusters))
    counts = len(gap_N), len(np.unique(clusters))
    if len(names) < 4:
        return Estimate(np.nan, np.nan, np.nan, *counts, f"{len(names)} contexts: a slope over contexts needs four")
    spread = spread_of_groups(gap_N, contexts, clusters, seed=seed, n_permutations=99)
    if not spread.low > 0:
        return Estimate(np.nan, np.nan, np.nan, *counts, "the gap is not shown to differ between contexts: nothing to explain")
    means_O2 = np.stack([np.bincount(index_N, weights=of_N) / np.bincount(index_N) for of_N in (sum_N, gap_N)], axis=1)

    def slope(of_O2: np.ndarray) -> float:
        covariance = np.cov(of_O2.T)
        return float(covariance[0, 1] / covariance[1, 1])

    value, left_out = slope(means_O2), np.array([slope(np.delete(means_O2, each, axis=0)) for each in range(len(names))])
    error = np.sqrt((len(names) - 1) / len(names) * np.sum((left_out - left_out.mean()) ** 2))
    half = float(stats.t.ppf((1 + level) / 2, len(names) - 1) * error)
    return Estimate(value, value - half, value + half, *counts, f"interval over {len(names)} contexts")


def between_context_p(attribution: ArrayLike, gap: ArrayLike, contexts: ArrayLike, clusters: ArrayLike, *, seed: int, n_permutations: int = 9999) -> np.ndarray:
    """Two-sided permutation p of every latent's between-context score, contexts dealt anew to image clusters: p_F over all latents, dead ones 1.

    A cluster keeps its attributions and its gap together, so what attribution and gap share within an image is part of the null. Distance is from the median
    of the permuted scores: p = (1 + #{|s_r - med| >= |s - med|}) / (R + 1).
    """
    attribution_NF, gap_N = finite(attribution, "attribution"), finite(gap, "gap")
    same_rows(attribution=attribution_NF, gap=gap_N, contexts=np.asarray(contexts), clusters=np.asarray(clusters))
    names_O, _, unit_N, context_G = unit_of_rows(contexts, clusters)
    if len(names_O) < 3:
        raise InputError(f"{len(names_O)} contexts: a covariance over contexts needs at least three")
    dealt_RG = np.random.default_rng(seed).permuted(np.broadcast_to(context_G, (n_permutations, len(context_G))), axis=1)
    weight_RG = _score_weights(np.concatenate([context_G[None], dealt_RG]), np.bincount(unit_N, weights=gap_N), np.bincount(unit_N), len(names_O))
    sums_GF = cluster_sums(unit_N, attribution_NF)
    observed_F = weight_RG[0] @ sums_GF
    p_F = np.empty(sums_GF.shape[1])
    for start in range(0, len(p_F), _CHUNK):
        drawn_RF = weight_RG[1:] @ sums_GF[:, start : start + _CHUNK]
        median_F = np.median(drawn_RF, axis=0)
        distance_F = np.abs(observed_F[start : start + _CHUNK] - median_F)
        # Rounding must not turn a tie (a dead latent: all scores 0) into a difference.
        slack_F = 1e-9 * np.abs(drawn_RF).max(axis=0)
        p_F[start : start + _CHUNK] = (1 + (np.abs(drawn_RF - median_F) >= distance_F - slack_F).sum(axis=0)) / (n_permutations + 1)
    return p_F


def _score_weights(dealt_RG: np.ndarray, gap_sum_G: np.ndarray, size_G: np.ndarray, n_contexts: int) -> np.ndarray:
    """The score is linear in the attributions: weights_RG, so that score_RF = weights_RG @ cluster sums of attribution."""
    n_rows = len(dealt_RG)
    flat = (dealt_RG + np.arange(n_rows)[:, None] * n_contexts).ravel()
    sums_RO, sizes_RO = (
        np.bincount(flat, weights=np.broadcast_to(column_G, dealt_RG.shape).ravel(), minlength=n_rows * n_contexts).reshape(n_rows, n_contexts)
        for column_G in (gap_sum_G, size_G.astype(np.float64))
    )
    mean_RO = sums_RO / sizes_RO
    weight_RO = (mean_RO - mean_RO.mean(axis=1, keepdims=True)) / ((n_contexts - 1) * sizes_RO)
    return np.take_along_axis(weight_RO, dealt_RG, axis=1)
