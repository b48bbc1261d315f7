"""Recovered against planted: error, RMSE, slope, rank."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.bias.recovery import recovery_rows
from saebias.bias.stereotype import context_probabilities
from saebias.errors import InputError
from tests.bias.planted import by_metric, exact_rows, plant_of

PLANT = plant_of(list(np.linspace(0.15, 0.85, 12)), list(np.linspace(0.7, 0.1, 12)))


def test_a_learned_plant_has_slope_one_and_a_small_rmse() -> None:
    rows = recovery_rows(exact_rows(PLANT, np.random.default_rng(0), noise=0.05), PLANT, seed=0, n_draws=300)
    for language in ("en", "ar"):
        assert by_metric(rows, "plant_slope", language).value == pytest.approx(1, abs=0.05)
        assert by_metric(rows, "plant_rmse", language).value < 0.02
        assert by_metric(rows, "plant_spearman", language).value > 0.98


def test_a_half_learned_plant_has_slope_one_half_and_its_interval_says_so() -> None:
    half = {key: 0.5 + 0.5 * (share - 0.5) for key, share in PLANT.items()}
    covered = []
    for seed in range(30):
        rows = recovery_rows(exact_rows(half, np.random.default_rng(seed), noise=0.1), PLANT, seed=seed, n_draws=200)
        rmse = np.sqrt(np.mean([(half[key] - PLANT[key]) ** 2 for key in PLANT if key[1] == "en"]))
        for metric, truth in (("plant_slope", 0.5), ("plant_rmse", rmse)):
            row = by_metric(rows, metric, "en")
            covered.append(row.low <= truth <= row.high)
    assert np.mean(covered) >= 0.88


def test_figures_are_those_of_plain_numpy() -> None:
    exact = exact_rows(PLANT, np.random.default_rng(1))
    found = context_probabilities(exact, "en")
    p, planted = np.array([[found[context], PLANT[context, "en"]] for context in found]).T
    rows = recovery_rows(exact, PLANT, seed=0, n_draws=50)
    assert by_metric(rows, "plant_rmse", "en").value == pytest.approx(np.sqrt(np.mean((p - planted) ** 2)))
    assert by_metric(rows, "plant_slope", "en").value == pytest.approx(np.polyfit(planted, p, 1)[0])
    assert by_metric(rows, "plant_error", "en", "c04").value == pytest.approx(found["c04"] - PLANT["c04", "en"])


def test_a_flat_plant_has_no_slope_and_says_so() -> None:
    flat = plant_of([0.5] * 6, [0.5] * 6)
    row = by_metric(recovery_rows(exact_rows(flat, np.random.default_rng(2)), flat, seed=0, n_draws=50), "plant_slope", "en")
    assert np.isnan(row.value) and "same in every context" in row.note


def test_a_context_without_planted_share_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'c00'"):
        recovery_rows(exact_rows(PLANT, np.random.default_rng(3)), {key: value for key, value in PLANT.items() if key[0] != "c00"}, seed=0)
