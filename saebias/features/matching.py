"""Random latents that could have been the target: the control sets of a steering arm.

A set of random latents is a fair control only if it fires as often, as strongly, on the same kinds of tokens, and with decoder rows of the same length as
the target.
Shapes: F latents, K targets, C covariates, P token kinds, R sets, U latents in the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.stats.checks import finite, same_rows

# How strongly a draw leans towards candidates that undo the imbalance so far, where a plain draw (0) would not be balanced.
_LEANING = 4.0
_TRIES_PER_SET = 10


@dataclass(frozen=True)
class LatentProfile:
    """What latents are matched on, over the tokens of the positions steered: firing rate (share of tokens), mean activation when active, decoder row norm, and
    the share of a latent's firings on each token kind (rows sum to 1; `kinds` names the columns)."""

    firing_rate_F: np.ndarray
    active_mean_F: np.ndarray
    decoder_norm_F: np.ndarray
    kind_share_FP: np.ndarray
    kinds: tuple[str, ...]

    def __post_init__(self) -> None:
        same_rows(firing_rate=self.firing_rate_F, active_mean=self.active_mean_F, decoder_norm=self.decoder_norm_F, kind_share=self.kind_share_FP)
        if self.kind_share_FP.shape[1] != len(self.kinds):
            raise InputError(f"{self.kind_share_FP.shape[1]} columns of token kinds, but {len(self.kinds)} names; name every column")

    @property
    def fires_F(self) -> np.ndarray:
        """Latents that are active somewhere: the only ones with a profile."""
        return (self.firing_rate_F > 0) & (self.active_mean_F > 0)

    def covariates(self, latents: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """Names and values_UC of the covariates of some firing latents: log firing rate, log mean activation when active, decoder norm, token-kind shares."""
        columns = [np.log(self.firing_rate_F[latents]), np.log(self.active_mean_F[latents]), self.decoder_norm_F[latents], *self.kind_share_FP[latents].T]
        names = ("log_firing_rate", "log_active_mean", "decoder_norm", *(f"share_{kind}" for kind in self.kinds))
        return names, finite(np.stack(columns, axis=1), "latent profiles")


@dataclass(frozen=True)
class CovariateBalance:
    """How one covariate compares: mean of the targets, mean over all matched sets, their difference in standard deviations of the live latents."""

    covariate: str
    target_mean: float
    matched_mean: float
    standardised_difference: float


@dataclass(frozen=True)
class MatchedSets:
    """sets_RK: column k of every set stands in for target k. `n_neighbours`: from how many nearest unused latents each draw chose (more is more random)."""

    sets_RK: np.ndarray
    balance: tuple[CovariateBalance, ...]
    n_neighbours: int

    @property
    def largest_imbalance(self) -> float:
        """The largest absolute standardised difference."""
        return max(abs(row.standardised_difference) for row in self.balance)


def profile_of(codes: ArrayLike, decoder_norm: ArrayLike, kind_of_row: ArrayLike) -> LatentProfile:
    """The profile of every latent from codes_NF of token rows and the token kind of every row."""
    codes_NF, kind_N = np.asarray(codes), np.asarray(kind_of_row)
    same_rows(codes=codes_NF, kinds=kind_N)
    active_NF = codes_NF > 0
    fired_F = active_NF.sum(axis=0)
    kinds = np.unique(kind_N)
    by_kind_FP = np.stack([active_NF[kind_N == kind].sum(axis=0) for kind in kinds], axis=1)
    at_least_one_F = np.maximum(fired_F, 1)
    return LatentProfile(
        firing_rate_F=fired_F / len(codes_NF),
        active_mean_F=np.where(active_NF, codes_NF, 0).sum(axis=0, dtype=np.float64) / at_least_one_F,
        decoder_norm_F=finite(decoder_norm, "decoder norms"),
        kind_share_FP=by_kind_FP / at_least_one_F[:, None],
        kinds=tuple(str(kind) for kind in kinds),
    )


def matched_sets(
    profile: LatentProfile,
    targets: ArrayLike,
    *,
    n_sets: int = 199,
    seed: int,
    largest_imbalance: float = 0.1,
    live: ArrayLike | None = None,
    refuse: bool = True,
) -> MatchedSets:
    """`n_sets` different random sets of K latents that match the targets; no target is ever drawn, no latent twice within a set.

    Each target's stand-in is drawn among its nearest unused neighbours (Euclidean distance of covariates, each in standard deviations over live latents). The
    neighbourhood shrinks, and draws lean towards what undoes the imbalance so far, until every covariate's standardised difference (Austin 2011, Multivariate
    Behavioral Research 46:399) is below `largest_imbalance`. Raises InputError naming the worst covariate when that cannot be reached, when a target never
    fires, or when the pool is too small for that many different sets. With `refuse=False` the best sets found are returned however unbalanced: say so beside
    every number that rests on them.
    """
    targets_K = np.asarray(targets, dtype=np.int64)
    names, target_KC, pool_U, pool_UC, scale_C = _pool(profile, targets_K, live)
    distance_KU = (((target_KC[:, None] - pool_UC[None]) / scale_C) ** 2).sum(axis=2)
    order_KU = np.argsort(distance_KU, axis=1, kind="stable")
    differences = ((pool_UC[None] - target_KC[:, None]) / scale_C).astype(np.float64)
    best: MatchedSets | None = None
    for n_neighbours, leaning in _attempts(order_KU, differences, largest_imbalance):
        picks_RK = _draw_sets(order_KU, differences, n_neighbours, n_sets, leaning, np.random.default_rng(seed))
        if len(picks_RK) < n_sets:
            continue
        candidate = MatchedSets(pool_U[picks_RK], _balance(names, target_KC, pool_UC[picks_RK], scale_C), n_neighbours)
        if candidate.largest_imbalance < largest_imbalance:
            return candidate
        best = candidate if best is None or candidate.largest_imbalance < best.largest_imbalance else best
    if best is None:
        raise InputError(f"{len(pool_U)} latents give fewer than {n_sets} different sets of {len(targets_K)}; ask for fewer sets or use a larger dictionary")
    if refuse:
        raise InputError(_refusal(best, len(targets_K), largest_imbalance))
    return best


def _refusal(best: MatchedSets, n_targets: int, limit: float) -> str:
    worst = max(best.balance, key=lambda row: abs(row.standardised_difference))
    return (
        f"no balanced random sets for {n_targets} targets: {worst.covariate} stays {worst.standardised_difference:+.2f} standard deviations off "
        f"(limit {limit}); choose fewer or more ordinary targets, or a larger dictionary"
    )


def _pool(profile: LatentProfile, targets_K: np.ndarray, live: ArrayLike | None) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    if len(np.unique(targets_K)) != len(targets_K) or len(targets_K) == 0:
        raise InputError(f"{len(targets_K)} targets of which {len(np.unique(targets_K))} differ; hand in every target once")
    fires_F = profile.fires_F if live is None else profile.fires_F & np.asarray(live).astype(bool)
    silent = targets_K[~profile.fires_F[targets_K]]
    if len(silent):
        raise InputError(f"target latent {int(silent[0])} never fires on these tokens; a dead latent has no match (select live latents only)")
    pool_U = np.setdiff1d(np.flatnonzero(fires_F), targets_K)
    if len(pool_U) < len(targets_K):
        raise InputError(f"{len(pool_U)} live latents besides the {len(targets_K)} targets; matched sets need at least as many")
    names, pool_UC = profile.covariates(pool_U)
    _, target_KC = profile.covariates(targets_K)
    everything = np.concatenate([pool_UC, target_KC])
    deviation_C = everything.std(axis=0)
    # Decoder rows of length 1 up to rounding, or a kind that never occurs: in such a covariate every latent is equal, and its rounding must not count.
    constant_C = deviation_C <= 1e-5 * np.maximum(np.abs(everything).max(axis=0), 1e-12)
    return names, target_KC, pool_U, pool_UC, np.where(constant_C, np.inf, deviation_C)


def _attempts(order_KU: np.ndarray, differences_KUC: np.ndarray, largest_imbalance: float) -> Iterator[tuple[int, float]]:
    """(neighbours, leaning) to try, most random first: per neighbourhood a plain draw where its expected balance is good enough, then a leaning one."""
    n_targets, pool = order_KU.shape
    # A single target has only as many different sets as it has neighbours, so it must look wider.
    sizes = [size for size in ((512, 256, 64, 16, 8, 4, 2) if n_targets == 1 else (64, 16, 8, 4, 2)) if size <= pool] or [pool]
    for size in sizes:
        nearest_KMC = np.take_along_axis(differences_KUC, order_KU[:, :size, None], axis=1)
        if np.abs(nearest_KMC.mean(axis=(0, 1))).max() < largest_imbalance:
            yield size, 0.0
        # Leaning helps only where every covariate has candidates on the side it needs.
        lowest_C, highest_C = nearest_KMC.min(axis=1).mean(axis=0), nearest_KMC.max(axis=1).mean(axis=0)
        if (lowest_C < largest_imbalance).all() and (highest_C > -largest_imbalance).all():
            yield size, _LEANING
    # Nothing fits: what is nearest to it, for a refusal with a number or for `refuse=False`.
    yield sizes[0], _LEANING
    yield sizes[len(sizes) // 2], _LEANING


def _draw_sets(order_KU: np.ndarray, differences_KUC: np.ndarray, n_neighbours: int, n_sets: int, leaning: float, rng: np.random.Generator) -> np.ndarray:
    """Different sets, picks_RK; fewer than `n_sets` when new ones stop turning up."""
    owed_C = np.zeros(differences_KUC.shape[2])
    seen: set[frozenset[int]] = set()
    picks: list[np.ndarray] = []
    for _ in range(n_sets * _TRIES_PER_SET):
        picks_K = _draw_one(order_KU, differences_KUC, n_neighbours, owed_C, leaning, rng)
        if frozenset(picks_K.tolist()) in seen:
            continue
        seen.add(frozenset(picks_K.tolist()))
        picks.append(picks_K)
        owed_C += differences_KUC[np.arange(len(picks_K)), picks_K].sum(axis=0)
        if len(picks) == n_sets:
            break
    return np.array(picks)


def _draw_one(order_KU: np.ndarray, differences_KUC: np.ndarray, n_neighbours: int, owed_C: np.ndarray, leaning: float, rng: np.random.Generator) -> np.ndarray:
    owed_C = owed_C.copy()
    picks_K = np.empty(len(order_KU), dtype=np.int64)
    used: set[int] = set()
    for target in rng.permutation(len(order_KU)):
        # Everything used in this set may sit among the nearest; looking that much further always leaves enough.
        nearest = [latent for latent in order_KU[target, : n_neighbours + len(used)].tolist() if latent not in used][:n_neighbours]
        pick = nearest[_choose(differences_KUC[target, nearest], owed_C, leaning, rng)]
        used.add(pick)
        picks_K[target] = pick
        owed_C += differences_KUC[target, pick]
    return picks_K


def _choose(steps_MC: np.ndarray, owed_C: np.ndarray, leaning: float, rng: np.random.Generator) -> int:
    """A random candidate; with `leaning`, one whose covariates undo the running imbalance is likelier (a biased coin: Efron 1971, Biometrika 58:403)."""
    if leaning == 0:
        return int(rng.integers(len(steps_MC)))
    direction_C = owed_C / max(1.0, float(np.abs(owed_C).max()))
    weight_M = np.exp(-leaning * np.clip(steps_MC @ direction_C, -5, 5))
    return int(np.searchsorted(np.cumsum(weight_M), rng.random() * weight_M.sum(), side="right").clip(0, len(weight_M) - 1))


def _balance(names: tuple[str, ...], target_KC: np.ndarray, matched_RKC: np.ndarray, scale_C: np.ndarray) -> tuple[CovariateBalance, ...]:
    target_C, matched_C = target_KC.mean(axis=0), matched_RKC.mean(axis=(0, 1))
    return tuple(
        CovariateBalance(name, float(target), float(matched), float((matched - target) / scale))
        for name, target, matched, scale in zip(names, target_C, matched_C, scale_C, strict=True)
    )


def rescale_factor(target_norm: float, random_norm: float) -> float:
    """What a random set's change must be multiplied by to have the target arm's total norm (Frobenius, over all rows and positions steered).

    Raises InputError when the random set changes nothing: then there is no factor, and the set is no control.
    """
    if not (np.isfinite(target_norm) and np.isfinite(random_norm) and target_norm >= 0):
        raise InputError(f"norms {target_norm} and {random_norm} must be finite and not negative")
    if random_norm <= 0:
        raise InputError("the random set changes nothing on these rows (norm 0), so it cannot be scaled to the target arm; draw it from latents that fire here")
    return float(target_norm / random_norm)
