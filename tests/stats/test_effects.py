"""AUROC, effect sizes and permutation p: exact with ties, invariant, right under the null."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import roc_auc_score

from saebias.errors import InputError
from saebias.stats.effects import (
    auroc,
    auroc_columns,
    auroc_intervals,
    cluster_permutation_auroc,
    cohens_d,
    mean_difference,
    permutation_p,
    rank_columns,
)


def sparse_codes(n_rows: int, n_latents: int, rng: np.random.Generator, *, firing: float = 0.1) -> np.ndarray:
    return np.where(rng.random((n_rows, n_latents)) < firing, rng.exponential(size=(n_rows, n_latents)), 0.0)


columns = hnp.arrays(np.float64, st.tuples(st.integers(4, 30), st.integers(1, 4)), elements=st.integers(-3, 3).map(float))


@settings(max_examples=30, deadline=None)
@given(columns)
def test_auroc_is_the_share_of_pairs_won_with_ties_half(x_NF: np.ndarray) -> None:
    y_N = np.arange(len(x_NF)) % 2 == 0
    wins = x_NF[y_N][:, None] - x_NF[~y_N][None]
    np.testing.assert_allclose(auroc_columns(x_NF, y_N), ((wins > 0) + 0.5 * (wins == 0)).mean(axis=(0, 1)), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(columns, st.floats(0.1, 5), st.floats(-3, 3))
def test_auroc_ignores_monotone_maps_and_mirrors_with_the_labels(x_NF: np.ndarray, scale: float, shift: float) -> None:
    y_N = np.arange(len(x_NF)) % 2 == 0
    value_F = auroc_columns(x_NF, y_N)
    np.testing.assert_allclose(auroc_columns(np.exp(scale * x_NF) + shift, y_N), value_F, atol=1e-9)
    np.testing.assert_allclose(auroc_columns(-x_NF, y_N), 1 - value_F, atol=1e-12)
    np.testing.assert_allclose(auroc_columns(x_NF, ~y_N), 1 - value_F, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, (25, 6), elements=st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 2.0])))
def test_ranking_only_the_active_entries_equals_ranking_all(x_NF: np.ndarray) -> None:
    np.testing.assert_allclose(rank_columns(x_NF), stats.rankdata(x_NF, axis=0))


def test_auroc_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x_N, y_N = rng.integers(0, 5, 200), rng.random(200) < 0.3
    assert auroc(x_N, y_N) == pytest.approx(roc_auc_score(y_N, x_N))


def test_a_dead_latent_has_auroc_one_half_and_p_one() -> None:
    rng = np.random.default_rng(1)
    codes_NF = sparse_codes(60, 3, rng)
    codes_NF[:, 1] = 0
    y_N = np.arange(60) % 2 == 0
    assert auroc_columns(codes_NF, y_N)[1] == 0.5
    assert cluster_permutation_auroc(codes_NF, y_N, np.arange(60), 199, seed=0)[1] == 1.0


def test_effect_sizes_agree_with_their_textbook_formulas() -> None:
    rng = np.random.default_rng(2)
    x_N, y_N = rng.normal(size=40), np.arange(40) < 15
    a, b = x_N[y_N], x_N[~y_N]
    pooled = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / 38)
    assert mean_difference(x_N[:, None], y_N)[0] == pytest.approx(a.mean() - b.mean())
    assert cohens_d(x_N[:, None], y_N)[0] == pytest.approx((a.mean() - b.mean()) / pooled)


def test_an_effect_size_that_cannot_be_computed_is_nan_and_not_zero() -> None:
    assert np.isnan(cohens_d(np.stack([np.zeros(10), np.full(10, 0.1)], axis=1), np.arange(10) % 2)).all()


def test_permutation_p_is_uniform_under_the_null_with_near_duplicates() -> None:
    rng = np.random.default_rng(3)
    clusters_N = np.repeat(np.arange(40), 5)
    codes_NF = np.maximum(0, rng.normal(size=(40, 1500))[clusters_N] + 0.2 * rng.normal(size=(200, 1500)) - 0.8)
    p_F = cluster_permutation_auroc(codes_NF, clusters_N % 2, clusters_N, 999, seed=1)
    live_F = codes_NF.any(axis=0)
    for level in (0.01, 0.05, 0.2):
        assert (p_F[live_F] <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / live_F.sum()) + 0.002)


def test_permuting_rows_instead_of_clusters_would_find_gender_in_noise() -> None:
    rng = np.random.default_rng(4)
    clusters_N = np.repeat(np.arange(40), 5)
    noise_NF = rng.normal(size=(40, 400))[clusters_N] + 0.2 * rng.normal(size=(200, 400))
    assert (cluster_permutation_auroc(noise_NF, clusters_N % 2, np.arange(200), 499, seed=1) <= 0.05).mean() > 0.25


def test_permutation_p_equals_the_plain_loop_over_permutations() -> None:
    rng = np.random.default_rng(5)
    clusters_N = np.repeat(np.arange(12), rng.integers(1, 4, 12))
    y_N, codes_NF = clusters_N % 3 == 0, sparse_codes(len(clusters_N), 5, rng, firing=0.5)
    p_F = cluster_permutation_auroc(codes_NF, y_N, clusters_N, 300, seed=7)
    labels_G = np.array([y_N[clusters_N == cluster][0] for cluster in range(12)])
    drawn = np.random.default_rng(7).permuted(np.broadcast_to(labels_G, (300, 12)), axis=1)
    observed_F = np.abs(auroc_columns(codes_NF, y_N) - 0.5)
    count_F = sum(np.abs(auroc_columns(codes_NF, labels[clusters_N]) - 0.5) >= observed_F - 1e-7 for labels in drawn)
    np.testing.assert_allclose(p_F, (1 + count_F) / 301)


def test_the_smallest_p_is_one_over_r_plus_one() -> None:
    y_N = np.arange(80) % 2
    assert cluster_permutation_auroc(y_N[:, None] + 0.0, y_N, np.arange(80), 499, seed=0)[0] == pytest.approx(1 / 500)


def test_strata_take_the_context_out_of_the_null() -> None:
    rng = np.random.default_rng(6)
    context_N = np.repeat(np.arange(2), 100)
    # Women are commoner in context 1, and the latent knows the context only.
    y_N = rng.random(200) < np.where(context_N == 1, 0.8, 0.2)
    latent_NF = context_N[:, None] + 0.1 * rng.normal(size=(200, 1))
    free = cluster_permutation_auroc(latent_NF, y_N, np.arange(200), 499, seed=0)[0]
    within = cluster_permutation_auroc(latent_NF, y_N, np.arange(200), 499, seed=0, strata=context_N)[0]
    assert free < 0.01 < 0.05 < within


def test_a_cluster_with_both_genders_is_refused() -> None:
    with pytest.raises(InputError, match="1 clusters hold rows of both groups"):
        cluster_permutation_auroc(np.eye(4), [0, 1, 0, 1], ["a", "a", "b", "c"], 10, seed=0)


def test_auroc_intervals_cover_with_near_duplicates() -> None:
    truth = stats.norm.cdf(0.8 / np.sqrt(2 * (1 + 0.3**2)))
    covered = []
    for simulation in range(30):
        rng = np.random.default_rng(simulation)
        clusters_N = np.repeat(np.arange(60), 4)
        y_N = clusters_N % 2 == 1
        x_NF = 0.8 * y_N[:, None] + rng.normal(size=(60, 20))[clusters_N] + 0.3 * rng.normal(size=(240, 20))
        _, low_F, high_F = auroc_intervals(x_NF, y_N, clusters_N)
        covered.append((low_F <= truth) & (truth <= high_F))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_perfect_separation_has_a_lower_end_below_one_that_rises_with_clusters() -> None:
    ends = []
    for n_clusters in (10, 100):
        y_N = np.arange(n_clusters) % 2
        _, low_F, high_F = auroc_intervals(y_N[:, None] + 0.0, y_N, np.arange(n_clusters))
        ends.append(low_F[0])
        assert high_F[0] == 1.0
    assert 0.3 < ends[0] < ends[1] < 1.0


def test_arm_permutation_p_counts_as_published_and_never_falls_below_its_floor() -> None:
    drawn_R = np.arange(-99, 100) / 100
    assert permutation_p(5.0, drawn_R) == pytest.approx(1 / 200)
    assert permutation_p(0.0, drawn_R) == 1.0
    assert permutation_p(-0.9, drawn_R) == permutation_p(0.9, drawn_R) == pytest.approx((1 + 20) / 200)


def test_nine_thousand_permutations_of_two_thousand_latents_take_seconds() -> None:
    rng = np.random.default_rng(8)
    clusters_N = np.repeat(np.arange(200), 4)
    codes_NF = sparse_codes(800, 2048, rng, firing=0.03)
    start = time.process_time()
    cluster_permutation_auroc(codes_NF, clusters_N % 2, clusters_N, 9999, seed=0)
    assert time.process_time() - start < 8


def test_labels_of_one_class_are_an_error() -> None:
    with pytest.raises(InputError, match="needs both groups"):
        auroc([1.0, 2.0], [1, 1])
