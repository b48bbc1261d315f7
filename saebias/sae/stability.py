"""Which latents of one dictionary are found again in another: one-to-one matching, with what chance alone would give.

Index 7 of one dictionary has nothing to do with index 7 of another, so everything here goes through `FeatureRef` and a matching.
Shapes: F and G latents of the first and second dictionary, D model width, N rows, M matched pairs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from saebias.errors import InputError
from saebias.identifiers import FeatureRef, latent_indices


@dataclass(frozen=True)
class Dictionary:
    """What matching needs of an SAE: its id, its decoder, and its codes on rows that both dictionaries were given (or None)."""

    sae_id: str
    W_dec_FD: np.ndarray
    codes_NF: np.ndarray | None = None


@dataclass(frozen=True)
class LiveLatents:
    """The latents of a dictionary that are active on some of the rows given: the others have no partner that could be told from chance."""

    dictionary: Dictionary
    latents: np.ndarray
    """Index of each, ascending."""


def live_latents(sae_id: str, W_dec_FD: np.ndarray, codes_NF: np.ndarray, at_most: int = 6000) -> LiveLatents:
    """The latents active on the rows of `codes_NF`; of more than `at_most` those active most often, because matching takes time with the cube of them.

    Raises InputError when fewer than two latents are active.
    """
    often_F = (codes_NF > 0).sum(axis=0)
    latents = np.sort(np.argsort(-often_F, kind="stable")[: min(at_most, int((often_F > 0).sum()))])
    if len(latents) < 2:
        raise InputError(f"dictionary {sae_id} has {len(latents)} active latents on {len(codes_NF)} rows; matching needs two at least: give more rows")
    return LiveLatents(Dictionary(sae_id, W_dec_FD[latents], codes_NF[:, latents]), latents)


@dataclass(frozen=True)
class Matching:
    """Pairs of latents, each latent in at most one of them, ordered by the latent of the first dictionary."""

    first_id: str
    second_id: str
    first_M: np.ndarray
    second_M: np.ndarray
    cosine_M: np.ndarray
    """Decoder cosine of each pair."""
    correlation_M: np.ndarray | None
    """Pearson correlation of the codes of each pair over rows; NaN where one of them is never active; None without codes."""
    null_cosine: np.ndarray
    """Cosines of the pairs found between the first dictionary and random ones, sorted."""

    def partner(self, feature: FeatureRef) -> FeatureRef | None:
        """The latent of the other dictionary matched with `feature`, None when it has none; raises InputError for a third dictionary."""
        if feature.sae_id == self.first_id:
            mine_M, theirs_M, other_id = self.first_M, self.second_M, self.second_id
        elif feature.sae_id == self.second_id:
            mine_M, theirs_M, other_id = self.second_M, self.first_M, self.first_id
        else:
            raise InputError(f"feature {feature} belongs to neither {self.first_id} nor {self.second_id}; match its own dictionary first")
        place = np.flatnonzero(mine_M == feature.index)
        return FeatureRef(other_id, int(theirs_M[place[0]])) if len(place) else None

    def p_value_M(self) -> np.ndarray:
        """For each pair the share of chance pairs at least as similar, (1 + #{null >= cosine}) / (1 + #null)."""
        n_null = len(self.null_cosine)
        at_least_M = n_null - np.searchsorted(self.null_cosine, self.cosine_M, side="left")
        return (1 + at_least_M) / (1 + n_null)

    def stable_M(self, *, min_cosine: float = 0.7, min_correlation: float = 0.5, alpha: float = 0.01) -> np.ndarray:
        """Which pairs count as the same latent [M] bool: similar decoder rows, similar codes where codes were given, and above chance at level `alpha`."""
        stable_M = (self.cosine_M >= min_cosine) & (self.p_value_M() <= alpha)
        # A comparison with NaN is False: a pair whose correlation cannot be computed is not stable.
        return stable_M if self.correlation_M is None else stable_M & (self.correlation_M >= min_correlation)


@dataclass(frozen=True)
class Overlap:
    """How much two sets of latents of two dictionaries have in common, counted in matched pairs."""

    n_first: int
    n_second: int
    n_shared: int
    expected_by_chance: float
    """Mean of the hypergeometric distribution: pairs shared by two random sets of these sizes."""


def match_dictionaries(first: Dictionary, second: Dictionary, *, seed: int, n_null: int = 3) -> Matching:
    """The one-to-one matching (Hungarian method) that maximises the summed similarity of two dictionaries, with its null.

    Similarity is the decoder cosine, averaged with the correlation of the codes when both dictionaries come with codes of the same rows. The null matches the
    first dictionary with `n_null` random ones whose rows have the second one's covariance: where directions crowd in few dimensions, chance cosines are high.
    Raises InputError when the widths or the rows differ, or when a dictionary is matched with itself.
    """
    _check_pair(first, second)
    cosine_FG = _unit_rows(first.W_dec_FD) @ _unit_rows(second.W_dec_FD).T
    correlation_FG = None
    if first.codes_NF is not None and second.codes_NF is not None:
        correlation_FG = _correlation(first.codes_NF, second.codes_NF)
    # A latent that is never active has no correlation: it counts as 0 for the assignment only, the NaN stays in the result.
    similarity_FG = cosine_FG if correlation_FG is None else (cosine_FG + np.where(np.isnan(correlation_FG), 0.0, correlation_FG)) / 2
    first_M, second_M = linear_sum_assignment(similarity_FG, maximize=True)
    return Matching(
        first.sae_id,
        second.sae_id,
        first_M,
        second_M,
        cosine_FG[first_M, second_M],
        None if correlation_FG is None else correlation_FG[first_M, second_M],
        _null_cosines(first.W_dec_FD, second.W_dec_FD, n_null, np.random.default_rng(seed)),
    )


def overlap(first: Collection[FeatureRef], second: Collection[FeatureRef], matching: Matching) -> Overlap:
    """How many of `first` have their matched partner among `second`; raises InputError when a latent belongs to another dictionary than the matching says."""
    first_indices = latent_indices(list(first), matching.first_id)
    latent_indices(list(second), matching.second_id)
    wanted = set(second)
    n_shared = sum(matching.partner(FeatureRef(matching.first_id, index)) in wanted for index in set(first_indices))
    n_first, n_second = len(set(first)), len(wanted)
    return Overlap(n_first, n_second, n_shared, n_first * n_second / len(matching.first_M))


def _check_pair(first: Dictionary, second: Dictionary) -> None:
    if first.sae_id == second.sae_id:
        raise InputError(f"dictionary {first.sae_id} was to be matched with itself; hand in two dictionaries")
    if first.W_dec_FD.shape[1] != second.W_dec_FD.shape[1]:
        widths = f"{first.sae_id} has width {first.W_dec_FD.shape[1]} and {second.sae_id} has {second.W_dec_FD.shape[1]}"
        raise InputError(f"{widths}; only dictionaries of one hook point can be matched")
    if (first.codes_NF is None) != (second.codes_NF is None):
        raise InputError(f"only one of {first.sae_id} and {second.sae_id} comes with codes; hand in codes of the same rows for both, or for none")
    if first.codes_NF is not None and second.codes_NF is not None and len(first.codes_NF) != len(second.codes_NF):
        raise InputError(f"codes of {len(first.codes_NF)} and {len(second.codes_NF)} rows cannot be correlated; encode the same rows with both dictionaries")


def _null_cosines(first_FD: np.ndarray, second_GD: np.ndarray, n_null: int, rng: np.random.Generator) -> np.ndarray:
    unit_FD, unit_GD = _unit_rows(first_FD), _unit_rows(second_GD)
    # Mixing the rows with a random matrix keeps their second moment and nothing else.
    factor_DD = np.linalg.qr(unit_GD, mode="r")
    cosines = []
    for _ in range(n_null):
        random_GD = _unit_rows(rng.standard_normal((len(unit_GD), len(factor_DD))) @ factor_DD)
        cosine_FG = unit_FD @ random_GD.T
        cosines.append(cosine_FG[linear_sum_assignment(cosine_FG, maximize=True)])
    return np.sort(np.concatenate(cosines)) if cosines else np.empty(0)


def _correlation(codes_NF: np.ndarray, codes_NG: np.ndarray) -> np.ndarray:
    return _standardised(codes_NF).T @ _standardised(codes_NG)


def _standardised(codes_NF: np.ndarray) -> np.ndarray:
    centred_NF = codes_NF - codes_NF.mean(axis=0)
    norm_F = np.linalg.norm(centred_NF, axis=0)
    return centred_NF / np.where((codes_NF == codes_NF[:1]).all(axis=0), np.nan, norm_F)


def _unit_rows(rows_FD: np.ndarray) -> np.ndarray:
    norm_F = np.linalg.norm(rows_FD, axis=1, keepdims=True)
    if not (norm_F > 0).all():
        raise InputError(f"decoder row {int(np.flatnonzero(norm_F == 0)[0])} is zero or NaN and has no direction; such a dictionary cannot be matched")
    return rows_FD / norm_F
