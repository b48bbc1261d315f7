"""Laws of verifying cheap scores of latents against exact effects."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.features.verification import agreements, shortlist


def test_the_best_and_a_draw_from_the_live_rest_are_verified() -> None:
    rng = np.random.default_rng(3)
    score_F, live_F = rng.normal(size=200), rng.random(200) < 0.5
    found = shortlist(score_F, live_F, 10, 30, seed=5)
    assert len(set(found.latent_K.tolist())) == 40
    assert live_F[found.latent_K].all()
    best = sorted(np.flatnonzero(live_F), key=lambda latent: -abs(score_F[latent]))[:10]
    assert found.latent_K[found.is_top_K].tolist() == best


def test_the_draw_does_not_look_at_the_scores_of_the_rest() -> None:
    rng = np.random.default_rng(4)
    score_F = rng.normal(size=100)
    tops = set(shortlist(score_F, np.ones(100), 5, 20, seed=1).latent_K[:5].tolist())
    other_F = np.where(np.isin(np.arange(100), list(tops)), score_F, rng.normal(size=100) * 0.01)
    assert shortlist(score_F, np.ones(100), 5, 20, seed=1).latent_K.tolist() == shortlist(other_F, np.ones(100), 5, 20, seed=1).latent_K.tolist()


def test_a_short_dictionary_is_verified_whole() -> None:
    found = shortlist(np.arange(1.0, 8.0), np.ones(7), 5, 50, seed=1)
    assert sorted(found.latent_K.tolist()) == list(range(7))


def test_a_score_that_is_the_effect_agrees_wholly_and_noise_does_not() -> None:
    rng = np.random.default_rng(6)
    exact_K = rng.normal(size=300)
    found = {row.method: row for row in agreements({"itself": exact_K * 3, "opposite": -exact_K, "noise": rng.normal(size=300)}, exact_K, 20)}
    assert found["itself"].rank_correlation == pytest.approx(1)
    # Sizes are compared: a score with the other sign finds the same latents.
    assert found["opposite"].recall == found["itself"].recall == 1
    assert found["noise"].low < 0 < found["noise"].high
    assert found["noise"].recall < 0.25


def test_recall_counts_the_largest_effects_that_the_score_finds() -> None:
    exact_K = np.array([10.0, 9, 8, 7, 1, 1.1, 1.2, 1.3])
    score_K = np.array([10.0, 9, 0.1, 0.2, 5, 0.3, 0.4, 4])
    [row] = agreements({"score": score_K}, exact_K, 4)
    assert row.recall == 0.5


def test_a_constant_score_has_no_rank_correlation_and_says_so() -> None:
    [row] = agreements({"flat": np.ones(30)}, np.arange(30.0), 5)
    assert np.isnan(row.rank_correlation)
    assert "constant" in row.note


def test_scores_that_are_all_zero_have_no_recall() -> None:
    [row] = agreements({"zero": np.zeros(30)}, np.arange(30.0), 5)
    assert np.isnan(row.recall)
    assert "0 latents have a score" in row.note


def test_fewer_latents_than_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match="3 verified latents for recall at 5"):
        agreements({"score": np.ones(3)}, np.ones(3), 5)
