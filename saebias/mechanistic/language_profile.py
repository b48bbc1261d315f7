"""What the latents of one dictionary do in each language: how many fire, how densely, which follow visible gender, and for which contexts.

Association is AUROC with visible gender, permutation p over image clusters, Benjamini-Hochberg over all latents (dead ones counted).
Shapes: N images, F latents, O contexts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.association import Association, associate
from saebias.mechanistic.codes import SparseCodes
from saebias.stats.checks import cluster_index, same_rows
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
    n_gendered_permuted: int
    """Control: latents called female or male after one permutation of the labels among clusters."""
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
    low_F: np.ndarray
    high_F: np.ndarray
    p_F: np.ndarray
    q_F: np.ndarray
    group_F: np.ndarray
    n_gendered_permuted: int
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
            n_gendered_permuted=self.n_gendered_permuted,
            n_images=self.n_images,
            n_clusters=self.n_clusters,
        )


@dataclass(frozen=True)
class LanguageFeatureProfile:
    """Profiles a dictionary in one language; `q` is the false-discovery rate of the gender groups."""

    q: float = 0.05
    n_permutations: int = 9999

    def read(self, sae_id: str, language: str, codes: np.ndarray | SparseCodes, gender_N: np.ndarray, clusters_N: np.ndarray, *, seed: int) -> LanguageProfile:
        """The profile from codes of one row per image (dense [N, F], or sparse); F and M images test the association, all images count for firing.

        Raises InputError for codes that are not finite, a gender that is missing, or when all latents are dead.
        """
        codes = SparseCodes.of(codes, f"{language} codes")
        same_rows(codes=codes, gender=gender_N, clusters=clusters_N)
        fires_F, n_rows = codes.fires_F, codes.n_rows
        if not fires_F.any():
            raise InputError(f"all {codes.n_latents} latents of {sae_id} are dead on {n_rows} {language} images; was it trained on this layer?")
        active_mean_F = np.divide(codes.sum_F, fires_F, out=np.full(codes.n_latents, np.nan), where=fires_F > 0)
        clear = np.isin(gender_N, ("F", "M"))
        female_N, clear_clusters_N, clear_codes = gender_N[clear] == "F", clusters_N[clear], codes.rows(clear)
        found = associate(clear_codes, female_N, clear_clusters_N, n_permutations=self.n_permutations, seed=seed)
        q_F = benjamini_hochberg(found.p_F)
        group_F = self._groups(fires_F, found, q_F)
        return LanguageProfile(
            sae_id=sae_id,
            language=language,
            firing_rate_F=fires_F / n_rows,
            active_mean_F=active_mean_F,
            auroc_F=found.auroc_F,
            low_F=found.low_F,
            high_F=found.high_F,
            p_F=found.p_F,
            q_F=q_F,
            group_F=group_F,
            n_gendered_permuted=self._permuted(clear_codes, female_N, clear_clusters_N, seed),
            l0=float(fires_F.sum() / n_rows),
            n_images=n_rows,
            n_clusters=len(np.unique(clusters_N)),
        )

    def _groups(self, fires_F: np.ndarray, found: Association, q_F: np.ndarray) -> np.ndarray:
        associated_F = q_F <= self.q
        return np.select([fires_F == 0, associated_F & (found.auroc_F > 0.5), associated_F & (found.auroc_F < 0.5)], ["dead", "female", "male"], "neutral")

    def _permuted(self, codes: SparseCodes, female_N: np.ndarray, clusters_N: np.ndarray, seed: int) -> int:
        """How many latents pass when the labels were exchanged among clusters once: the control that must stay near 0."""
        index_N, n_clusters = cluster_index(clusters_N)
        female_G = np.zeros(n_clusters, dtype=bool)
        female_G[index_N] = female_N
        shuffled_N = np.random.default_rng([seed, 5]).permutation(female_G)[index_N]
        found = associate(codes, shuffled_N, clusters_N, n_permutations=self.n_permutations, seed=seed + 1)
        return int((benjamini_hochberg(found.p_F) <= self.q).sum())


def top_contexts(codes: np.ndarray | SparseCodes, contexts_N: np.ndarray, latent: int, k: int = 3) -> list[tuple[str, float]]:
    """The k contexts in which a latent is most active, as (context, mean code), strongest first; contexts where it is silent are left out."""
    return contexts_of(codes, contexts_N, k)[latent]


def contexts_of(codes: np.ndarray | SparseCodes, contexts_N: np.ndarray, k: int = 3) -> list[list[tuple[str, float]]]:
    """Per latent its `top_contexts`, found in one pass over the active codes."""
    codes = SparseCodes.of(codes)
    names, index_N = np.unique(contexts_N, return_inverse=True)
    same_rows(codes=codes, contexts=index_N)
    in_context_ON = sparse.csr_array((np.ones(len(index_N)), (index_N, np.arange(len(index_N)))), shape=(len(names), len(index_N)))
    mean_FO = ((in_context_ON @ codes.matrix).T.toarray() / np.bincount(index_N)).astype(np.float64)
    best_FK = np.argsort(-mean_FO, axis=1, kind="stable")[:, :k]
    return [[(str(names[place]), float(mean_O[place])) for place in best_K if mean_O[place] > 0] for mean_O, best_K in zip(mean_FO, best_FK, strict=True)]
