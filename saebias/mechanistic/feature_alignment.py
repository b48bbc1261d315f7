"""Which latents mean the same in both languages: correlation of their codes over paired images, matched one to one, against broken pairings.

Within one dictionary a latent should match itself; two dictionaries have no common numbering, so they are matched before anything is compared.
Shapes: N images seen in both languages, F and G latents, K latents kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.alignment import broken_pairings
from saebias.stats.checks import cluster_index, finite, same_rows

# Hungarian matching grows with the cube of the number of latents; more than this is a shortlist's job.
MAX_LATENTS = 8192


@dataclass(frozen=True, eq=False)
class DictionaryCodes:
    """Codes of one dictionary in one language: one row per image, one column per latent named in `features`, and their decoder rows if comparable."""

    features: tuple[FeatureRef, ...]
    codes_NF: np.ndarray
    W_dec_FD: np.ndarray | None = None

    def __post_init__(self) -> None:
        finite(self.codes_NF, f"codes of {self.sae_id}")
        if len(self.features) != self.codes_NF.shape[1]:
            raise InputError(f"{len(self.features)} latents are named for {self.codes_NF.shape[1]} columns of codes; a bare index means nothing, name each")
        if len({feature.sae_id for feature in self.features}) > 1:
            raise InputError("latents of several dictionaries in one table of codes; hand in one dictionary at a time")

    @property
    def sae_id(self) -> str:
        """The dictionary."""
        return self.features[0].sae_id


@dataclass(frozen=True)
class MatchRow:
    """One latent with its partner in the other language. `score` is the correlation over images corrected for reliability, `threshold` the null's 95 %."""

    en: FeatureRef
    ar: FeatureRef
    correlation: float
    score: float
    decoder_cosine: float | None
    threshold: float
    is_match: bool
    is_same_latent: bool


@dataclass(frozen=True)
class CrossLingualFeatureAligner:
    """Matches the live latents of an English and an Arabic table of codes one to one (Hungarian, largest total correlation)."""

    n_permutations: int = 19
    min_firing: float = 0.01

    def read(self, en: DictionaryCodes, ar: DictionaryCodes, clusters_N: np.ndarray, *, seed: int) -> list[MatchRow]:
        """One row per matched pair of live latents, best first; paired images in the same order.

        The null repeats the whole matching with broken pairings of images: `threshold` is the 95th percentile of the matched correlations it reaches, so that
        picking the best partner among many counts as picking. Reliability is each latent's split-half correlation of cluster means; the score is NaN where
        it is not positive. Raises InputError when no latent fires often enough.
        """
        same_rows(english=en.codes_NF, arabic=ar.codes_NF, clusters=clusters_N)
        kept_en, kept_ar = self._live(en), self._live(ar)
        z_en_NK, z_ar_NK = _standardised(en.codes_NF[:, kept_en]), _standardised(ar.codes_NF[:, kept_ar])
        correlation_KK = z_en_NK.T @ z_ar_NK / len(z_en_NK)
        rows_K, columns_K = linear_sum_assignment(-correlation_KK)
        null = [_matched(z_en_NK, z_ar_NK[order_N]) for order_N in broken_pairings(clusters_N, self.n_permutations, seed)]
        threshold = float(np.quantile(np.concatenate(null), 0.95))
        reliability_en, reliability_ar = (_reliability(codes_NK, clusters_N, seed) for codes_NK in (en.codes_NF[:, kept_en], ar.codes_NF[:, kept_ar]))
        matches = []
        for row, column in zip(rows_K, columns_K, strict=True):
            first, second = int(kept_en[row]), int(kept_ar[column])
            correlation, ceiling = float(correlation_KK[row, column]), reliability_en[row] * reliability_ar[column]
            feature_en, feature_ar = en.features[first], ar.features[second]
            cosine = _cosine(en, ar, first, second)
            score = float(correlation / np.sqrt(ceiling)) if reliability_en[row] > 0 and reliability_ar[column] > 0 else float("nan")
            same = feature_en == feature_ar
            matches.append(MatchRow(feature_en, feature_ar, correlation, score, cosine, threshold, correlation > threshold, same))
        return sorted(matches, key=lambda match: -match.correlation)

    def _live(self, side: DictionaryCodes) -> np.ndarray:
        live = np.flatnonzero((side.codes_NF > 0).mean(axis=0) >= self.min_firing)
        if not len(live):
            raise InputError(f"no latent of {side.sae_id} fires on {self.min_firing:.0%} of the {len(side.codes_NF)} images; there is nothing to match")
        if len(live) > MAX_LATENTS:
            raise InputError(f"{len(live)} live latents of {side.sae_id}: match a shortlist of at most {MAX_LATENTS}")
        return live


def _standardised(codes_NK: np.ndarray) -> np.ndarray:
    centred = codes_NK - codes_NK.mean(axis=0)
    spread_K = centred.std(axis=0)
    return np.divide(centred, spread_K, out=np.zeros_like(centred), where=spread_K > 0)


def _matched(z_en_NK: np.ndarray, z_ar_NK: np.ndarray) -> np.ndarray:
    correlation_KK = z_en_NK.T @ z_ar_NK / len(z_en_NK)
    rows_K, columns_K = linear_sum_assignment(-correlation_KK)
    return correlation_KK[rows_K, columns_K]


def _reliability(codes_NK: np.ndarray, clusters_N: np.ndarray, seed: int) -> np.ndarray:
    """Per latent the correlation of two random halves of each cluster's images, stepped up (Spearman-Brown); NaN where no cluster has two images."""
    index_N, n_clusters = cluster_index(clusters_N)
    order_N = np.random.default_rng(seed).permutation(len(index_N))
    by_cluster = order_N[np.argsort(index_N[order_N], kind="stable")]
    place_N = np.empty(len(index_N), dtype=np.int64)
    starts = np.searchsorted(index_N[by_cluster], np.arange(n_clusters))
    place_N[by_cluster] = np.arange(len(index_N)) - starts[index_N[by_cluster]]
    several_G = np.bincount(index_N) > 1
    if several_G.sum() < 3:
        return np.full(codes_NK.shape[1], np.nan)
    halves = []
    for half in (0, 1):
        chosen_N = (place_N % 2 == half) & several_G[index_N]
        sums_GK = np.zeros((n_clusters, codes_NK.shape[1]))
        np.add.at(sums_GK, index_N[chosen_N], codes_NK[chosen_N])
        halves.append(_standardised(sums_GK[several_G] / np.bincount(index_N[chosen_N], minlength=n_clusters)[several_G][:, None]))
    correlation_K = (halves[0] * halves[1]).mean(axis=0)
    return 2 * correlation_K / (1 + correlation_K)


def _cosine(en: DictionaryCodes, ar: DictionaryCodes, first: int, second: int) -> float | None:
    """Cosine of the decoder rows; None where they are not given (they are comparable only in one layer's activation space)."""
    if en.W_dec_FD is None or ar.W_dec_FD is None:
        return None
    a_D, b_D = en.W_dec_FD[first], ar.W_dec_FD[second]
    return float(a_D @ b_D / (np.linalg.norm(a_D) * np.linalg.norm(b_D)))
