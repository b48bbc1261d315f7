"""Matched random sets: balanced, different, free of the targets, and refused when balance cannot be reached."""

from __future__ import annotations

import time

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.features.matching import LatentProfile, matched_sets, profile_of, rescale_factor


def profile(rng: np.random.Generator, n_latents: int = 1200) -> LatentProfile:
    rate_F = np.exp(rng.normal(-4, 1.2, n_latents)).clip(1e-4, 0.9)
    rate_F[-100:] = 0
    share_FP = rng.dirichlet([0.5, 0.5, 0.5], n_latents)
    norm_F = 1 + 1e-8 * rng.normal(size=n_latents)
    return LatentProfile(rate_F, np.where(rate_F > 0, np.exp(0.5 * rng.normal(size=n_latents)), 0), norm_F, share_FP, ("image", "prompt", "caption"))


@pytest.fixture(scope="module")
def latents() -> LatentProfile:
    return profile(np.random.default_rng(0))


def often_firing(latents: LatentProfile, k: int) -> np.ndarray:
    return np.argsort(-latents.firing_rate_F)[20 : 20 + 10 * k : 10]


def test_sets_of_unusual_targets_are_balanced_on_every_covariate(latents: LatentProfile) -> None:
    targets_K = often_firing(latents, 12)
    found = matched_sets(latents, targets_K, seed=1)
    assert found.largest_imbalance < 0.1
    assert [row.covariate for row in found.balance] == [
        "log_firing_rate", "log_active_mean", "decoder_norm", "share_image", "share_prompt", "share_caption"
    ]  # fmt: skip


def test_the_balance_printed_is_the_balance_recomputed(latents: LatentProfile) -> None:
    targets_K = often_firing(latents, 8)
    found = matched_sets(latents, targets_K, seed=1)
    log_rate_F = np.log(np.where(latents.firing_rate_F > 0, latents.firing_rate_F, 1))
    expected = (log_rate_F[found.sets_RK].mean() - log_rate_F[targets_K].mean()) / log_rate_F[latents.firing_rate_F > 0].std()
    assert found.balance[0].standardised_difference == pytest.approx(expected)


def test_unmatched_sets_would_not_be_balanced(latents: LatentProfile) -> None:
    targets_K = often_firing(latents, 12)
    log_rate_F = np.log(np.where(latents.firing_rate_F > 0, latents.firing_rate_F, 1))
    live_F = latents.firing_rate_F > 0
    assert (log_rate_F[targets_K].mean() - log_rate_F[live_F].mean()) / log_rate_F[live_F].std() > 0.5


def test_sets_differ_hold_no_target_no_dead_latent_and_no_latent_twice(latents: LatentProfile) -> None:
    targets_K = often_firing(latents, 6)
    sets_RK = matched_sets(latents, targets_K, n_sets=199, seed=2).sets_RK
    assert sets_RK.shape == (199, 6)
    assert len({tuple(sorted(one)) for one in sets_RK.tolist()}) == 199
    assert all(len(set(one)) == 6 for one in sets_RK.tolist())
    assert not np.isin(sets_RK, targets_K).any() and (latents.firing_rate_F[sets_RK] > 0).all()


def test_latents_barred_from_the_pool_are_not_drawn(latents: LatentProfile) -> None:
    live_F = np.random.default_rng(3).random(1200) < 0.6
    targets_K = np.flatnonzero(live_F & (latents.firing_rate_F > 0))[:5]
    assert live_F[matched_sets(latents, targets_K, seed=0, live=live_F).sets_RK].all()


def test_extreme_targets_are_refused_with_the_worst_covariate(latents: LatentProfile) -> None:
    extreme_K = np.argsort(-latents.firing_rate_F)[:16]
    with pytest.raises(InputError, match=r"log_firing_rate stays -\d\.\d\d standard deviations off \(limit 0\.1\)"):
        matched_sets(latents, extreme_K, seed=0)
    assert matched_sets(latents, extreme_K, seed=0, refuse=False).largest_imbalance >= 0.1


def test_one_target_gets_as_many_sets_as_asked_for(latents: LatentProfile) -> None:
    _, values_FC = latents.covariates(np.arange(1100))
    ordinary = int(np.argmin((((values_FC - values_FC.mean(axis=0)) / values_FC.std(axis=0)) ** 2).sum(axis=1)))
    assert len(np.unique(matched_sets(latents, [ordinary], n_sets=199, seed=0).sets_RK)) == 199


def test_a_dictionary_too_small_for_that_many_sets_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than 199 different sets of 1"):
        matched_sets(profile(np.random.default_rng(4), 200), [0], seed=0)


def test_a_dead_target_is_refused_by_number(latents: LatentProfile) -> None:
    with pytest.raises(InputError, match="latent 1150 never fires"):
        matched_sets(latents, [3, 1150], seed=0)


def test_a_target_handed_in_twice_is_refused(latents: LatentProfile) -> None:
    with pytest.raises(InputError, match="2 targets of which 1 differ"):
        matched_sets(latents, [3, 3], seed=0)


def test_the_same_seed_draws_the_same_sets(latents: LatentProfile) -> None:
    targets_K = often_firing(latents, 4)
    one, same, other = (matched_sets(latents, targets_K, seed=seed).sets_RK for seed in (5, 5, 6))
    assert (one == same).all() and (one != other).any()


def test_a_profile_is_what_the_codes_say() -> None:
    codes_NF = np.array([[0.0, 2.0, 0.0], [1.0, 4.0, 0.0], [3.0, 0.0, 0.0], [0.0, 6.0, 0.0]])
    found = profile_of(codes_NF, np.ones(3), np.array(["image", "image", "prompt", "prompt"]))
    assert found.firing_rate_F.tolist() == [0.5, 0.75, 0.0]
    assert found.active_mean_F.tolist() == [2.0, 4.0, 0.0]
    np.testing.assert_allclose(found.kind_share_FP, [[0.5, 0.5], [2 / 3, 1 / 3], [0, 0]])
    assert found.fires_F.tolist() == [True, True, False]


def test_the_rescaled_perturbation_has_the_target_norm() -> None:
    rng = np.random.default_rng(5)
    target_ND, random_ND = rng.normal(size=(2, 10, 4))
    factor = rescale_factor(float(np.linalg.norm(target_ND)), float(np.linalg.norm(random_ND)))
    assert np.linalg.norm(factor * random_ND) == pytest.approx(np.linalg.norm(target_ND))


def test_a_random_set_that_changes_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="changes nothing"):
        rescale_factor(1.0, 0.0)


def test_matching_sixteen_targets_takes_seconds_at_most(latents: LatentProfile) -> None:
    start = time.process_time()
    matched_sets(latents, often_firing(latents, 16), seed=0)
    assert time.process_time() - start < 5
