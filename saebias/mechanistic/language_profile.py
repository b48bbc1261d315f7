"""What the latents of one dictionary do in each language: how many fire, how densely, which follow a gender, and for which contexts.

Two genders can be followed: the one that a clear picture shows (AUROC, permutation p over image clusters), which is seeing, and the one that the model assumes
where a picture shows none (see `stereotype_followers`), which is bias. Benjamini-Hochberg over all latents each time, dead ones counted.
Shapes: N images, F latents, O contexts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.association import Association, associate
from saebias.mechanistic.codes import SparseCodes
from saebias.mechanistic.stereotype_followers import Followers, follow_stereotype
from saebias.stats.checks import cluster_index, same_rows
from saebias.stats.multiple import benjamini_hochberg

GROUPS = ("female", "male", "neutral", "dead")
TARGETS = ("visible gender", "stereotype")


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
    n_stereotype_female: int | None
    """Latents that fire more in the contexts in which the model says woman of a picture that shows none; None where that was not asked, see the note."""
    n_stereotype_male: int | None
    n_stereotype_permuted: int | None
    """The control of these two: contexts exchanged once."""
    stereotype_spread: float
    """Standard deviation of P(woman) over contexts; NaN where unknown."""
    n_contexts: int
    n_images: int
    n_clusters: int
    stereotype_note: str


@dataclass(frozen=True, eq=False)
class LanguageProfile:
    """Every latent of a dictionary in one language. `group_F` holds one of female, male, neutral (live, no association shown), dead, by visible gender.

    `followers` has the groups by stereotype, dead latents called so; None where no picture without a gender and its P(woman) was handed in.
    """

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
    followers: Followers | None
    l0: float
    n_images: int
    n_clusters: int

    def features(self, group: str, target: str = "visible gender") -> list[FeatureRef]:
        """The latents of a group, strongest association first; the four groups of a target are disjoint and cover the dictionary.

        Raises InputError for an unknown group or target, and for the stereotype where it was not asked for.
        """
        if group not in GROUPS:
            raise InputError(f"unknown group {group!r}; choose one of {', '.join(GROUPS)}")
        if target not in TARGETS:
            raise InputError(f"unknown target {target!r}; choose one of {', '.join(TARGETS)}")
        group_F, strength_F = self.group_F, np.abs(self.auroc_F - 0.5)
        if target == "stereotype":
            if self.followers is None or not self.followers.tested:
                raise InputError(f"{self.sae_id} ({self.language}): which latents follow the stereotype is not known: {self._note()}")
            group_F, strength_F = self.followers.group_F, np.abs(self.followers.correlation_F)
        members = np.flatnonzero(group_F == group)
        order = members[np.argsort(-strength_F[members], kind="stable")]
        return [FeatureRef(self.sae_id, int(latent)) for latent in order]

    def row(self) -> ProfileRow:
        """The profile as a table row."""
        counts = {group: int((self.group_F == group).sum()) for group in GROUPS}
        live_F = self.group_F != "dead"
        density = float(self.firing_rate_F[live_F].mean()) if live_F.any() else float("nan")
        told = self.followers if self.followers is not None and self.followers.tested else None
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
            n_stereotype_female=None if told is None else int((told.group_F == "female").sum()),
            n_stereotype_male=None if told is None else int((told.group_F == "male").sum()),
            n_stereotype_permuted=None if told is None else told.n_permuted,
            stereotype_spread=float("nan") if told is None else told.spread,
            n_contexts=0 if self.followers is None else self.followers.n_contexts,
            n_images=self.n_images,
            n_clusters=self.n_clusters,
            stereotype_note=self._note(),
        )

    def _note(self) -> str:
        return "no picture that shows no gender has a known P(woman) and context" if self.followers is None else self.followers.reason


@dataclass(frozen=True)
class LanguageFeatureProfile:
    """Profiles a dictionary in one language; `q` is the false-discovery rate of the groups, `smallest` the smallest stereotype that matters."""

    q: float = 0.05
    n_permutations: int = 9999
    smallest: float = 0.05

    def read(
        self,
        sae_id: str,
        language: str,
        codes: np.ndarray | SparseCodes,
        gender_N: np.ndarray,
        clusters_N: np.ndarray,
        *,
        seed: int,
        p_female_N: np.ndarray | None = None,
        contexts_N: np.ndarray | None = None,
    ) -> LanguageProfile:
        """The profile from codes of one row per image (dense [N, F], or sparse); F and M images test the association, all images count for firing.

        `p_female_N` (the model's P(woman | woman or man), NaN where unknown) and `contexts_N`, together, test the stereotype on the images of gender A.
        Raises InputError for codes that are not finite, a gender that is missing, or when all latents are dead.
        """
        gender_N, clusters_N = np.asarray(gender_N), np.asarray(clusters_N)
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
        followers = self._followers(codes, gender_N, clusters_N, p_female_N, contexts_N, seed)
        if followers is not None:
            followers = replace(followers, group_F=np.where(fires_F == 0, "dead", followers.group_F))
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
            followers=followers,
            l0=float(fires_F.sum() / n_rows),
            n_images=n_rows,
            n_clusters=len(np.unique(clusters_N)),
        )

    def _followers(
        self, codes: SparseCodes, gender_N: np.ndarray, clusters_N: np.ndarray, p_female_N: np.ndarray | None, contexts_N: np.ndarray | None, seed: int
    ) -> Followers | None:
        if p_female_N is None or contexts_N is None:
            if p_female_N is not contexts_N:
                raise InputError("P(woman) and contexts are handed in together: the stereotype is how the one goes with the other")
            return None
        p_N, contexts_N = np.asarray(p_female_N, dtype=np.float64), np.asarray(contexts_N)
        same_rows(codes=codes, p_female=p_N, contexts=contexts_N)
        known = (gender_N == "A") & ~np.isnan(p_N)
        if not known.any():
            return None
        return follow_stereotype(
            codes.rows(known),
            p_N[known],
            contexts_N[known],
            clusters_N[known],
            seed=seed,
            q=self.q,
            n_permutations=self.n_permutations,
            smallest=self.smallest,
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
