"""Which latents carry gender in both languages, which in one only, with error control: absence is shown by an equivalence test, not by a large p.

Shapes: N images seen in both languages, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError
from saebias.stats.checks import binary, finite, same_rows
from saebias.stats.effects import auroc_intervals, cluster_permutation_auroc
from saebias.stats.multiple import benjamini_hochberg

CLASSES = ("shared", "en_only", "ar_only", "unclear", "none")


@dataclass(frozen=True)
class SpecificityRow:
    """One latent: its class with the evidence. `q_*` are Benjamini-Hochberg over all latents; intervals are 90 %, the two one-sided tests at 5 %."""

    sae_id: str
    latent: int
    verdict: str
    auroc_en: float
    low_en: float
    high_en: float
    q_en: float
    auroc_ar: float
    low_ar: float
    high_ar: float
    q_ar: float
    q_both: float
    n_images: int
    n_clusters: int


@dataclass(frozen=True)
class LanguageSpecificFeatureIdentifier:
    """Sorts latents into shared / en_only / ar_only / unclear / none.

    shared: associated in both languages, in the same direction (conjunction: BH on the larger p); en_only: associated in English (BH) and in Arabic shown to
    lie within `margin` of .5 (90 % interval inside); ar_only likewise; unclear: associated in one and undecided, or opposed, in the other; none: the rest.
    """

    q: float = 0.05
    margin: float = 0.1
    n_permutations: int = 9999

    def read(self, sae_id: str, en_NF: np.ndarray, ar_NF: np.ndarray, gender_N: np.ndarray, clusters_N: np.ndarray, *, seed: int) -> list[SpecificityRow]:
        """One row per latent, from codes of the same clear images (F, M; others are left out) in both languages."""
        en_NF, ar_NF = finite(en_NF, "English codes"), finite(ar_NF, "Arabic codes")
        same_rows(english=en_NF, arabic=ar_NF, gender=gender_N, clusters=clusters_N)
        if en_NF.shape != ar_NF.shape:
            raise InputError(f"English codes have {en_NF.shape[1]} latents, Arabic {ar_NF.shape[1]}; both must come from dictionary {sae_id}")
        clear_N = gender_N != "A"
        is_female_N, clusters_N = binary(gender_N[clear_N] == "F", "visible gender"), clusters_N[clear_N]
        sides = [codes_NF[clear_N] for codes_NF in (en_NF, ar_NF)]
        p_2F = np.stack([cluster_permutation_auroc(x_NF, is_female_N, clusters_N, self.n_permutations, seed + n) for n, x_NF in enumerate(sides)])
        found_2 = [auroc_intervals(x_NF, is_female_N, clusters_N, level=0.90) for x_NF in sides]
        q_2F = np.stack([benjamini_hochberg(p_F) for p_F in p_2F])
        q_both_F = benjamini_hochberg(p_2F.max(axis=0))
        verdict_F = self._verdicts(found_2, q_2F, q_both_F)
        counts = int(clear_N.sum()), len(np.unique(clusters_N))
        return [
            SpecificityRow(
                sae_id,
                latent,
                str(verdict_F[latent]),
                *(float(part_F[latent]) for part_F in found_2[0]),
                float(q_2F[0, latent]),
                *(float(part_F[latent]) for part_F in found_2[1]),
                float(q_2F[1, latent]),
                float(q_both_F[latent]),
                *counts,
            )
            for latent in range(en_NF.shape[1])
        ]

    def _verdicts(self, found_2: list[tuple[np.ndarray, np.ndarray, np.ndarray]], q_2F: np.ndarray, q_both_F: np.ndarray) -> np.ndarray:
        (auroc_en, low_en, high_en), (auroc_ar, low_ar, high_ar) = found_2
        negligible_en = (low_en > 0.5 - self.margin) & (high_en < 0.5 + self.margin)
        negligible_ar = (low_ar > 0.5 - self.margin) & (high_ar < 0.5 + self.margin)
        same_sign = (auroc_en - 0.5) * (auroc_ar - 0.5) > 0
        in_en, in_ar = q_2F <= self.q
        conditions = [(q_both_F <= self.q) & same_sign, in_en & negligible_ar, in_ar & negligible_en, in_en | in_ar]
        return np.select(conditions, ["shared", "en_only", "ar_only", "unclear"], "none")
