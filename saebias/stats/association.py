"""How words, contexts or latents go together with gender: pointwise mutual information and association within strata.

Shapes: N rows (captions, images), A attributes (words), F latents, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.stats.checks import binary, cluster_index, finite, same_rows
from saebias.stats.effects import rank_columns
from saebias.stats.resampling import bootstrap_counts, cluster_sums
from saebias.stats.shares import interval_from_influence


def pmi(joint: ArrayLike, smoothing: float = 0.0) -> np.ndarray:
    """Pointwise mutual information log2 P(a, b) / (P(a) P(b)) of a table of counts, in bits (Church & Hanks 1990, Computational Linguistics 16:22).

    `smoothing` is added to every cell. Without it a cell of count 0 is -inf, and a row or column without any count is NaN.
    """
    counts_AB = finite(joint, "counts") + smoothing
    if counts_AB.ndim != 2 or (counts_AB < 0).any() or counts_AB.sum() <= 0:
        raise InputError(f"counts of shape {counts_AB.shape} with smallest {counts_AB.min():g}; hand in a table of counts, none below 0 and not all 0")
    expected_AB = counts_AB.sum(axis=1, keepdims=True) * counts_AB.sum(axis=0, keepdims=True) / counts_AB.sum()
    with np.errstate(divide="ignore"):
        return np.log2(np.divide(counts_AB, expected_AB, out=np.full_like(counts_AB, np.nan), where=expected_AB > 0))


def normalised_pmi(joint: ArrayLike) -> np.ndarray:
    """PMI over -log2 P(a, b): 1 when a and b occur only together, 0 when independent, -1 when never together (Bouma 2009, GSCL)."""
    counts_AB = finite(joint, "counts")
    value_AB = pmi(counts_AB)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised_AB = value_AB / -np.log2(counts_AB / counts_AB.sum())
    normalised_AB = np.where((counts_AB == 0) & ~np.isnan(value_AB), -1.0, normalised_AB)
    # A pair that is the whole table occurs only together, and 0 / 0 hides it.
    return np.where(counts_AB == counts_AB.sum(), 1.0, normalised_AB)


@dataclass(frozen=True)
class WordGap:
    """PMI(word; F) - PMI(word; M) = log2 P(word | F) / P(word | M) per word, with interval; NaN where a word never occurs."""

    value_A: np.ndarray
    low_A: np.ndarray
    high_A: np.ndarray
    count_f_A: np.ndarray
    count_m_A: np.ndarray


def word_gender_gap(words: ArrayLike, is_female: ArrayLike, clusters: ArrayLike, *, seed: int, n_draws: int = 2000, level: float = 0.95) -> WordGap:
    """Which words captions use for women rather than men: the difference of PMIs in bits, above 0 for words of women, intervals over image clusters.

    words_NA is 0/1 per caption and word. Half a caption is added with and without each word to both genders (Haldane 1956), so that a word that one gender
    never gets stays finite; its percentile interval is then too optimistic on that side, which `count_*_A` shows.
    """
    words_NA, female_N = finite(words, "words"), binary(is_female, "is_female")
    same_rows(words=words_NA, is_female=female_N, clusters=np.asarray(clusters))
    columns = np.concatenate([words_NA * female_N[:, None], words_NA * ~female_N[:, None], female_N[:, None], ~female_N[:, None]], axis=1)
    sums_GK = cluster_sums(clusters, columns)
    n_words = words_NA.shape[1]
    value_A = _gap(sums_GK.sum(axis=0), n_words)
    draws_RA = _gap(bootstrap_counts(clusters, n_draws, seed) @ sums_GK, n_words)
    low_A, high_A = np.quantile(draws_RA, [(1 - level) / 2, (1 + level) / 2], axis=0)
    total_A = sums_GK.sum(axis=0)
    never_A = total_A[:n_words] + total_A[n_words : 2 * n_words] == 0
    value_A, low_A, high_A = (np.where(never_A, np.nan, ends_A) for ends_A in (value_A, low_A, high_A))
    return WordGap(value_A, low_A, high_A, total_A[:n_words], total_A[n_words : 2 * n_words])


def _gap(sums: np.ndarray, n_words: int) -> np.ndarray:
    with_f, with_m, n_f, n_m = sums[..., :n_words], sums[..., n_words : 2 * n_words], sums[..., -2:-1], sums[..., -1:]
    return np.log2((with_f + 0.5) / (n_f + 1)) - np.log2((with_m + 0.5) / (n_m + 1))


def stratified_auroc(x: ArrayLike, y: ArrayLike, strata: ArrayLike, clusters: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(auroc_F, low_F, high_F) over pairs of one stratum only: the association of x_NF with y_N that a common cause (the context) cannot make.

    Pairs of all strata are pooled (the statistic of van Elteren 1960 with pair weights); intervals from cluster sums on the Wilson scale. Strata with one group
    only carry no pair and are left out; raises InputError when all do.
    """
    x_NF, y_N = finite(x, "x"), binary(y)
    stratum_N, n_strata = cluster_index(strata)
    index_N, n_clusters = cluster_index(clusters)
    same_rows(x=x_NF, y=y_N, strata=stratum_N, clusters=index_N)
    members = [np.flatnonzero(stratum_N == stratum) for stratum in range(n_strata)]
    members = [rows for rows in members if y_N[rows].any() and not y_N[rows].all()]
    if not members:
        raise InputError(f"none of {n_strata} strata holds both groups; there is no pair to compare within a stratum")
    pairs = sum(int(y_N[rows].sum() * (~y_N[rows]).sum()) for rows in members)
    won_NF = np.zeros_like(x_NF)
    for rows in members:
        won_NF[rows] = _pairs_won(x_NF[rows], y_N[rows])
    value_F = won_NF[y_N].sum(axis=0) / pairs
    # A row's pull: the pairs it won beyond the average, once as a member of either group.
    compared_N = np.zeros(len(y_N))
    for rows in members:
        compared_N[rows] = np.where(y_N[rows], (~y_N[rows]).sum(), y_N[rows].sum())
    influence_NF = (won_NF - compared_N[:, None] * value_F) / pairs
    used_N = compared_N > 0
    if n_clusters < 2:
        return value_F, np.full_like(value_F, np.nan), np.full_like(value_F, np.nan)
    rarer = min(len(np.unique(index_N[used_N & y_N])), len(np.unique(index_N[used_N & ~y_N])))
    low_F, high_F = interval_from_influence(value_F, influence_NF, index_N, level, rarer, int(used_N.sum()))
    return value_F, low_F, high_F


def _pairs_won(x_NF: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    """For a row of group 1 the pairs in which it is larger, for a row of group 0 the pairs in which it is smaller; ties half."""
    ranks_NF = rank_columns(x_NF)
    won_NF = np.empty_like(ranks_NF)
    won_NF[y_N] = ranks_NF[y_N] - rank_columns(x_NF[y_N])
    won_NF[~y_N] = y_N.sum() - (ranks_NF[~y_N] - rank_columns(x_NF[~y_N]))
    return won_NF
