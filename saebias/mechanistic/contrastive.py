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
from saebias.stats.checks import binary, cluster_index, same_rows
from saebias.stats.effects import permute_within
from saebias.stats.equivalence import verdict as equivalence_verdict
from saebias.stats.probing import probe
from saebias.stats.resampling import paired_difference

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
    permuted_NR, left_out_NR = _permuted(female_N, index_N, n_clusters, n_permutations, seed), _groups_left_out(index_N, n_clusters, seed)
    labels_NR = np.concatenate([female_N[:, None], permuted_NR, np.repeat(female_N[:, None], left_out_NR.shape[1], axis=1)], axis=1)
    kept_NR = np.concatenate([np.ones((len(female_N), 1 + permuted_NR.shape[1]), dtype=bool), ~left_out_NR], axis=1)
    agreement_2R = _agreements([codes.matrix[:, live_F] for codes in sides], labels_NR, kept_NR, k)
    first = 1 + permuted_NR.shape[1]
    half = jackknife_half_width(agreement_2R[0, first:]) if left_out_NR.shape[1] else float("nan")
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


def _permuted(female_N: np.ndarray, index_N: np.ndarray, n_clusters: int, n_permutations: int, seed: int) -> np.ndarray:
    """Labels [N, R] permuted among clusters; raises InputError for a cluster of both genders."""
    female_G = np.zeros(n_clusters, dtype=bool)
    female_G[index_N] = female_N
    if (mixed := int((female_G[index_N] != female_N).sum())) > 0:
        raise InputError(f"{mixed} images lie in clusters of both genders; permuting needs one gender per cluster (cluster by drawing, not by scene)")
    return permute_within(female_G, None, index_N, n_permutations, seed).T[index_N]


def _groups_left_out(index_N: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Which images each draw of the jackknife leaves out [N, groups]; no group for fewer than 4 clusters."""
    groups = min(20, n_clusters)
    group_G = np.random.default_rng(seed).permutation(n_clusters) % groups
    return group_G[index_N][:, None] == np.arange(groups if groups >= 4 else 0)


def _agreements(sides: Sequence[sparse.csc_array], labels_NR: np.ndarray, kept_NR: np.ndarray, k: int) -> np.ndarray:
    """[2, R]: rank correlation and top-k overlap of the effects in the two languages, for each labelling of the images kept."""
    women_NR, men_NR = labels_NR & kept_NR, ~labels_NR & kept_NR
    weights_NR = women_NR / np.maximum(women_NR.sum(axis=0), 1) - men_NR / np.maximum(men_NR.sum(axis=0), 1)
    effects_FR = [np.asarray(matrix_NF.T @ weights_NR) for matrix_NF in sides]
    found = []
    for en_F, ar_F in zip(effects_FR[0].T, effects_FR[1].T, strict=True):
        ranks_F = [stats.rankdata(effect_F) for effect_F in (en_F, ar_F)]
        top = [set(np.argsort(-np.abs(effect_F), kind="stable")[:k].tolist()) for effect_F in (en_F, ar_F)]
        flat = any(np.ptp(rank_F) == 0 for rank_F in ranks_F)
        found.append((np.nan if flat else np.corrcoef(*ranks_F)[0, 1], len(top[0] & top[1]) / k))
    # Without women or without men there is no effect to compare.
    both_R = women_NR.any(axis=0) & men_NR.any(axis=0)
    return np.where(both_R, np.array(found).T, np.nan)


def causal_transfer_row(
    layer: int, measure: str, own_N: np.ndarray, crossed_N: np.ndarray, clusters_N: np.ndarray, *, margin: float, seed: int
) -> AlignmentRow:
    """Rung L4: does steering with the other language's latents do what steering with a language's own does?

    `own_N`, `crossed_N` are each image's change of gender gap (nats) under its own language's latents and under the other's. The value is the mean of
    crossed - own; the note says whether they are equivalent within `margin`, different, or undecided. Ceiling 0, floor minus the mean own effect
    (no transfer at all).
    """
    found = paired_difference(crossed_N, own_N, clusters_N, seed=seed)
    said = {"present": "different", "negligible": f"equivalent within {margin:g}", "undecided": "undecided"}[equivalence_verdict(found, margin)]
    return AlignmentRow(layer, measure, found.value, found.low, found.high, -float(np.mean(own_N)), 0.0, found.n_rows, found.n_clusters, said)
