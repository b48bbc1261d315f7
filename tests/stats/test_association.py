"""Association of words and latents with gender, alone and within strata."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.stats.association import normalised_pmi, pmi, stratified_auroc, word_gender_gap
from saebias.stats.effects import auroc_columns


def test_pmi_is_zero_for_independent_counts_and_one_bit_for_doubled_chance() -> None:
    np.testing.assert_allclose(pmi(np.outer([1, 3], [2, 5])), 0, atol=1e-12)
    assert pmi([[2, 0], [0, 2]])[0, 0] == pytest.approx(1.0)
    assert pmi([[2, 0], [0, 2]])[0, 1] == -np.inf


def test_normalised_pmi_runs_from_minus_one_to_one() -> None:
    value_AB = normalised_pmi([[3, 0], [0, 5]])
    np.testing.assert_allclose(value_AB, [[1, -1], [-1, 1]])
    np.testing.assert_allclose(normalised_pmi(np.outer([1, 2], [1, 4])), 0, atol=1e-12)


def test_a_word_that_never_occurs_has_no_pmi() -> None:
    assert np.isnan(pmi([[0, 0], [1, 2]])[0]).all()
    gap = word_gender_gap(np.zeros((10, 1)), np.arange(10) % 2, np.arange(10), seed=0, n_draws=20)
    assert np.isnan(gap.value_A[0]) and np.isnan(gap.low_A[0])


def test_planted_word_gaps_are_covered_and_words_of_both_stay_at_zero() -> None:
    covered = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        clusters_N = np.repeat(np.arange(120), 3)
        female_N = clusters_N % 2 == 0
        chance_NA = np.stack([np.where(female_N, 0.4, 0.2), np.full(360, 0.3)], axis=1)
        words_NA = rng.random((120, 2))[clusters_N] < chance_NA
        gap = word_gender_gap(words_NA, female_N, clusters_N, seed=seed, n_draws=300)
        covered.append((gap.low_A <= [1.0, 0.0]) & (gap.high_A >= [1.0, 0.0]))
    assert ((np.mean(covered, axis=0) >= 0.89) & (np.mean(covered, axis=0) <= 0.995)).all()


def test_a_latent_that_knows_only_the_context_has_no_association_within_contexts() -> None:
    rng = np.random.default_rng(0)
    context_N = np.repeat(np.arange(4), 100)
    y_N = rng.random(400) < np.array([0.1, 0.3, 0.7, 0.9])[context_N]
    x_NF = np.stack([context_N + 0.1 * rng.normal(size=400), context_N + y_N + 0.5 * rng.normal(size=400)], axis=1)
    assert auroc_columns(x_NF, y_N)[0] > 0.8
    value_F, low_F, high_F = stratified_auroc(x_NF, y_N, context_N, np.arange(400))
    assert low_F[0] <= 0.5 <= high_F[0] and low_F[1] > 0.8 and (value_F < high_F).all()


def test_one_stratum_is_the_plain_auroc_and_strata_pool_their_pairs() -> None:
    rng = np.random.default_rng(1)
    x_NF, y_N, strata_N = rng.integers(0, 4, (60, 3)).astype(float), rng.random(60) < 0.5, np.arange(60) % 3
    np.testing.assert_allclose(stratified_auroc(x_NF, y_N, np.zeros(60), np.arange(60))[0], auroc_columns(x_NF, y_N))
    won = np.zeros(3)
    pairs = 0
    for stratum in range(3):
        inside = strata_N == stratum
        difference = x_NF[inside & y_N][:, None] - x_NF[inside & ~y_N][None]
        won += ((difference > 0) + 0.5 * (difference == 0)).sum(axis=(0, 1))
        pairs += difference.shape[0] * difference.shape[1]
    np.testing.assert_allclose(stratified_auroc(x_NF, y_N, strata_N, np.arange(60))[0], won / pairs)


def test_stratified_intervals_cover_with_near_duplicates() -> None:
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        clusters_N = np.repeat(np.arange(80), 3)
        strata_N, y_N = clusters_N // 20, clusters_N % 2
        x_NF = strata_N[:, None] + rng.normal(size=(80, 20))[clusters_N] + 0.3 * rng.normal(size=(240, 20))
        _, low_F, high_F = stratified_auroc(x_NF, y_N, strata_N, clusters_N)
        covered.append((low_F <= 0.5) & (high_F >= 0.5))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_strata_of_one_gender_each_are_refused() -> None:
    with pytest.raises(InputError, match="none of 2 strata"):
        stratified_auroc(np.ones((4, 1)), [0, 0, 1, 1], [0, 0, 1, 1], np.arange(4))
