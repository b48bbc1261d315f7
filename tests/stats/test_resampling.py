"""The cluster bootstrap: weights are multiplicities, intervals cover, near-duplicates count once."""

from __future__ import annotations

import time

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.stats.resampling import (
    bootstrap_counts,
    bootstrap_sums,
    cluster_bootstrap,
    cluster_sums,
    crossed_bootstrap,
    interval_of_draws,
    mean_statistic,
    paired_difference,
    two_way_bootstrap,
)
from tests.stats.clustered import clustered_noise


def test_every_draw_holds_as_many_clusters_as_there_are() -> None:
    counts_RG = bootstrap_counts(np.repeat(["a", "b", "c"], 4), 500, seed=1)
    assert counts_RG.shape == (500, 3)
    assert (counts_RG.sum(axis=1) == 3).all()
    assert abs(counts_RG.mean() - 1) < 0.01


def test_strata_keep_their_number_of_clusters_in_every_draw() -> None:
    clusters, strata = np.arange(12), np.repeat(["cook", "nurse", "pilot"], [2, 4, 6])
    counts_RG = bootstrap_counts(clusters, 300, seed=2, strata=strata)
    for stratum, size in (("cook", 2), ("nurse", 4), ("pilot", 6)):
        assert (counts_RG[:, strata == stratum].sum(axis=1) == size).all()


def test_a_cluster_in_two_strata_is_refused() -> None:
    with pytest.raises(InputError, match="two strata"):
        bootstrap_counts(["a", "a", "b"], 10, seed=0, strata=["x", "y", "y"])


def test_a_draw_is_the_plain_resampling_of_whole_clusters() -> None:
    values_N, clusters_N = clustered_noise(7, 3, np.random.default_rng(0))
    counts_RG = bootstrap_counts(clusters_N, 20, seed=5)
    by_sums_R = bootstrap_sums(counts_RG, clusters_N, np.stack([values_N, np.ones_like(values_N)], axis=1))
    for draw, counts_G in enumerate(counts_RG.astype(int)):
        rows = np.concatenate([np.flatnonzero(clusters_N == cluster) for cluster in np.repeat(np.arange(7), counts_G)])
        assert by_sums_R[draw, 0] / by_sums_R[draw, 1] == pytest.approx(values_N[rows].mean())


def test_cluster_sums_do_not_depend_on_the_order_of_rows() -> None:
    values_N, clusters_N = clustered_noise(9, 4, np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(len(values_N))
    np.testing.assert_allclose(cluster_sums(clusters_N, values_N[:, None]), cluster_sums(clusters_N[order], values_N[order, None]))


@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
def test_intervals_of_a_mean_cover_the_truth_when_images_have_near_duplicates(kind: str) -> None:
    covered = []
    for simulation in range(300):
        values_N, clusters_N = clustered_noise(40, 4, np.random.default_rng(simulation))
        covered.append(cluster_bootstrap(mean_statistic(values_N), clusters_N, n_draws=400, seed=simulation, kind=kind).covers(0.0))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_treating_near_duplicates_as_independent_would_not_cover() -> None:
    covered = []
    for simulation in range(200):
        values_N, _ = clustered_noise(40, 8, np.random.default_rng(simulation))
        covered.append(cluster_bootstrap(mean_statistic(values_N), np.arange(len(values_N)), n_draws=200, seed=simulation).covers(0.0))
    assert np.mean(covered) < 0.75


def test_copying_every_image_leaves_the_interval_alone_and_does_not_narrow_it() -> None:
    values_N, clusters_N = clustered_noise(50, 2, np.random.default_rng(3))
    once = cluster_bootstrap(mean_statistic(values_N), clusters_N, seed=1)
    thrice = cluster_bootstrap(mean_statistic(np.tile(values_N, 3)), np.tile(clusters_N, 3), seed=1)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.n_rows == 3 * once.n_rows and thrice.n_clusters == once.n_clusters


def test_bca_shifts_a_skewed_statistic_where_the_percentile_interval_misses() -> None:
    hits = {"percentile": 0, "bca": 0}
    for simulation in range(200):
        values_N = np.random.default_rng(simulation).exponential(size=25) ** 2
        for kind in hits:
            hits[kind] += cluster_bootstrap(mean_statistic(values_N), np.arange(25), n_draws=400, seed=simulation, kind=kind).covers(2.0)
    assert hits["bca"] > hits["percentile"]


def test_paired_difference_is_narrower_than_the_unpaired_one() -> None:
    rng = np.random.default_rng(4)
    common_N, clusters_N = clustered_noise(60, 2, rng)
    a_N, b_N = common_N + 0.05 * rng.normal(size=120) + 0.1, common_N
    paired = paired_difference(a_N, b_N, clusters_N, seed=0)
    assert paired.value == pytest.approx(0.1, abs=0.02) and not paired.covers(0.0)
    assert paired.high - paired.low < 0.1


def test_two_way_intervals_cover_when_images_and_random_sets_both_vary() -> None:
    covered = []
    for simulation in range(200):
        rng = np.random.default_rng(simulation)
        image_N, clusters_N = clustered_noise(25, 2, rng)
        values_NK = image_N[:, None] + rng.normal(size=(1, 20)) + 0.3 * rng.normal(size=(50, 20))
        covered.append(two_way_bootstrap(values_NK, clusters_N, n_draws=400, seed=simulation).covers(0.0))
    assert 0.90 <= np.mean(covered) <= 0.995


def test_two_way_equals_the_crossed_bootstrap_of_the_long_table() -> None:
    rng = np.random.default_rng(6)
    values_NK, clusters_N = rng.normal(size=(12, 5)), np.repeat(np.arange(4), 3)
    wide = two_way_bootstrap(values_NK, clusters_N, n_draws=300, seed=9)
    long = crossed_bootstrap(mean_statistic(values_NK.ravel()), np.repeat(clusters_N, 5), np.tile(np.arange(5), 12), n_draws=300, seed=9)
    assert (wide.value, wide.low, wide.high) == pytest.approx((long.value, long.low, long.high))


def test_one_cluster_has_a_value_and_says_why_it_has_no_interval() -> None:
    estimate = cluster_bootstrap(mean_statistic([1.0, 2.0]), ["a", "a"], seed=0)
    assert estimate.value == 1.5 and np.isnan(estimate.low) and "one cluster" in estimate.note


def test_a_statistic_undefined_in_many_draws_gets_no_interval() -> None:
    draws_R = np.where(np.arange(100) < 10, np.nan, 0.5)
    low, _, note = interval_of_draws(0.5, draws_R)
    assert np.isnan(low) and "10%" in note


def test_a_nan_in_the_values_is_an_error_with_its_place() -> None:
    with pytest.raises(InputError, match=r"first at \(1,\)"):
        mean_statistic([1.0, np.nan])


def test_the_same_seed_gives_the_same_interval() -> None:
    values_N, clusters_N = clustered_noise(10, 2, np.random.default_rng(7))
    assert cluster_bootstrap(mean_statistic(values_N), clusters_N, seed=3) == cluster_bootstrap(mean_statistic(values_N), clusters_N, seed=3)


def test_two_thousand_draws_on_four_thousand_rows_take_seconds_at_most() -> None:
    values_N, clusters_N = clustered_noise(2000, 2, np.random.default_rng(8))
    start = time.process_time()
    cluster_bootstrap(mean_statistic(values_N), clusters_N, n_draws=2000, seed=0)
    assert time.process_time() - start < 5
