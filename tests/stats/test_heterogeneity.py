"""The spread over contexts: silent on a null, unbiased, and with intervals that cover, near-duplicates and all."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.stats.heterogeneity import group_means, group_ratios, sampling_variances, spread_change, spread_of_groups


def contexts_with_spread(
    spread: float, rng: np.random.Generator, *, n_groups: int = 12, clusters: int = 8, rows: int = 2, noise: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values_N, groups_N, clusters_N) with exactly that standard deviation of the true group means."""
    means_O = rng.normal(size=n_groups)
    means_O = 0.5 + spread * (means_O - means_O.mean()) / means_O.std(ddof=1)
    groups_N = np.repeat(np.arange(n_groups), clusters * rows)
    clusters_N = np.repeat(np.arange(n_groups * clusters), rows)
    shared_G = rng.normal(size=n_groups * clusters)
    return means_O[groups_N] + noise * (shared_G[clusters_N] + 0.5 * rng.normal(size=len(groups_N))), groups_N, clusters_N


def simulate(spread: float, n_simulations: int = 120, **shape: int) -> list:
    return [
        spread_of_groups(*contexts_with_spread(spread, np.random.default_rng(seed), **shape), seed=seed, n_draws=300, n_permutations=59)
        for seed in range(n_simulations)
    ]


def test_equal_groups_give_no_spread() -> None:
    found = simulate(0.0)
    covers_zero = np.mean([one.low == 0 for one in found])
    assert 0.92 <= covers_zero <= 0.995
    assert np.mean([one.variance_low <= 0 <= one.variance_high for one in found]) >= 0.92
    assert np.mean([one.p <= 0.05 for one in found]) <= 0.09


def test_the_corrected_variance_is_unbiased_where_the_plain_one_is_not() -> None:
    for spread in (0.0, 0.05):
        found = simulate(spread, 80)
        error = np.std([one.variance for one in found]) / np.sqrt(len(found))
        assert np.mean([one.variance for one in found]) == pytest.approx(spread**2, abs=3 * error)
    values_N, groups_N, _ = contexts_with_spread(0.0, np.random.default_rng(0))
    plain = np.var([values_N[groups_N == group].mean() for group in range(12)], ddof=1)
    assert plain > 3e-4


@pytest.mark.parametrize(("spread", "clusters"), [(0.04, 8), (0.15, 8), (0.15, 4)])
def test_intervals_of_the_spread_cover_with_near_duplicates(spread: float, clusters: int) -> None:
    found = simulate(spread, clusters=clusters)
    assert 0.90 <= np.mean([one.low <= spread <= one.high for one in found]) <= 0.99
    assert 0.90 <= np.mean([one.variance_low <= spread**2 <= one.variance_high for one in found]) <= 0.99


def test_a_planted_spread_is_found_with_the_smallest_p() -> None:
    found = spread_of_groups(*contexts_with_spread(0.15, np.random.default_rng(1)), seed=0, n_permutations=199)
    assert found.low > 0.1 and found.p == pytest.approx(1 / 200)


def test_spread_is_the_variance_of_means_minus_their_sampling_variance_in_plain_numpy() -> None:
    values_N, groups_N, clusters_N = contexts_with_spread(0.1, np.random.default_rng(2), n_groups=5)
    means, noises = [], []
    for group in range(5):
        inside = groups_N == group
        mean = values_N[inside].mean()
        residuals = [(values_N[inside & (clusters_N == cluster)] - mean).sum() for cluster in np.unique(clusters_N[inside])]
        means.append(mean)
        noises.append(len(residuals) / (len(residuals) - 1) * np.square(residuals).sum() / inside.sum() ** 2)
    found = spread_of_groups(values_N, groups_N, clusters_N, seed=0, n_draws=50)
    assert found.variance == pytest.approx(np.var(means, ddof=1) - np.mean(noises))
    assert found.spread == pytest.approx(np.sqrt(found.variance))
    np.testing.assert_allclose(sampling_variances(values_N, groups_N, clusters_N), noises)


def test_a_constant_added_to_every_row_changes_nothing() -> None:
    values_N, groups_N, clusters_N = contexts_with_spread(0.1, np.random.default_rng(3))
    one, other = (spread_of_groups(values, groups_N, clusters_N, seed=1, n_draws=200) for values in (values_N, values_N + 0.3))
    assert (one.spread, one.low, one.high, one.p) == pytest.approx((other.spread, other.low, other.high, other.p))


def test_a_group_of_one_cluster_is_left_out_by_name() -> None:
    values_N, groups_N, clusters_N = contexts_with_spread(0.1, np.random.default_rng(4))
    names_N = np.array([f"context {group}" for group in groups_N])
    keep_N = (groups_N > 0) | (clusters_N == 0)
    found = spread_of_groups(values_N[keep_N], names_N[keep_N], clusters_N[keep_N], seed=0, n_draws=50)
    assert found.n_groups == 11 and "context 0" in found.note


def test_one_group_has_no_spread_and_says_so() -> None:
    found = spread_of_groups([0.1, 0.2], ["a", "a"], [0, 1], seed=0)
    assert np.isnan(found.spread) and "fewer than two groups" in found.note


def test_draws_of_group_means_have_the_sampling_error_even_with_four_clusters() -> None:
    rng = np.random.default_rng(5)
    drawn, true = [], []
    for _ in range(150):
        values_N, groups_N, clusters_N = contexts_with_spread(0.0, rng, n_groups=3, clusters=4)
        means = group_means(values_N, groups_N, clusters_N, n_draws=200, seed=int(rng.integers(1000)))
        drawn.append(means.draws_RO.var(axis=0).mean())
        true.append(((means.means_O - 0.5) ** 2).mean())
    assert np.mean(drawn) == pytest.approx(np.mean(true), rel=0.15)


def test_a_group_whose_denominator_is_zero_is_nan() -> None:
    found = group_ratios([1.0, 0.0, 0.0], [1.0, 1.0, 0.0], ["a", "a", "b"], [0, 1, 2], n_draws=10, seed=0)
    assert found.means_O[0] == 0.5 and np.isnan(found.means_O[1])


def test_a_halved_spread_is_seen_as_halved_and_paired_noise_cancels() -> None:
    covered = []
    for seed in range(80):
        values_N, groups_N, clusters_N = contexts_with_spread(0.16, np.random.default_rng(seed))
        true_means_N, _, _ = contexts_with_spread(0.16, np.random.default_rng(seed), noise=0)
        change = spread_change(values_N, values_N - 0.5 * (true_means_N - 0.5), groups_N, clusters_N, seed=seed, n_draws=300)
        assert change.high < 0
        covered.append(change.low <= -0.08 <= change.high)
    assert np.mean(covered) >= 0.90


def test_no_change_is_exactly_none() -> None:
    values_N, groups_N, clusters_N = contexts_with_spread(0.1, np.random.default_rng(6))
    change = spread_change(values_N, values_N, groups_N, clusters_N, seed=0, n_draws=100)
    assert change.low == change.change == change.high == 0
