"""Which latents mean the same in both languages: correlation of their codes over paired images, matched one to one, against broken pairings.

Within one dictionary a latent should match itself; two dictionaries have no common numbering, so they are matched before anything is compared.
Shapes: N images seen in both languages, F and G latents, K latents kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.alignment import broken_pairings
from saebias.mechanistic.codes import SparseCodes
from saebias.mechanistic.reliability import corrected_correlations
from saebias.stats.checks import same_rows

# Hungarian matching grows with the cube of the number of latents; more than this is a shortlist's job.
MAX_LATENTS = 4096
METHODS = ("hungarian", "transport")


@dataclass(frozen=True, eq=False)
class DictionaryCodes:
    """Codes of one dictionary in one language: one row per image, one column per latent named in `features`, and their decoder rows if comparable."""

    features: tuple[FeatureRef, ...]
    codes: np.ndarray | SparseCodes
    W_dec_FD: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.features:
            raise InputError("no latent is named; hand in a FeatureRef for each column of codes")
        object.__setattr__(self, "codes", SparseCodes.of(self.codes, f"codes of {self.sae_id}"))
        if len(self.features) != self.sparse.n_latents:
            raise InputError(f"{len(self.features)} latents are named for {self.sparse.n_latents} columns of codes; a bare index means nothing, name each")
        if len({feature.sae_id for feature in self.features}) > 1:
            raise InputError("latents of several dictionaries in one table of codes; hand in one dictionary at a time")

    @property
    def sae_id(self) -> str:
        """The dictionary."""
        return self.features[0].sae_id

    @property
    def sparse(self) -> SparseCodes:
        """The codes as the tools read them."""
        return SparseCodes.of(self.codes)


@dataclass(frozen=True)
class MatchRow:
    """One latent with its partner in the other language. `correlation` is over images, `threshold` its null's 95 %; `score` over clusters, noise taken off."""

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
    """Matches the live latents of an English and an Arabic table of codes one to one, so that the correlation over paired images is largest in sum.

    `method` is hungarian (scipy), or transport: the same assignment as the optimal transport of uniform masses, which may split a latent where the two
    sides differ in number; each latent's largest share counts (needs the extra `ot`).
    """

    n_permutations: int = 19
    min_firing: float = 0.01
    method: str = "hungarian"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"unknown matching {self.method!r}; choose one of {', '.join(METHODS)}")

    def read(self, en: DictionaryCodes, ar: DictionaryCodes, clusters_N: np.ndarray, *, seed: int) -> list[MatchRow]:
        """One row per matched pair of live latents, best first; paired images in the same order.

        The null repeats the whole matching with broken pairings of images: `threshold` is the 95th percentile of the largest matched correlation of each, so
        that picking the best partner among many counts as picking, and unrelated languages have no match at all in 95 % of cases. The score is the correlation
        of what the images of a cluster share (`reliability.corrected_correlations`), NaN where they are not shown to share anything. Raises InputError when no
        latent fires often enough.
        """
        same_rows(english=en.sparse, arabic=ar.sparse, clusters=clusters_N)
        if len(np.unique(clusters_N)) < 3:
            raise InputError(f"{len(np.unique(clusters_N))} clusters of paired images; broken pairings, the null of a match, need three at least")
        kept_en, kept_ar = self._live(en), self._live(ar)
        sides = _Standardised.of(en.sparse, kept_en), _Standardised.of(ar.sparse, kept_ar)
        correlation_KK = _correlations(*sides, None)
        rows_K, columns_K = self._match(correlation_KK)
        null = []
        for order_N in broken_pairings(clusters_N, self.n_permutations, seed):
            drawn_KK = _correlations(*sides, order_N)
            null.append(float(drawn_KK[self._match(drawn_KK)].max()))
        threshold = float(np.quantile(null, 0.95))
        score_K = corrected_correlations(sides[0].matrix[:, rows_K], sides[1].matrix[:, columns_K], np.asarray(clusters_N))
        matches = []
        for row, column, score in zip(rows_K, columns_K, score_K, strict=True):
            first, second = int(kept_en[row]), int(kept_ar[column])
            correlation = float(np.clip(correlation_KK[row, column], -1, 1))
            feature_en, feature_ar = en.features[first], ar.features[second]
            cosine = _cosine(en, ar, first, second)
            same = feature_en == feature_ar
            matches.append(MatchRow(feature_en, feature_ar, correlation, float(score), cosine, threshold, correlation > threshold, same))
        return sorted(matches, key=lambda match: -match.correlation)

    def _match(self, correlation_KK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row, column) of each pair; every row and column at most once."""
        if self.method == "hungarian":
            rows_K, columns_K = linear_sum_assignment(-correlation_KK)
            return rows_K, columns_K
        plan_KK = transport_plan(1 - correlation_KK)
        columns_K = plan_KK.argmax(axis=1)
        # Where the plan splits, a column may be the largest share of two rows; the larger share keeps it.
        share_K = plan_KK[np.arange(len(plan_KK)), columns_K]
        order = np.argsort(-share_K, kind="stable")
        _, first = np.unique(columns_K[order], return_index=True)
        rows_K = np.sort(order[first])
        return rows_K, columns_K[rows_K]

    def _live(self, side: DictionaryCodes) -> np.ndarray:
        n_rows = side.sparse.n_rows
        live = np.flatnonzero(side.sparse.fires_F >= self.min_firing * n_rows)
        live = live[side.sparse.fires_F[live] > 0]
        if not len(live):
            raise InputError(f"no latent of {side.sae_id} fires on {self.min_firing:.0%} of the {n_rows} images; there is nothing to match")
        if len(live) > MAX_LATENTS:
            raise InputError(f"{len(live)} live latents of {side.sae_id}: match a shortlist of at most {MAX_LATENTS}")
        return live


def transport_plan(cost_FG: np.ndarray) -> np.ndarray:
    """The optimal transport plan [F, G] between uniform masses at a cost (exact, network simplex of POT); InputError without the extra `ot`."""
    try:
        ot = import_module("ot")
    except ImportError:
        raise InputError("matching by transport needs POT; install the extra with `pip install saebias[ot]`, or match with hungarian") from None
    n_first, n_second = cost_FG.shape
    return np.asarray(ot.emd(np.full(n_first, 1 / n_first), np.full(n_second, 1 / n_second), cost_FG))


@dataclass(frozen=True, eq=False)
class _Standardised:
    """Active codes of the latents kept, with what centring and scaling need; the zeros are never written out."""

    matrix: sparse.csr_array
    mean_K: np.ndarray
    deviation_K: np.ndarray

    @classmethod
    def of(cls, codes: SparseCodes, kept: np.ndarray) -> _Standardised:
        return cls.of_matrix(codes.matrix[:, kept].astype(np.float64).tocsr())

    @classmethod
    def of_matrix(cls, matrix: sparse.csr_array) -> _Standardised:
        mean_K = np.asarray(matrix.mean(axis=0)).ravel()
        variance_K = np.asarray(matrix.power(2).mean(axis=0)).ravel() - mean_K**2
        # A latent that is equally active everywhere has no correlation: its deviation is rounding.
        deviation_K = np.where(variance_K > 1e-12 * mean_K**2, np.sqrt(np.maximum(variance_K, 0)), np.inf)
        return cls(matrix, mean_K, deviation_K)


def _correlations(en: _Standardised, ar: _Standardised, order_N: np.ndarray | None) -> np.ndarray:
    """Pearson correlation of every latent of one side with every one of the other, whose rows are taken in `order_N`; 0 where a side is constant."""
    other = ar.matrix if order_N is None else ar.matrix[order_N]
    product_KK = (en.matrix.T @ other).toarray() / en.matrix.shape[0]
    product_KK -= np.outer(en.mean_K, ar.mean_K)
    product_KK /= en.deviation_K[:, None]
    product_KK /= ar.deviation_K
    return product_KK


def _cosine(en: DictionaryCodes, ar: DictionaryCodes, first: int, second: int) -> float | None:
    """Cosine of the decoder rows; None where they are not given (they are comparable only in one layer's activation space)."""
    if en.W_dec_FD is None or ar.W_dec_FD is None:
        return None
    a_D, b_D = en.W_dec_FD[first], ar.W_dec_FD[second]
    return float(a_D @ b_D / (np.linalg.norm(a_D) * np.linalg.norm(b_D)))
