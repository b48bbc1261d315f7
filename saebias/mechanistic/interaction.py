"""Which latents interact: firing together more than chance, differently for women and men, and causally (ablating both is not the sum of each).

Pairwise work is done on a stated shortlist. Shapes: N images, K latents of the shortlist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.codes import SparseCodes
from saebias.stats.checks import cluster_index, finite, same_rows
from saebias.stats.correlation_change import correlation_change_p
from saebias.stats.multiple import benjamini_hochberg
from saebias.stats.resampling import cluster_bootstrap, mean_statistic

MAX_LATENTS = 512


@dataclass(frozen=True)
class PairRow:
    """Two latents. `pmi` = log P(both fire) / (P(a) P(b)), -inf when they never meet; correlations of codes on women's and men's images differ by `z`.

    Correlations, z, p and q are NaN, and `note` says why, where a latent fires on too few clusters of one gender to have a correlation there.
    """

    a: FeatureRef
    b: FeatureRef
    pmi: float
    correlation_women: float
    correlation_men: float
    z: float
    p: float
    q: float
    n_both: int
    n_clusters_women: int
    n_clusters_men: int
    note: str = ""


@dataclass(frozen=True)
class CausalPairRow:
    """Departure from additivity of two ablations: effect(both) - effect(a) - effect(b) on the gender gap, nats, with an image-cluster interval."""

    a: FeatureRef
    b: FeatureRef
    effect_a: float
    effect_b: float
    effect_both: float
    interaction: float
    low: float
    high: float
    n_images: int
    n_clusters: int


@dataclass(frozen=True)
class InteractionPatternAnalyzer:
    """Pairs of a shortlist of latents. A latent that fires on too few clusters takes part in no pair: it gives nothing, not NaN."""

    q: float = 0.05
    min_clusters_firing: int = 5
    n_permutations: int = 19999

    def read(
        self, features: Sequence[FeatureRef], codes: np.ndarray | SparseCodes, gender_N: np.ndarray, clusters_N: np.ndarray, *, seed: int = 0
    ) -> list[PairRow]:
        """All pairs of latents that fire often enough, smallest p first and untested ones last; `q` is Benjamini-Hochberg over the pairs tested.

        Correlations are of cluster means, because near-duplicate images repeat each other, on rank-transformed codes, which sparse codes need; `z` is Fisher's,
        (atanh r_w - atanh r_m) / sqrt(1.06/(n_w - 3) + 1.06/(n_m - 3)) with n clusters. Its p is by permutation (`correlation_change_p`): codes that are mostly
        0 do not obey the normal law, which finds pairs in most draws of permuted labels.
        """
        codes = SparseCodes.of(codes)
        gender_N, clusters_N = np.asarray(gender_N), np.asarray(clusters_N)
        same_rows(codes=codes, gender=gender_N, clusters=clusters_N)
        _check_shortlist(features, codes.n_latents)
        matrix_NK = codes.matrix.tocsr().astype(np.float64)
        means = {shown: _cluster_means(matrix_NK[gender_N == shown], clusters_N[gender_N == shown], shown) for shown in ("F", "M")}
        n_women, n_men = len(means["F"]), len(means["M"])
        if min(n_women, n_men) < 10:
            raise InputError(f"{n_women} clusters of women and {n_men} of men; a difference of correlations needs ten of each")
        fires_2K = np.stack([(mean_GK > 0).sum(axis=0) for mean_GK in means.values()])
        kept = np.flatnonzero(fires_2K.sum(axis=0) >= self.min_clusters_firing)
        first, second = (kept[index] for index in np.triu_indices(len(kept), 1))
        if not len(first):
            return []
        varies_K = np.all([np.ptp(mean_GK, axis=0) > 0 for mean_GK in means.values()], axis=0)
        testable_K = (fires_2K.min(axis=0) >= self.min_clusters_firing) & varies_K
        tested = testable_K[first] & testable_K[second]
        correlation = {shown: np.where(tested, _rank_correlation(mean_GK)[first, second], np.nan) for shown, mean_GK in means.items()}
        z = _fisher(correlation["F"], n_women, correlation["M"], n_men)
        p, q = np.full(len(first), np.nan), np.full(len(first), np.nan)
        if tested.any():
            pairs_P2 = np.stack([first, second], axis=1)[tested]
            p[tested] = correlation_change_p(means["F"], means["M"], pairs_P2, n_permutations=self.n_permutations, seed=seed)
            q[tested] = benjamini_hochberg(p[tested])
        pmi_KK, both_KK = _pmi(matrix_NK[np.isin(gender_N, ("F", "M"))] > 0)
        rows = []
        for number, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            values = (float(column[number]) for column in (correlation["F"], correlation["M"], z, p, q))
            note = "" if tested[number] else _untestable(features, (a, b), fires_2K, varies_K, self.min_clusters_firing)
            rows.append(PairRow(features[a], features[b], float(pmi_KK[a, b]), *values, int(both_KK[a, b]), n_women, n_men, note))
        return sorted(rows, key=lambda row: (np.isnan(row.p), row.p))

    def graph(self, rows: Sequence[PairRow]) -> dict[FeatureRef, list[FeatureRef]]:
        """Neighbours of every latent over the pairs with q at most the rate asked for."""
        edges: dict[FeatureRef, list[FeatureRef]] = {}
        for row in rows:
            if row.q <= self.q:
                edges.setdefault(row.a, []).append(row.b)
                edges.setdefault(row.b, []).append(row.a)
        return edges


def causal_pair(
    a: FeatureRef, b: FeatureRef, gap_N: np.ndarray, gap_a_N: np.ndarray, gap_b_N: np.ndarray, gap_both_N: np.ndarray, clusters_N: np.ndarray, *, seed: int
) -> CausalPairRow:
    """The causal interaction of two latents from the gender gap log P(F) - log P(M) of each image: untouched, without a, without b, without both."""
    same_rows(untouched=gap_N, without_a=gap_a_N, without_b=gap_b_N, without_both=gap_both_N, clusters=clusters_N)
    effects = [finite(after_N, "gaps") - finite(gap_N, "gaps") for after_N in (gap_a_N, gap_b_N, gap_both_N)]
    departure = cluster_bootstrap(mean_statistic(effects[2] - effects[0] - effects[1]), clusters_N, seed=seed)
    means = (float(effect_N.mean()) for effect_N in effects)
    return CausalPairRow(a, b, *means, departure.value, departure.low, departure.high, departure.n_rows, departure.n_clusters)


def _untestable(features: Sequence[FeatureRef], pair: tuple[int, int], fires_2K: np.ndarray, varies_K: np.ndarray, least: int) -> str:
    """Why a pair has no difference of correlations: its rarest latent, and where; or one that is everywhere the same."""
    constant = [latent for latent in pair if not varies_K[latent]]
    if constant and fires_2K[:, list(pair)].min() >= least:
        return f"latent {features[constant[0]].index} is equally active on all picture groups of women or of men: no correlation there"
    side, latent = min(((side, latent) for latent in pair for side in (0, 1)), key=lambda place: fires_2K[place])
    return f"latent {features[latent].index} fires on {fires_2K[side, latent]} picture groups of {('women', 'men')[side]}: no correlation there"


def _check_shortlist(features: Sequence[FeatureRef], n_columns: int) -> None:
    if len(features) != n_columns:
        raise InputError(f"{len(features)} latents are named for {n_columns} columns of codes; name each")
    if len({feature.sae_id for feature in features}) > 1:
        raise InputError("latents of several dictionaries on one shortlist; interactions are within one dictionary")
    if len(features) > MAX_LATENTS:
        raise InputError(f"{len(features)} latents make {len(features) * (len(features) - 1) // 2} pairs; hand in a shortlist of at most {MAX_LATENTS}")


def _cluster_means(matrix_NK: sparse.csr_array, clusters_N: np.ndarray, shown: str) -> np.ndarray:
    """Mean codes of each cluster [G, K]; only these, far fewer than images, are ever dense."""
    n_rows = matrix_NK.shape[0]
    if not n_rows:
        raise InputError(f"no image of visual gender {shown}; interactions compare women's and men's images")
    index_N, n_clusters = cluster_index(clusters_N)
    weight_N = 1 / np.bincount(index_N)[index_N]
    return (sparse.csr_array((weight_N, (index_N, np.arange(n_rows))), shape=(n_clusters, n_rows)) @ matrix_NK).toarray()


def _rank_correlation(mean_GK: np.ndarray) -> np.ndarray:
    ranks_GK = stats.rankdata(mean_GK, axis=0)
    centred = ranks_GK - ranks_GK.mean(axis=0)
    norm_K = np.linalg.norm(centred, axis=0)
    product = np.outer(norm_K, norm_K)
    return np.divide(centred.T @ centred, product, out=np.zeros_like(product), where=product > 0)


def _fisher(r_first: np.ndarray, n_first: int, r_second: np.ndarray, n_second: int) -> np.ndarray:
    """Fisher's z of a difference of rank correlations, with the variance 1.06/(n - 3) of a rank correlation (Fieller, Hartley & Pearson 1957)."""
    limit = 1 - 1e-9
    first, second = (np.arctanh(np.clip(r, -limit, limit)) for r in (r_first, r_second))
    return (first - second) / np.sqrt(1.06 / (n_first - 3) + 1.06 / (n_second - 3))


def _pmi(fires_NK: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """(pointwise mutual information of firing in nats, rows on which both fire); -inf for pairs that never fire together, 0 where a latent never fires."""
    counts_NK = fires_NK.astype(np.float64)
    share_K = np.asarray(counts_NK.mean(axis=0)).ravel()
    both_KK = (counts_NK.T @ counts_NK).toarray()
    expected_KK = np.outer(share_K, share_K) * fires_NK.shape[0]
    ratio_KK = np.divide(both_KK, expected_KK, out=np.ones_like(both_KK), where=expected_KK > 0)
    return np.log(ratio_KK, out=np.full_like(ratio_KK, -np.inf), where=ratio_KK > 0), both_KK
