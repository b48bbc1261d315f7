"""Visible-gender association of latents: found where planted, silent on noise, reported on images that selected nothing."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.features.contrast import contrast, report_rows
from saebias.features.selection import top_latents
from saebias.stats.effects import auroc


def codes_of_images(rng: np.random.Generator, *, planted: int, n_clusters: int = 80, n_latents: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes_NF, y_N, clusters_N): sparse, near-duplicates alike; the first `planted` latents fire more on women, the last ten are dead."""
    clusters_N = np.repeat(np.arange(n_clusters), 4)
    y_N = clusters_N % 2
    drive_NF = rng.normal(size=(n_clusters, n_latents))[clusters_N] + 0.3 * rng.normal(size=(len(clusters_N), n_latents)) - 1.2
    drive_NF[:, :planted] += 1.8 * y_N[:, None]
    drive_NF[:, -10:] = -1
    return np.maximum(0, drive_NF), y_N, clusters_N


def test_planted_latents_are_found_and_hold_on_the_report_split() -> None:
    rng = np.random.default_rng(0)
    found = contrast(*codes_of_images(rng, planted=12), seed=0, n_permutations=1999)
    assert set(np.flatnonzero(found.q_F <= 0.05)) >= set(range(12))
    assert (found.q_F[12:] <= 0.05).mean() < 0.02
    chosen = top_latents(found.auroc_F - 0.5, 12, found.live_F)
    assert set(chosen) == set(range(12))
    for row in report_rows(found, chosen, *codes_of_images(rng, planted=12)):
        assert row.auroc_low > 0.5 and row.mean_difference_report > 0 and row.q <= 0.05


def test_the_best_of_pure_noise_is_impressive_where_selected_and_chance_where_reported() -> None:
    rng = np.random.default_rng(1)
    found = contrast(*codes_of_images(rng, planted=0, n_clusters=30), seed=0, n_permutations=199)
    chosen = top_latents(found.auroc_F - 0.5, 20, found.live_F)
    rows = report_rows(found, chosen, *codes_of_images(rng, planted=0, n_clusters=30))
    assert np.mean([abs(row.auroc_select - 0.5) for row in rows]) > 0.1
    signed = [np.sign(row.auroc_select - 0.5) * (row.auroc_report - 0.5) for row in rows]
    assert abs(np.mean(signed)) < 0.05
    assert np.mean([row.auroc_low <= 0.5 <= row.auroc_high for row in rows]) >= 0.85


def test_noise_yields_a_discovery_in_few_dictionaries() -> None:
    discoveries = [
        (contrast(*codes_of_images(np.random.default_rng(seed), planted=0, n_latents=60), seed=seed, n_permutations=1999).q_F <= 0.1).any()
        for seed in range(25)
    ]
    assert np.mean(discoveries) <= 0.25


def test_dead_latents_are_tested_with_p_one_and_a_nan_effect_size() -> None:
    found = contrast(*codes_of_images(np.random.default_rng(2), planted=1), seed=0, n_permutations=99)
    assert (found.p_F[-10:] == 1).all() and (found.auroc_F[-10:] == 0.5).all() and np.isnan(found.cohens_d_F[-10:]).all()
    assert len(found.q_F) == 300


def test_a_report_row_is_recomputed_in_plain_numpy() -> None:
    rng = np.random.default_rng(3)
    found = contrast(*codes_of_images(rng, planted=3), seed=0, n_permutations=99)
    codes_NF, y_N, clusters_N = codes_of_images(rng, planted=3)
    (row,) = report_rows(found, [2], codes_NF, y_N, clusters_N)
    women, men = codes_NF[y_N == 1, 2], codes_NF[y_N == 0, 2]
    assert row.auroc_report == pytest.approx(((women[:, None] > men) + 0.5 * (women[:, None] == men)).mean()) == pytest.approx(auroc(codes_NF[:, 2], y_N))
    assert row.mean_difference_report == pytest.approx(women.mean() - men.mean())
    assert row.firing_rate_report == pytest.approx((codes_NF[:, 2] > 0).mean())
    assert (row.latent, row.n_images, row.n_clusters) == (2, 320, 80)


def test_codes_that_are_not_numbers_are_refused() -> None:
    codes_NF, y_N, clusters_N = codes_of_images(np.random.default_rng(4), planted=0)
    codes_NF[5, 7] = np.nan
    with pytest.raises(InputError, match=r"\(5, 7\)"):
        contrast(codes_NF, y_N, clusters_N, seed=0)
