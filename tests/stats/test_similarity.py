"""Similarity that is about 0 for noise and 1 for what is the same up to rotation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.stats.similarity import (
    biased_linear_cka,
    direction_cosine,
    effective_rank,
    linear_cka,
    linear_cka_of_pairings,
    participation_ratio,
    procrustes_r2,
    stable_rank,
)


def rotation(dimensions: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0]


def test_independent_noise_looks_alike_to_biased_cka_only() -> None:
    rng = np.random.default_rng(0)
    x_ND, y_ND = rng.normal(size=(2, 200, 2048))
    assert biased_linear_cka(x_ND, y_ND) == pytest.approx(0.91, abs=0.01)
    assert abs(linear_cka(x_ND, y_ND)) < 0.02


def test_debiased_cka_is_one_for_rotated_scaled_shifted_copies() -> None:
    rng = np.random.default_rng(1)
    x_ND = rng.normal(size=(50, 12))
    assert linear_cka(x_ND, 3 * x_ND @ rotation(12, rng) + 5) == pytest.approx(1)


def test_debiased_cka_equals_the_matrix_formula_of_song_and_others() -> None:
    rng = np.random.default_rng(2)
    x_ND, y_NE = rng.normal(size=(30, 4)), rng.normal(size=(30, 50))
    y_NE[:, :4] += x_ND

    def hsic(a_NN: np.ndarray, b_NN: np.ndarray) -> float:
        a_NN, b_NN = a_NN - np.diag(np.diag(a_NN)), b_NN - np.diag(np.diag(b_NN))
        n, one = len(a_NN), np.ones(len(a_NN))
        total = np.trace(a_NN @ b_NN) + (one @ a_NN @ one) * (one @ b_NN @ one) / ((n - 1) * (n - 2)) - 2 * (one @ a_NN @ b_NN @ one) / (n - 2)
        return total / (n * (n - 3))

    k_NN, l_NN = x_ND @ x_ND.T, y_NE @ y_NE.T
    assert linear_cka(x_ND, y_NE) == pytest.approx(hsic(k_NN, l_NN) / np.sqrt(hsic(k_NN, k_NN) * hsic(l_NN, l_NN)))


def test_broken_pairings_in_one_go_are_those_one_by_one_and_near_zero() -> None:
    rng = np.random.default_rng(7)
    x_ND = rng.normal(size=(150, 8))
    y_ND = x_ND @ rng.normal(size=(8, 5))
    orders_RN = np.stack([rng.permutation(150) for _ in range(10)])
    values_R = linear_cka_of_pairings(x_ND, y_ND, orders_RN)
    np.testing.assert_allclose(values_R, [linear_cka(x_ND, y_ND[order_N]) for order_N in orders_RN])
    assert abs(values_R.mean()) < 0.02 < linear_cka(x_ND, y_ND)


def test_procrustes_scores_rotations_at_one_and_noise_at_or_below_zero() -> None:
    rng = np.random.default_rng(3)
    x_ND = rng.normal(size=(120, 10))
    clusters_N = np.arange(120) // 2
    assert procrustes_r2(x_ND, 2 * x_ND @ rotation(10, rng) + 1, clusters_N, seed=0) == pytest.approx(1)
    assert procrustes_r2(x_ND, rng.normal(size=(120, 10)), clusters_N, seed=0) < 0.05


def test_procrustes_scored_where_it_was_fitted_would_find_structure_in_noise() -> None:
    rng = np.random.default_rng(4)
    x_ND, y_ND = rng.normal(size=(40, 60)), rng.normal(size=(40, 60))
    left, singular, right = np.linalg.svd(x_ND.T @ y_ND)
    in_sample = 1 - ((y_ND - singular.sum() / (x_ND**2).sum() * x_ND @ left @ right) ** 2).sum() / (y_ND**2).sum()
    assert in_sample > 0.4 > 0.05 > procrustes_r2(x_ND, y_ND, np.arange(40), seed=0)


def two_languages(cosine: float, noise: float, rng: np.random.Generator, *, shared: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x_a_ND, x_b_ND, y_N, clusters_N) whose true gender directions have that cosine; `shared` noise of an image is the same in both languages."""
    clusters_N = np.repeat(np.arange(100), 3)
    y_N = clusters_N % 2
    direction_a = np.eye(40)[0]
    direction_b = cosine * direction_a + np.sqrt(1 - cosine**2) * np.eye(40)[1]
    image_ND = shared * rng.normal(size=(100, 40))[clusters_N]
    x_a, x_b = (np.outer(y_N, direction) + image_ND + noise * rng.normal(size=(300, 40)) for direction in (direction_a, direction_b))
    return x_a, x_b, y_N, clusters_N


def test_the_corrected_cosine_recovers_the_planted_one_that_noise_hides() -> None:
    raw, corrected = [], []
    for seed in range(20):
        x_a, x_b, y_N, clusters_N = two_languages(0.8, 1.0, np.random.default_rng(seed))
        found = direction_cosine(x_a, y_N, x_b, y_N, clusters_N, seed=seed, n_splits=20, n_permutations=20)
        raw.append(found.cosine)
        corrected.append(found.corrected)
    assert np.mean(corrected) == pytest.approx(0.8, abs=0.06)
    assert np.mean(raw) < 0.72


def test_noise_that_both_languages_share_does_not_pass_for_a_shared_direction() -> None:
    raw, corrected = [], []
    for seed in range(20):
        x_a, x_b, y_N, clusters_N = two_languages(0.0, 0.3, np.random.default_rng(seed), shared=0.7)
        found = direction_cosine(x_a, y_N, x_b, y_N, clusters_N, seed=seed, n_splits=20, n_permutations=20)
        raw.append(found.cosine)
        corrected.append(found.corrected)
    assert np.mean(raw) > 0.25
    assert abs(np.mean(corrected)) < 0.12


def test_directions_of_permuted_labels_stay_below_the_floor() -> None:
    below = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x_a, x_b, _, clusters_N = two_languages(0.9, 0.5, rng, shared=0.5)
        shuffled_N = rng.permutation(np.arange(100) % 2)[clusters_N]
        found = direction_cosine(x_a, shuffled_N, x_b, shuffled_N, clusters_N, seed=seed, n_splits=2, n_permutations=59)
        below.append(abs(found.cosine) <= found.floor)
    assert np.mean(below) >= 0.88


def anisotropic(cosine: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two languages whose pictures, each language its own, vary along one axis that they share; gender on two further axes at the given cosine."""
    clusters_N, y_N = np.arange(200), np.arange(200) % 2 == 0
    axes = np.eye(30)
    of_b = cosine * axes[1] + np.sqrt(1 - cosine**2) * axes[2]
    x_a, x_b = (4 * rng.normal(size=(200, 1)) * axes[0] + np.outer(np.where(y_N, 1, -1), of) + 0.1 * rng.normal(size=(200, 30)) for of in (axes[1], of_b))
    return x_a, x_b, y_N, clusters_N


def test_where_few_axes_carry_the_variance_unrelated_contrasts_agree_and_the_floor_of_the_corrected_cosine_says_so() -> None:
    for seed in range(5):
        x_a, x_b, y_N, clusters_N = anisotropic(0.5, np.random.default_rng(seed))
        found = direction_cosine(x_a, y_N, x_b, y_N, clusters_N, seed=seed, n_splits=10, n_permutations=59)
        # Gender agrees at .5, but in this space any two contrasts do.
        assert found.unrelated > 0.9 and found.corrected < found.unrelated and found.p > 0.2
    x_a, x_b, y_N, clusters_N = two_languages(0.8, 0.3, np.random.default_rng(1))
    found = direction_cosine(x_a, y_N, x_b, y_N, clusters_N, seed=1, n_splits=10, n_permutations=59)
    assert found.corrected > found.unrelated and found.p == 1 / 60


def test_noise_that_both_languages_share_raises_the_floor_of_the_raw_cosine_and_not_that_of_unrelated_contrasts() -> None:
    x_a, x_b, y_N, clusters_N = two_languages(0.0, 0.3, np.random.default_rng(2), shared=0.7)
    found = direction_cosine(x_a, y_N, x_b, y_N, clusters_N, seed=2, n_splits=10, n_permutations=59)
    assert found.floor > 0.6 > found.unrelated


def test_a_label_that_varies_within_a_cluster_is_refused() -> None:
    x_ND = np.random.default_rng(5).normal(size=(8, 3))
    with pytest.raises(InputError, match="both groups"):
        direction_cosine(x_ND, np.arange(8) % 2, x_ND, np.arange(8) % 2, np.arange(8) // 2, seed=0)


@pytest.mark.parametrize("measure", [participation_ratio, stable_rank, effective_rank])
def test_ranks_of_a_white_cloud_are_its_dimension_and_of_a_line_one(measure: Callable) -> None:
    rng = np.random.default_rng(6)
    white_ND = rotation(400, rng)[:, :5] * 20
    white_ND = np.linalg.qr(white_ND - white_ND.mean(axis=0))[0]
    assert measure(white_ND) == pytest.approx(5, rel=0.01)
    assert measure(np.outer(rng.normal(size=400), [1.0, 2.0, 3.0])) == pytest.approx(1, abs=1e-3)
    assert measure(white_ND + 100) == pytest.approx(5, rel=0.01)
