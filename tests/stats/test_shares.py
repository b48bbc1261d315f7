"""Shares with intervals that hold near 0 and 1, where a bootstrap collapses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.errors import InputError
from saebias.stats.resampling import Estimate
from saebias.stats.shares import difference_of_shares, share_estimate, wilson


def beta_hits(share: float, n_clusters: int, per_cluster: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    clusters_N = np.repeat(np.arange(n_clusters), per_cluster)
    chance_G = rng.beta(4 * share, 4 * (1 - share), size=n_clusters)
    return (rng.random(len(clusters_N)) < chance_G[clusters_N]).astype(float), clusters_N


@pytest.mark.parametrize("share", [0.03, 0.3, 0.97])
def test_share_intervals_cover_with_near_duplicates_and_extreme_shares(share: float) -> None:
    estimates = [share_estimate(*beta_hits(share, 60, 4, np.random.default_rng(seed))) for seed in range(400)]
    assert 0.90 <= np.mean([estimate.covers(share) for estimate in estimates]) <= 0.99


def test_no_hit_among_many_leaves_an_upper_end_above_zero() -> None:
    estimate = share_estimate(np.zeros(300), np.repeat(np.arange(30), 10))
    assert estimate.value == 0 == estimate.low
    assert 0.05 < estimate.high < 0.15


def test_wilson_agrees_with_the_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263 gives .2553 to .3662.
    low, high = wilson(81 / 263, 263, 1.959964)
    assert (float(low), float(high)) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_differences_of_shares_cover() -> None:
    covered = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        a, b = share_estimate(*beta_hits(0.05, 50, 4, rng)), share_estimate(*beta_hits(0.02, 50, 4, rng))
        covered.append(difference_of_shares(a, b).covers(0.03))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_newcombe_agrees_with_the_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II: 56/70 - 48/80, method 10, gives .0524 to .3339.
    def independent(hits: int, n: int) -> tuple[float, float]:
        low, high = wilson(hits / n, n, 1.959964)
        return float(low), float(high)

    estimate = difference_of_shares(Estimate(56 / 70, *independent(56, 70), 70, 70), Estimate(48 / 80, *independent(48, 80), 80, 80))
    assert (estimate.low, estimate.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=4, max_size=60), st.integers(2, 4))
def test_the_interval_holds_the_value_and_stays_in_zero_to_one(hits: list[bool], n_clusters: int) -> None:
    estimate = share_estimate(hits, np.arange(len(hits)) % n_clusters)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_probabilities_that_agree_leave_no_doubt() -> None:
    estimate = share_estimate(np.full(20, 0.25), np.arange(20))
    assert estimate.low == estimate.value == estimate.high == 0.25


def test_a_hit_of_two_is_refused() -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        share_estimate([0, 2], ["a", "b"])
