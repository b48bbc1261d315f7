"""What the latents of one dictionary do in each language: how many fire, how densely, which follow visible gender, and for which contexts.

Association is AUROC with visible gender, permutation p over image clusters, Benjamini-Hochberg over all latents (dead ones counted).
Shapes: N images, F latents, O contexts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.stats.checks import binary, finite, same_rows
from saebias.stats.effects import auroc_columns, cluster_permutation_auroc
from saebias.stats.multiple import benjamini_hochberg

GROUPS = ("female", "male", "neutral", "dead")


@dataclass(frozen=True)
class ProfileRow:
    """One language of one dictionary in numbers; `density` is the mean share of images on which a live latent fires."""

    sae_id: str
    language: str
    n_latents: int
    n_live: int
    n_dead: int
    density: float
    l0: float
    n_female: int
    n_male: int
    n_neutral: int
    n_images: int
    n_clusters: int


@dataclass(frozen=True, eq=False)
class LanguageProfile:
    """Every latent of a dictionary in one language. `group_F` holds one of female, male, neutral (live, no association shown), dead."""

    sae_id: str
    language: str
    firing_rate_F: np.ndarray
    active_mean_F: np.ndarray
    auroc_F: np.ndarray
    p_F: np.ndarray
    q_F: np.ndarray
    group_F: np.ndarray
    l0: float
    n_images: int
    n_clusters: int

    def features(self, group: str) -> list[FeatureRef]:
        """The latents of a group, strongest association first; the four groups are disjoint and cover the dictionary."""
        if group not in GROUPS:
            raise InputError(f"unknown group {group!r}; choose one of {', '.join(GROUPS)}")
        members = np.flatnonzero(self.group_F == group)
        order = members[np.argsort(-np.abs(self.auroc_F[members] - 0.5), kind="stable")]
        return [FeatureRef(self.sae_id, int(latent)) for latent in order]

    def row(self) -> ProfileRow:
        """The profile as a table row."""
        counts = {group: int((self.group_F == group).sum()) for group in GROUPS}
        live_F = self.group_F != "dead"
        density = float(self.firing_rate_F[live_F].mean()) if live_F.any() else float("nan")
        return ProfileRow(
            sae_id=self.sae_id,
            language=self.language,
            n_latents=len(live_F),
            n_live=int(live_F.sum()),
            n_dead=counts["dead"],
            density=density,
            l0=self.l0,
            n_female=counts["female"],
            n_male=counts["male"],
            n_neutral=counts["neutral"],
            n_images=self.n_images,
            n_clusters=self.n_clusters,
        )


@dataclass(frozen=True)
class LanguageFeatureProfile:
    """Profiles a dictionary in one language; `q` is the false-discovery rate of the gender groups."""

    q: float = 0.05
    n_permutations: int = 9999

    def read(self, sae_id: str, language: str, codes_NF: np.ndarray, gender_N: np.ndarray, clusters_N: np.ndarray, *, seed: int) -> LanguageProfile:
        """The profile from codes of one row per image; F and M images test the association, all images count for firing.

        Raises InputError for codes that are not finite, a gender that is missing, or when all latents are dead.
        """
        codes_NF = finite(codes_NF, f"{language} codes")
        same_rows(codes=codes_NF, gender=gender_N, clusters=clusters_N)
        fires_NF = codes_NF > 0
        firing_rate_F = fires_NF.mean(axis=0)
        if not firing_rate_F.any():
            raise InputError(f"all {len(firing_rate_F)} latents of {sae_id} are dead on {len(codes_NF)} {language} images; was it trained on this layer?")
        active_mean_F = np.divide(codes_NF.sum(axis=0), fires_NF.sum(axis=0), out=np.zeros(len(firing_rate_F)), where=firing_rate_F > 0)
        clear_N = gender_N != "A"
        is_female_N = binary(gender_N[clear_N] == "F", "visible gender")
        auroc_F = auroc_columns(codes_NF[clear_N], is_female_N)
        p_F = cluster_permutation_auroc(codes_NF[clear_N], is_female_N, clusters_N[clear_N], self.n_permutations, seed)
        q_F = benjamini_hochberg(p_F)
        associated_F = q_F <= self.q
        group_F = np.select([firing_rate_F == 0, associated_F & (auroc_F > 0.5), associated_F & (auroc_F < 0.5)], ["dead", "female", "male"], "neutral")
        counts = len(codes_NF), len(np.unique(clusters_N))
        return LanguageProfile(sae_id, language, firing_rate_F, active_mean_F, auroc_F, p_F, q_F, group_F, float(fires_NF.sum(axis=1).mean()), *counts)


def top_contexts(codes_NF: np.ndarray, contexts_N: np.ndarray, latent: int, k: int = 3) -> list[tuple[str, float]]:
    """The k contexts in which a latent is most active, as (context, mean code), strongest first; contexts where it is silent are left out."""
    names = np.unique(contexts_N)
    means: Mapping[str, float] = {str(name): float(codes_NF[contexts_N == name, latent].mean()) for name in names}
    return sorted(((name, mean) for name, mean in means.items() if mean > 0), key=lambda pair: -pair[1])[:k]
