"""Is gender encoded once for both languages, once for each, or both ways? The rungs of the claim ladder, each with interval, floor and ceiling.

L1 probes that cross languages, L2 cosine of gender directions corrected for reliability, L3 effects of the latents of one joint dictionary, L4 causal transfer.
Only L4 says that an intervention in one language works in the other. Shapes: N images seen in both languages, F latents, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from saebias.errors import InputError
from saebias.mechanistic.alignment import AlignmentRow, PairedActivations, alignment_rows, jackknife_half_width
from saebias.mechanistic.codes import SparseCodes
from saebias.stats.checks import binary, cluster_index, finite, same_rows
from saebias.stats.effects import permute_within
from saebias.stats.equivalence import verdict as equivalence_verdict
from saebias.stats.probing import probe
from saebias.stats.resampling import paired_difference

# Memory of the weights of a few draws, in numbers.
_CHUNK_ELEMENTS = 4_000_000
VERDICTS = ("shared", "separate", "hierarchical", "null", "one language", "undecided")


@dataclass(frozen=True)
class LanguageContrast:
    """The verdict, the angle between the gender directions (degrees, corrected; NaN where there are no reliable ones), the rows behind it, and its limits."""

    verdict: str
    angle_degrees: float
    rows: tuple[AlignmentRow, ...]
    note: str = ""


@dataclass(frozen=True)
class ContrastiveLanguageAnalyzer:
    """Compares a layer's encoding of visible gender in English and Arabic.

    null: no probe reads gender in either language (permutation p above `alpha`); one language: in one only. Else by the corrected cosine: shared at
    `shared_from` or more, separate at `separate_to` or less, hierarchical between; undecided when the 95 % interval reaches from separate to shared, when
    the directions are not reliable, or when a cosine that would show something shared is not above what unrelated contrasts of the two languages reach
    (its floor): where few axes carry most of the variance, any two directions agree. The note says that, and where the raw cosine is not above that of any
    contrast of the same pictures: then gender is shared no more than everything else these pictures show.
    """

    alpha: float = 0.01
    shared_from: float = 0.8
    separate_to: float = 0.3
    n_permutations: int = 199
    n_folds: int = 5

    def read(
        self,
        paired: PairedActivations,
        *,
        codes: tuple[np.ndarray | SparseCodes, np.ndarray | SparseCodes] | None = None,
        known: Sequence[AlignmentRow] | None = None,
        seed: int,
    ) -> LanguageContrast:
        """The verdict for one layer; with `codes` = (English, Arabic) codes of one joint dictionary for the same images, rung L3 is added.

        `known` are the `alignment_rows` of this layer where they were computed before.
        """
        clear = paired.clear
        present = [self._is_present(x_ND, clear, seed) for x_ND in (clear.en_ND, clear.ar_ND)]
        rows = list(known) if known is not None else alignment_rows(paired, seed=seed, n_permutations=self.n_permutations, n_folds=self.n_folds)
        if codes is not None:
            rows += latent_effect_rows(paired.layer, *codes, paired.gender_N, paired.cluster_N, n_permutations=self.n_permutations, seed=seed)
        cosine, raw = (next(row for row in rows if row.measure == measure) for measure in ("direction_cosine", "direction_cosine_raw"))
        if not all(present):
            absent = " and ".join(name for name, found in zip(("English", "Arabic"), present, strict=True) if not found)
            return LanguageContrast(self._verdict(present, cosine), float("nan"), tuple(rows), f"no probe reads gender in {absent}: no direction to compare")
        angle = float(np.degrees(np.arccos(np.clip(cosine.value, -1, 1)))) if not np.isnan(cosine.value) else float("nan")
        return LanguageContrast(self._verdict(present, cosine), angle, tuple(rows), _limits(cosine, raw, self.separate_to))

    def _is_present(self, x_ND: np.ndarray, clear: PairedActivations, seed: int) -> bool:
        found = probe(x_ND, clear.is_female_N, clear.cluster_N, seed=seed, n_folds=self.n_folds, n_control=0, n_permutations=self.n_permutations)
        return bool(found.p <= self.alpha)

    def _verdict(self, present: list[bool], cosine: AlignmentRow) -> str:
        if not any(present):
            return "null"
        if not all(present):
            return "one language"
        if np.isnan([cosine.value, cosine.low, cosine.high]).any() or (cosine.low <= self.separate_to and cosine.high >= self.shared_from):
            return "undecided"
        if cosine.value <= self.separate_to:
            return "separate"
        if _at_floor(cosine):
            return "undecided"
        return "shared" if cosine.value >= self.shared_from else "hierarchical"


def _at_floor(cosine: AlignmentRow) -> bool:
    return cosine.floor is not None and cosine.value <= cosine.floor


def _limits(cosine: AlignmentRow, raw: AlignmentRow, separate_to: float) -> str:
    """What the reader of a verdict must know of the cosine it rests on."""
    if np.isnan(cosine.value):
        return cosine.note or "a gender direction is not reliable"
    if cosine.value <= separate_to:
        return ""
    if _at_floor(cosine):
        return f"cosine {cosine.value:.2f} is not above the {cosine.floor:.2f} that unrelated contrasts of the two languages reach: nothing shared is shown"
    if raw.floor is not None and raw.value <= raw.floor:
        return f"raw cosine {raw.value:.2f} is not above {raw.floor:.2f}, that of permuted labels: any contrast of these pictures agrees as much"
    return ""


def latent_effect_rows(
    layer: int,
    en: np.ndarray | SparseCodes,
    ar: np.ndarray | SparseCodes,
    gender_N: np.ndarray,
    clusters_N: np.ndarray,
    *,
    k: int = 16,
    n_permutations: int = 199,
    seed: int = 0,
) -> list[AlignmentRow]:
    """Rung L3 in one joint dictionary: rank correlation over latents of the gender effect, and overlap of the k largest effects.

    The effect is the mean code on women's minus that on men's images. Latents dead in both languages are left out. Floor and p come from labels permuted among
    clusters, the same in both languages: the same pictures, and a few strong latents, make effects of nothing agree (more than the hypergeometric
    distribution says). Intervals by the delete-a-group jackknife over clusters; none for the overlap, which moves in steps. Ceiling 1.
    """
    en, ar = SparseCodes.of(en, "English codes"), SparseCodes.of(ar, "Arabic codes")
    gender_N, clusters_N = np.asarray(gender_N), np.asarray(clusters_N)
    same_rows(english=en, arabic=ar, gender=gender_N, clusters=clusters_N)
    if en.n_latents != ar.n_latents:
        raise InputError(f"English codes have {en.n_latents} latents, Arabic {ar.n_latents}; effects compare only within one joint dictionary")
    clear_N = np.isin(gender_N, ("F", "M"))
    female_N, (index_N, n_clusters) = binary(gender_N[clear_N] == "F", "visible gender"), cluster_index(clusters_N[clear_N])
    sides = [codes.rows(clear_N) for codes in (en, ar)]
    live_F = (sides[0].fires_F > 0) | (sides[1].fires_F > 0)
    n_live = int(live_F.sum())
    if n_live <= k:
        raise InputError(f"{n_live} live latents; the overlap of the {k} strongest needs more")
    labels_RG, kept_RG = _draws(female_N, index_N, n_clusters, n_permutations, seed)
    agreement_2R = _agreements([codes.matrix for codes in sides], live_F, labels_RG, kept_RG, index_N, k)
    first = 1 + n_permutations
    half = jackknife_half_width(agreement_2R[0, first:]) if len(labels_RG) > first else float("nan")
    rank, overlap = (float(value) for value in agreement_2R[:, 0])
    (floor_rank, p_rank), (floor_overlap, p_overlap) = (_floor_and_p(drawn_R[0], drawn_R[1:first]) for drawn_R in agreement_2R)
    counts, nan, live = (len(female_N), n_clusters), float("nan"), f"{n_live} live latents"
    note = live if np.isfinite(half) else f"{live}; {n_clusters} clusters: no interval"
    note = f"{note}; the effects of one language are all equal: no correlation" if np.isnan(rank) else note
    return [
        AlignmentRow(layer, "latent_rank_correlation", rank, rank - half, rank + half, floor_rank, 1.0, *counts, note, p_rank),
        AlignmentRow(layer, "latent_top_overlap", overlap, nan, nan, floor_overlap, 1.0, *counts, f"top {k} of {live}; no interval", p_overlap),
    ]


def _floor_and_p(value: float, drawn_R: np.ndarray) -> tuple[float | None, float | None]:
    """95th percentile of the draws that have a value, and the share that reaches the observed one; None where there is nothing to compare."""
    drawn_R = drawn_R[np.isfinite(drawn_R)]
    if not len(drawn_R) or np.isnan(value):
        return None, None
    return float(np.quantile(drawn_R, 0.95)), float((1 + (drawn_R >= value - 1e-12).sum()) / (1 + len(drawn_R)))


def _draws(female_N: np.ndarray, index_N: np.ndarray, n_clusters: int, n_permutations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels, clusters kept), both [R, G]: the true labels, labels permuted among clusters, and the jackknife, which leaves groups of clusters out.

    Below 4 clusters there is no jackknife. Raises InputError for a cluster of both genders.
    """
    female_G = np.zeros(n_clusters, dtype=bool)
    female_G[index_N] = female_N
    if (mixed := int((female_G[index_N] != female_N).sum())) > 0:
        raise InputError(f"{mixed} images lie in clusters of both genders; permuting needs one gender per cluster (cluster by drawing, not by scene)")
    permuted_RG = permute_within(female_G, None, index_N, n_permutations, seed)
    groups = min(20, n_clusters)
    group_G = np.random.default_rng(seed).permutation(n_clusters) % groups
    left_out_RG = group_G == np.arange(groups if groups >= 4 else 0)[:, None]
    labels_RG = np.concatenate([female_G[None], permuted_RG, np.broadcast_to(female_G, left_out_RG.shape)])
    return labels_RG, np.concatenate([np.ones((1 + n_permutations, n_clusters), dtype=bool), ~left_out_RG])


def _agreements(sides: Sequence[sparse.csc_array], live_F: np.ndarray, labels_RG: np.ndarray, kept_RG: np.ndarray, index_N: np.ndarray, k: int) -> np.ndarray:
    """[2, R]: rank correlation and top-k overlap of the effects of live latents in the two languages, for each labelling of the clusters kept.

    A few draws at a time: weights of all draws for every image would not fit where there are a million images.
    """
    size_G = np.bincount(index_N).astype(np.float64)
    found = []
    step = max(1, _CHUNK_ELEMENTS // max(len(index_N), len(live_F)))
    for start in range(0, len(labels_RG), step):
        labels, kept = labels_RG[start : start + step], kept_RG[start : start + step]
        n_women, n_men = ((side & kept) @ size_G for side in (labels, ~labels))
        weights_GR = (np.where(labels, 1 / np.maximum(n_women, 1)[:, None], -1 / np.maximum(n_men, 1)[:, None]) * kept).T
        effects = [np.asarray(matrix_NF.T @ weights_GR[index_N])[live_F] for matrix_NF in sides]
        # Without women or without men there is no effect to compare.
        both = (n_women > 0) & (n_men > 0)
        found += [_agreement(effects[0][:, draw], effects[1][:, draw], k) if both[draw] else (np.nan, np.nan) for draw in range(len(labels))]
    return np.array(found).T


def _agreement(en_F: np.ndarray, ar_F: np.ndarray, k: int) -> tuple[float, float]:
    """(rank correlation, top-k overlap) of two effects; NaN where one is the same for all latents."""
    ranks_F = [stats.rankdata(effect_F) for effect_F in (en_F, ar_F)]
    top = [set(np.argsort(-np.abs(effect_F), kind="stable")[:k].tolist()) for effect_F in (en_F, ar_F)]
    flat = any(np.ptp(rank_F) == 0 for rank_F in ranks_F)
    return float("nan") if flat else float(np.corrcoef(*ranks_F)[0, 1]), len(top[0] & top[1]) / k


def causal_transfer_row(
    layer: int, measure: str, own_N: np.ndarray, crossed_N: np.ndarray, clusters_N: np.ndarray, *, margin: float, seed: int
) -> AlignmentRow:
    """Rung L4: does steering with the other language's latents do what steering with a language's own does?

    `own_N`, `crossed_N` are each image's change of gender gap (nats) under its own language's latents and under the other's. The value is the mean of
    crossed - own; the note says whether they are equivalent within `margin`, different, or undecided. Ceiling 0, floor minus the mean own effect
    (no transfer at all).
    """
    own_N, crossed_N = finite(own_N, "own effects"), finite(crossed_N, "crossed effects")
    same_rows(own=own_N, crossed=crossed_N, clusters=clusters_N)
    found = paired_difference(crossed_N, own_N, clusters_N, seed=seed)
    said = {"present": "different", "negligible": f"equivalent within {margin:g}", "undecided": "undecided"}[equivalence_verdict(found, margin)]
    return AlignmentRow(layer, measure, found.value, found.low, found.high, -float(np.mean(own_N)), 0.0, found.n_rows, found.n_clusters, said)
