"""How alike English and Arabic are inside one layer: gender directions, representations, and probes that cross over.

Rows are images seen in both languages, in the same order. Shapes: N images, D model width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from saebias.errors import InputError, NotEnoughData
from saebias.stats.checks import cluster_index, same_rows, table
from saebias.stats.probing import probe, probe_transfer
from saebias.stats.similarity import direction_cosine, linear_cka, linear_cka_of_pairings, procrustes_r2

_JACKKNIFE_GROUPS = 20
_FOLDINGS = 7
_SPLITS = 20
# A floor needs few permutations: it is a mark to compare with, not a p value.
_PERMUTATIONS = 39
# Each broken pairing of the similarity costs a product of all rows; its p is told to a hundredth.
_PAIRINGS = 99


@dataclass(frozen=True)
class AlignmentRow:
    """One measure at one layer, between its floor (what unrelated languages reach) and its ceiling (what perfect agreement reaches).

    `p`: share of permutations that reach the value (of a cosine: its size), (1 + #) / (1 + n); None where nothing was permuted for it.
    """

    layer: int
    measure: str
    value: float
    low: float
    high: float
    floor: float | None
    ceiling: float | None
    n_images: int
    n_clusters: int
    note: str
    p: float | None = None


@dataclass(frozen=True)
class PairedActivations:
    """The same images in English and Arabic at one layer: activations (decision position, or pooled), visible gender (F, M, A), clusters."""

    layer: int
    en_ND: np.ndarray
    ar_ND: np.ndarray
    gender_N: np.ndarray
    cluster_N: np.ndarray

    def __post_init__(self) -> None:
        for name, what in (("en_ND", "English activations"), ("ar_ND", "Arabic activations")):
            given = np.asarray(getattr(self, name))
            table(given, what)
            object.__setattr__(self, name, given)
        for name in ("gender_N", "cluster_N"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        same_rows(english=self.en_ND, arabic=self.ar_ND, gender=self.gender_N, cluster=self.cluster_N)

    @property
    def clear(self) -> PairedActivations:
        """The images that show a woman or a man."""
        keep_N = self.gender_N != "A"
        return self.where(keep_N)

    @property
    def is_female_N(self) -> np.ndarray:
        """True where the picture shows a woman."""
        return self.gender_N == "F"

    def where(self, keep_N: np.ndarray) -> PairedActivations:
        """The images marked True."""
        return PairedActivations(self.layer, self.en_ND[keep_N], self.ar_ND[keep_N], self.gender_N[keep_N], self.cluster_N[keep_N])


def alignment_rows(paired: PairedActivations, *, seed: int, n_permutations: int = 199, n_folds: int = 5) -> list[AlignmentRow]:
    """All measures of one layer: direction_cosine, direction_cosine_raw, debiased_cka, procrustes, probe_transfer_en_ar and _ar_en."""
    shown = {gender: int((paired.gender_N == gender).sum()) for gender in ("F", "M")}
    if not all(shown.values()):
        raise NotEnoughData(f"layer {paired.layer}: {shown['F']} images of women and {shown['M']} of men; a gender direction needs both")
    clear = paired.clear
    return [
        *_direction_rows(clear, seed, n_permutations),
        _cka_row(paired, seed, min(n_permutations, _PAIRINGS)),
        _procrustes_row(paired, seed),
        *_transfer_rows(clear, seed, n_folds),
    ]


def _direction_rows(clear: PairedActivations, seed: int, n_permutations: int) -> list[AlignmentRow]:
    """Cosine of the difference-of-means directions: corrected for split-half reliability (ceiling 1), and raw (ceiling sqrt of the reliabilities).

    Each has the floor of its own kind: the corrected one, which shared pictures do not raise, that of unrelated contrasts in the two languages; the raw one
    that of any one contrast of the same pictures.
    """
    female_N = clear.is_female_N
    found = direction_cosine(clear.en_ND, female_N, clear.ar_ND, female_N, clear.cluster_N, seed=seed, n_splits=_SPLITS, n_permutations=n_permutations)

    def of(kept: PairedActivations) -> np.ndarray:
        again = direction_cosine(kept.en_ND, kept.is_female_N, kept.ar_ND, kept.is_female_N, kept.cluster_N, seed=seed, n_splits=_SPLITS, n_permutations=0)
        return np.array([again.corrected, again.cosine])

    low_2, high_2, note = _jackknife(clear, of, np.array([found.corrected, found.cosine]), seed)
    ceiling = float(np.sqrt(max(0.0, found.reliability_a) * max(0.0, found.reliability_b)))
    counts = found.n_rows, found.n_clusters
    note = "; ".join(filter(None, [found.note, note]))
    # NaN where nothing was permuted, or there is no cosine: a p that is not there.
    p = None if np.isnan(found.p) else found.p
    return [
        AlignmentRow(clear.layer, "direction_cosine", found.corrected, float(low_2[0]), float(high_2[0]), found.unrelated, 1.0, *counts, note, p),
        AlignmentRow(clear.layer, "direction_cosine_raw", found.cosine, float(low_2[1]), float(high_2[1]), found.floor, ceiling, *counts, note),
    ]


def _cka_row(paired: PairedActivations, seed: int, n_permutations: int) -> AlignmentRow:
    """Debiased linear CKA of paired images; floor: its 95th percentile when the pairing is broken, whole clusters exchanged."""
    value = linear_cka(paired.en_ND, paired.ar_ND)
    drawn = linear_cka_of_pairings(paired.en_ND, paired.ar_ND, np.stack(broken_pairings(paired.cluster_N, n_permutations, seed)))
    low_1, high_1, note = _jackknife(paired, lambda kept: np.array([linear_cka(kept.en_ND, kept.ar_ND)]), np.array([value]), seed)
    counts = len(paired.cluster_N), len(np.unique(paired.cluster_N))
    floor, note = float(np.quantile(drawn, 0.95)), "; ".join(filter(None, [f"floor of {n_permutations} broken pairings", note]))
    p = float((1 + (drawn >= value).sum()) / (1 + len(drawn)))
    return AlignmentRow(paired.layer, "debiased_cka", value, float(low_1[0]), float(high_1[0]), floor, 1.0, *counts, note, p)


def _procrustes_row(paired: PairedActivations, seed: int) -> AlignmentRow:
    value = procrustes_r2(paired.en_ND, paired.ar_ND, paired.cluster_N, seed=seed)
    drawn = [procrustes_r2(paired.en_ND, paired.ar_ND[order_N], paired.cluster_N, seed=seed) for order_N in broken_pairings(paired.cluster_N, 19, seed)]
    counts = len(paired.cluster_N), len(np.unique(paired.cluster_N))
    nan = float("nan")
    p, note = (1 + sum(one >= value for one in drawn)) / (1 + len(drawn)), "held-out; floor: largest of 19 broken pairings; no interval"
    return AlignmentRow(paired.layer, "procrustes", value, nan, nan, max(drawn), 1.0, *counts, note, p)


def _transfer_rows(clear: PairedActivations, seed: int, n_folds: int) -> list[AlignmentRow]:
    """Probe of one language on the other (rung L1): balanced accuracy; ceiling: the probe within the tested language.

    Floor: 95th percentile when the training labels are permuted among clusters. It lies above .5, because a direction picked at random is a little
    aligned with any strong direction of the other language.
    """
    sides = {"en": clear.en_ND, "ar": clear.ar_ND}
    female_N, cluster_N = clear.is_female_N, clear.cluster_N
    rows = []
    for train, test in (("en", "ar"), ("ar", "en")):
        measure, note = f"probe_transfer_{train}_{test}", "each language centred on its own mean"
        both = sides[train], female_N, cluster_N, sides[test], female_N, cluster_N
        try:
            across = probe_transfer(*both, seed=seed, n_folds=n_folds, centre="own", n_permutations=_PERMUTATIONS)
            # How well a probe carries over depends on which fold chose its shrinkage, more than on the images: several foldings, and an interval over all.
            again = [probe_transfer(*both, seed=seed + shift, n_folds=n_folds, centre="own") for shift in range(1, _FOLDINGS)]
            within = probe(sides[test], female_N, cluster_N, seed=seed, n_folds=n_folds, n_control=0, n_permutations=0)
        except InputError as error:
            nan, counts = float("nan"), (len(cluster_N), len(np.unique(cluster_N)))
            rows.append(AlignmentRow(clear.layer, measure, nan, nan, nan, None, None, *counts, str(error)))
            continue
        foldings, counts = [across, *again], (across.n_rows, across.n_clusters)
        middle = float(np.mean([result.balanced_accuracy for result in foldings]))
        estimate = middle, min(result.low for result in foldings), max(result.high for result in foldings)
        note = "; ".join(filter(None, [note, f"mean of {_FOLDINGS} foldings, the interval spans theirs", across.note]))
        rows.append(AlignmentRow(clear.layer, measure, *estimate, across.permuted_high, within.balanced_accuracy, *counts, note, across.p))
    return rows


def broken_pairings(clusters: np.ndarray, n_permutations: int, seed: int) -> list[np.ndarray]:
    """Row orders in which clusters have changed places, so that no image is systematically paired with itself or a near-duplicate.

    Rows are cut from the permuted sequence of clusters, so clusters of unequal size still give a permutation of rows.
    """
    index_N, n_clusters = cluster_index(clusters)
    by_cluster = np.argsort(index_N, kind="stable")
    starts = np.searchsorted(index_N[by_cluster], np.arange(n_clusters + 1))
    rng = np.random.default_rng(seed)
    orders = []
    for _ in range(n_permutations):
        shuffled = np.concatenate([by_cluster[starts[cluster] : starts[cluster + 1]] for cluster in rng.permutation(n_clusters)])
        order_N = np.empty(len(index_N), dtype=np.int64)
        order_N[by_cluster] = shuffled
        orders.append(order_N)
    return orders


def jackknife_half_width(left_out: np.ndarray) -> np.ndarray:
    """Half the 95 % interval of statistics from their values [groups, ...] with one group of clusters left out at a time (Kott 2001)."""
    groups = len(left_out)
    return stats.t.ppf(0.975, groups - 1) * np.sqrt((groups - 1) / groups * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))


def _jackknife(
    paired: PairedActivations, statistic: Callable[[PairedActivations], np.ndarray], value: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """(low, high, note) of statistics by the delete-a-group jackknife over clusters (Kott 2001), Student's t with one degree fewer than groups.

    A resampling that repeats images would inflate a debiased similarity, which is why images are deleted and not drawn.
    """
    index_N, n_clusters = cluster_index(paired.cluster_N)
    groups = min(_JACKKNIFE_GROUPS, n_clusters)
    if groups < 4:
        return np.full_like(value, np.nan), np.full_like(value, np.nan), f"{n_clusters} clusters: no interval"
    group_G = np.random.default_rng(seed).permutation(n_clusters) % groups
    left_out = np.stack([statistic(paired.where(group_G[index_N] != group)) for group in range(groups)])
    half = jackknife_half_width(left_out)
    return value - half, value + half, ""
