"""Which latents carry gender in both languages, which in one only, with error control: absence is shown by an equivalence test, not by a large p.

Shapes: N images seen in both languages, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError
from saebias.mechanistic.association import Association, associate
from saebias.mechanistic.codes import SparseCodes
from saebias.stats.checks import same_rows
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

    def read(
        self, sae_id: str, en: np.ndarray | SparseCodes, ar: np.ndarray | SparseCodes, gender_N: np.ndarray, clusters_N: np.ndarray, *, seed: int
    ) -> list[SpecificityRow]:
        """One row per latent, from codes (dense [N, F], or sparse) of the same clear images (F, M; others are left out) in both languages."""
        en, ar = SparseCodes.of(en, "English codes"), SparseCodes.of(ar, "Arabic codes")
        gender_N, clusters_N = np.asarray(gender_N), np.asarray(clusters_N)
        same_rows(english=en, arabic=ar, gender=gender_N, clusters=clusters_N)
        if en.n_latents != ar.n_latents:
            raise InputError(f"English codes have {en.n_latents} latents, Arabic {ar.n_latents}; both must come from dictionary {sae_id}")
        clear = np.isin(gender_N, ("F", "M"))
        female_N, clusters_N = gender_N[clear] == "F", clusters_N[clear]
        found_2 = [
            associate(side.rows(clear), female_N, clusters_N, n_permutations=self.n_permutations, seed=seed + n, level=0.90) for n, side in enumerate((en, ar))
        ]
        q_2F = np.stack([benjamini_hochberg(found.p_F) for found in found_2])
        q_both_F = benjamini_hochberg(np.maximum(found_2[0].p_F, found_2[1].p_F))
        verdict_F = self._verdicts(found_2, q_2F, q_both_F)
        counts = int(clear.sum()), len(np.unique(clusters_N))
        sides = [list(zip(found.auroc_F.tolist(), found.low_F.tolist(), found.high_F.tolist(), strict=True)) for found in found_2]
        return [
            SpecificityRow(
                sae_id,
                latent,
                str(verdict_F[latent]),
                *sides[0][latent],
                float(q_2F[0, latent]),
                *sides[1][latent],
                float(q_2F[1, latent]),
                float(q_both_F[latent]),
                *counts,
            )
            for latent in range(en.n_latents)
        ]

    def _verdicts(self, found_2: list[Association], q_2F: np.ndarray, q_both_F: np.ndarray) -> np.ndarray:
        negligible_en, negligible_ar = ((found.low_F > 0.5 - self.margin) & (found.high_F < 0.5 + self.margin) for found in found_2)
        same_sign = (found_2[0].auroc_F - 0.5) * (found_2[1].auroc_F - 0.5) > 0
        in_en, in_ar = q_2F <= self.q
        conditions = [(q_both_F <= self.q) & same_sign, in_en & negligible_ar, in_ar & negligible_en, in_en | in_ar]
        return np.select(conditions, ["shared", "en_only", "ar_only", "unclear"], "none")
