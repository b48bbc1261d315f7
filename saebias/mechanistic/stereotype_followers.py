"""Which latents follow the stereotype: pictures that show no gender, and how the model's P(woman) goes from context to context.

A latent that follows a gender the picture shows has seen the picture; only where nothing is shown can following a gender be bias. The unit is the context: its
mean code against its mean P(woman), ranked, contexts exchanged for the p. Shapes: N rows, F latents, O contexts, R permutations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, stats

from saebias.errors import InputError
from saebias.mechanistic.codes import SparseCodes
from saebias.stats.checks import finite, same_rows
from saebias.stats.equivalence import verdict
from saebias.stats.heterogeneity import Spread, spread_of_groups
from saebias.stats.multiple import benjamini_hochberg
from saebias.stats.resampling import Estimate

MIN_CONTEXTS = 5
# Of what single images add to a P(woman) a latent of the same images may know: where that is much, following it looks like following the context.
MIN_RELIABILITY = 0.9
# Numbers of one block of permuted statistics.
_CHUNK_ELEMENTS = 4_000_000
_FEW, _FINER = 10, 20


@dataclass(frozen=True, eq=False)
class Followers:
    """Every latent against the stereotype of one language: Spearman over contexts, interval, permutation p, q over all latents; `n_permuted` is the control.

    `reason` says why nothing was tested: too few contexts, or no stereotype to follow; correlations are then NaN, and `group_F` has no female and no male.
    """

    correlation_F: np.ndarray
    low_F: np.ndarray
    high_F: np.ndarray
    p_F: np.ndarray
    q_F: np.ndarray
    group_F: np.ndarray
    spread: float
    n_permuted: int
    n_images: int
    n_contexts: int
    reason: str

    @property
    def tested(self) -> bool:
        """Whether there were contexts enough to ask; with no stereotype to follow the answer is that no latent does."""
        return not np.isnan(self.spread)


def follow_stereotype(
    codes: SparseCodes,
    p_female: ArrayLike,
    contexts: ArrayLike,
    clusters: ArrayLike,
    *,
    seed: int,
    q: float = 0.05,
    n_permutations: int = 9999,
    smallest: float = 0.05,
) -> Followers:
    """The followers among all latents, from rows of pictures that show no gender, with the model's P(woman | woman or man) of each.

    Nothing is tested where P(woman) spreads over the contexts by less than `smallest`, the smallest stereotype that matters, or by no more than chance: every
    model has differences in the fourth decimal, and a latent that follows those follows no stereotype. Nor where less than `MIN_RELIABILITY` of the variance
    of P(woman) over contexts is that of contexts: the rest is of the very images whose codes are compared with it. group_F: female (fires more where the model
    says woman), male, or neutral. Raises InputError for a P outside 0 to 1, or arrays of different length.
    """
    p_N, contexts_N, clusters_N = finite(p_female, "P(woman)"), np.asarray(contexts), np.asarray(clusters)
    same_rows(codes=codes, p_female=p_N, contexts=contexts_N, clusters=clusters_N)
    if p_N.min() < 0 or p_N.max() > 1:
        raise InputError(f"P(woman) runs from {p_N.min():.3g} to {p_N.max():.3g}; hand in probabilities from 0 to 1")
    if n_permutations < 1:
        raise InputError(f"{n_permutations} permutations give no p; ask for 99 at least")
    names, index_N = np.unique(contexts_N, return_inverse=True)
    if len(names) < MIN_CONTEXTS:
        return _untested(
            codes, p_N, len(names), float("nan"), f"{len(names)} contexts with pictures that show no gender; a rank correlation needs {MIN_CONTEXTS}"
        )
    spread = spread_of_groups(p_N, contexts_N, clusters_N, seed=seed, n_permutations=99)
    reason = _nothing_to_follow(spread, smallest)
    if reason:
        return _untested(codes, p_N, len(names), spread.spread, reason)
    if spread.reliability < MIN_RELIABILITY:
        noisy = f"{1 - spread.reliability:.0%} of the variance of P(woman) over contexts is noise of their images (at most {1 - MIN_RELIABILITY:.0%})"
        return _untested(codes, p_N, len(names), float("nan"), f"{noisy}; give more images without a shown gender per context")
    in_context_ON = sparse.csr_array((np.ones(len(index_N)), (index_N, np.arange(len(index_N)))), shape=(len(names), len(index_N)))
    size_O = np.bincount(index_N)
    rank_O = _standard(stats.rankdata(np.bincount(index_N, weights=p_N) / size_O)[:, None])[:, 0]
    sums_OF = (in_context_ON @ codes.matrix).tocsc()
    correlation_F, p_F = _tested(sums_OF, size_O, rank_O, n_permutations, seed)
    _, control_p_F = _tested(sums_OF, size_O, np.random.default_rng([seed, 5]).permutation(rank_O), n_permutations, seed)
    low_F, high_F = _intervals(correlation_F, len(names))
    q_F = benjamini_hochberg(p_F)
    group_F = np.select([(q_F <= q) & (correlation_F > 0), (q_F <= q) & (correlation_F < 0)], ["female", "male"], "neutral")
    n_permuted = int((benjamini_hochberg(control_p_F) <= q).sum())
    return Followers(correlation_F, low_F, high_F, p_F, q_F, group_F, spread.spread, n_permuted, len(p_N), len(names), "")


def _nothing_to_follow(spread: Spread, smallest: float) -> str:
    if np.isnan(spread.spread):
        return f"the spread of P(woman) over contexts is not known: {spread.note}"
    if spread.low == 0:
        return f"no stereotype to follow: P(woman) spreads over contexts by {spread.spread:.3f}, no more than chance explains"
    if verdict(Estimate(spread.spread, spread.low, spread.high, spread.n_rows, spread.n_clusters), smallest) == "negligible":
        return f"no stereotype to follow: P(woman) spreads over contexts by {spread.spread:.3f}, the whole interval below {smallest:g}"
    return ""


def _untested(codes: SparseCodes, p_N: np.ndarray, n_contexts: int, spread: float, reason: str) -> Followers:
    nan_F, ones_F = np.full(codes.n_latents, np.nan), np.ones(codes.n_latents)
    return Followers(nan_F, nan_F, nan_F, ones_F, ones_F, np.full(codes.n_latents, "neutral"), spread, 0, len(p_N), n_contexts, reason)


def _tested(sums_OF: sparse.csc_array, size_O: np.ndarray, rank_O: np.ndarray, n_permutations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(correlation, p) per latent, p = (1 + #{|r_drawn| >= |r|}) / (R + 1); a latent that is equally active in all contexts has 0 and 1.

    A latent that hardly any permutation reaches is tested again with `_FINER` times as many fresh ones: there are few contexts and many latents, and a p that
    cannot fall below 1 / R is not small enough for a false-discovery rate over all of them.
    """
    n_latents = sums_OF.shape[1]
    correlation_F, p_F = np.zeros(n_latents), np.ones(n_latents)
    # A latent that is silent in all contexts is the same in every order; it is left out of the work, not of the count of tests.
    live = np.flatnonzero(np.diff(sums_OF.indptr))
    step = max(1, _CHUNK_ELEMENTS // max(1000, len(rank_O)))
    for start in range(0, len(live), step):
        some = live[start : start + step]
        codes_OF = _standard(stats.rankdata(sums_OF[:, some].toarray() / size_O[:, None], axis=0))
        observed_F = rank_O @ codes_OF
        correlation_F[some] = observed_F
        reached_F = _reached(codes_OF, rank_O, np.abs(observed_F), n_permutations, [seed, 1])
        p_F[some] = (1 + reached_F) / (1 + n_permutations)
        rare = np.flatnonzero(reached_F < _FEW)
        if len(rare):
            again_F = _reached(codes_OF[:, rare], rank_O, np.abs(observed_F[rare]), _FINER * n_permutations, [seed, 2])
            p_F[some[rare]] = (1 + again_F) / (1 + _FINER * n_permutations)
    return correlation_F, p_F


def _reached(codes_OF: np.ndarray, rank_O: np.ndarray, threshold_F: np.ndarray, n_permutations: int, seed: list[int]) -> np.ndarray:
    """How many of the permutations of the contexts reach each latent's |r|."""
    rng, count_F = np.random.default_rng(seed), np.zeros(len(threshold_F))
    step = max(1, _CHUNK_ELEMENTS // max(codes_OF.shape))
    for start in range(0, n_permutations, step):
        n = min(step, n_permutations - start)
        drawn_RF = rng.permuted(np.broadcast_to(rank_O, (n, len(rank_O))), axis=1) @ codes_OF
        # Rounding must not turn a tie into a difference.
        count_F += (np.abs(drawn_RF, out=drawn_RF) >= threshold_F - 1e-9).sum(axis=0)
    return count_F


def _standard(ranks_OF: np.ndarray) -> np.ndarray:
    """Columns centred and of length 1, so that products are correlations; a constant column is 0."""
    centred_OF = ranks_OF - ranks_OF.mean(axis=0)
    length_F = np.linalg.norm(centred_OF, axis=0)
    return np.divide(centred_OF, length_F, out=np.zeros_like(centred_OF), where=length_F > 0)


def _intervals(correlation_F: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of Spearman correlations over n contexts (Bonett and Wright 2000, Psychometrika 65:23); half a step short of 1 for a perfect order."""
    nearest = 1 - 6 / (n * (n**2 - 1))
    z_F = np.arctanh(np.clip(correlation_F, -nearest, nearest))
    half_F = stats.norm.ppf(0.975) * np.sqrt((1 + correlation_F**2 / 2) / (n - 3))
    return np.tanh(z_F - half_F), np.tanh(z_F + half_F)
