"""Laws of the correction for noise: a true correlation of 1 is scored 1 at any noise and any cluster size, half of it half, and noise alone is not scored."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from saebias.errors import InputError
from saebias.mechanistic.reliability import corrected_correlations

K = 60


def scored(size: int | list[int], noise: float, truth: float, *, n_clusters: int = 300, picture: float = 0.0, seed: int = 1) -> np.ndarray:
    """Scores of K pairs whose cluster values correlate by `truth`; images add noise of their own, and `picture` that both languages share."""
    rng = np.random.default_rng([seed, 3])
    sizes = np.resize(size, n_clusters)
    cluster_N = np.repeat(np.arange(n_clusters), sizes)
    first_GK = rng.standard_normal((n_clusters, K))
    second_GK = truth * first_GK + np.sqrt(1 - truth**2) * rng.standard_normal((n_clusters, K))
    shared_NK = picture * rng.standard_normal((len(cluster_N), K))
    sides = [10 + of_GK[cluster_N] + shared_NK + noise * rng.standard_normal((len(cluster_N), K)) for of_GK in (first_GK, second_GK)]
    return corrected_correlations(*(sparse.csr_array(side) for side in sides), cluster_N)


@pytest.mark.parametrize("size", [2, 3, 8, [2, 3, 9]], ids=str)
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0])
def test_the_same_quantity_is_scored_one_at_any_noise_and_any_cluster_size(size: int | list[int], noise: float) -> None:
    assert np.nanmedian(scored(size, noise, 1.0)) == pytest.approx(1.0, abs=0.05 if noise < 2 else 0.12)


@pytest.mark.parametrize("size", [2, 8])
def test_half_a_correlation_is_scored_half_whatever_the_noise(size: int) -> None:
    for noise in (0.0, 1.0):
        assert np.nanmedian(scored(size, noise, 0.5)) == pytest.approx(0.5, abs=0.04)


def test_what_two_languages_share_of_one_picture_does_not_raise_the_score_of_its_cluster() -> None:
    assert np.nanmedian(scored(4, 0.5, 0.0, picture=1.5)) == pytest.approx(0.0, abs=0.05)


def test_noise_alone_has_no_score() -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(100), 4)
    found = corrected_correlations(*(sparse.csr_array(rng.standard_normal((400, K))) for _ in range(2)), clusters)
    assert np.isnan(found).mean() >= 0.85


def test_a_constant_latent_and_clusters_of_one_picture_have_no_score() -> None:
    rng, clusters = np.random.default_rng(5), np.repeat(np.arange(30), 3)
    varied = sparse.csr_array(rng.standard_normal((30, 2))[clusters])
    assert np.isnan(corrected_correlations(varied, sparse.csr_array(np.full((90, 2), 3.0)), clusters)).all()
    assert np.isnan(corrected_correlations(varied, varied, np.arange(90))).all()
    np.testing.assert_allclose(corrected_correlations(varied, varied, clusters), 1.0)


def test_the_covariance_is_that_of_a_few_lines_of_numpy() -> None:
    rng, clusters = np.random.default_rng(7), np.repeat(np.arange(8), [2, 3, 2, 4, 2, 5, 1, 3])
    x, y = rng.standard_normal(8)[clusters] + rng.random(22) + 5, rng.standard_normal(8)[clusters] + rng.random(22)
    y = y + x

    def between(a: np.ndarray, b: np.ndarray) -> float:
        kept = [g for g in range(8) if (clusters == g).sum() > 1]
        within = np.mean([np.mean([a[i] * b[j] for i in np.flatnonzero(clusters == g) for j in np.flatnonzero(clusters == g) if i != j]) for g in kept])
        return within - np.mean([a[clusters == g].mean() * b[clusters == h].mean() for g in kept for h in kept if g != h])

    found = corrected_correlations(sparse.csr_array(x[:, None]), sparse.csr_array(y[:, None]), clusters, level=0.0)
    assert found[0] == pytest.approx(between(x, y) / np.sqrt(between(x, x) * between(y, y)), rel=1e-9)


def test_sides_of_different_length_are_named() -> None:
    with pytest.raises(InputError, match="row counts differ"):
        corrected_correlations(sparse.csr_array(np.ones((4, 1))), sparse.csr_array(np.ones((5, 1))), np.arange(4))
