"""Amplification steps: the model's part and the decoder's part are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.bias.amplification import amplification_rows
from tests.bias.planted import by_metric, captions_of, exact_rows, plant_of

SKEWED = plant_of([0.2, 0.3, 0.4, 0.45, 0.6, 0.6, 0.7, 0.8], [0.1, 0.2, 0.2, 0.3, 0.4, 0.4, 0.6, 0.7])
NULL = plant_of([0.5] * 8, [0.5] * 8)


def test_a_calibrated_model_amplifies_only_in_its_greedy_captions() -> None:
    rng = np.random.default_rng(0)
    exact = exact_rows(SKEWED, rng, clusters=12, noise=0.05)
    rows = amplification_rows(exact, captions_of(exact, rng, 4), captions_of(exact, None), SKEWED, seed=0, n_draws=400)
    for language in ("en", "ar"):
        for step in ("exact", "sample"):
            row = by_metric(rows, f"amplification_signed_step_{step}", language)
            assert row.low <= 0.005 and row.high >= -0.005
        greedy = by_metric(rows, "amplification_signed_step_greedy", language)
        assert greedy.low > 0.15
        mean_skew = np.mean([abs(share - 0.5) for (_, of), share in SKEWED.items() if of == language])
        assert by_metric(rows, "amplification_dataset", language).value == pytest.approx(mean_skew)
        assert by_metric(rows, "amplification_greedy", language).value == pytest.approx(0.5, abs=0.05)


def test_a_model_that_doubles_the_log_odds_amplifies_in_its_exact_probabilities() -> None:
    doubled = {key: share**2 / (share**2 + (1 - share) ** 2) for key, share in SKEWED.items()}
    exact = exact_rows(doubled, np.random.default_rng(1), noise=0.05)
    rows = amplification_rows(exact, None, None, SKEWED, seed=0, n_draws=300)
    truth = np.mean([abs(doubled[key] - 0.5) - abs(SKEWED[key] - 0.5) for key in SKEWED if key[1] == "en"])
    row = by_metric(rows, "amplification_step_exact", "en")
    assert row.low <= truth <= row.high and row.low > 0
    assert {row.metric for row in rows if "sample" in row.metric or "greedy" in row.metric} == set()


def test_a_model_that_reverses_the_skew_counts_against_and_not_as_amplification() -> None:
    reversed_plant = {key: 1 - share for key, share in SKEWED.items()}
    rows = amplification_rows(exact_rows(reversed_plant, np.random.default_rng(2), noise=0.05), None, None, SKEWED, seed=0, n_draws=200)
    assert by_metric(rows, "amplification_signed_exact", "en").high < 0
    assert by_metric(rows, "amplification_exact", "en").value > 0.1


def test_steps_are_differences_of_levels_and_steps_of_a_model_with_itself_are_zero() -> None:
    rng = np.random.default_rng(3)
    exact = exact_rows(SKEWED, rng)
    greedy = captions_of(exact, None)
    rows = amplification_rows(exact, greedy, greedy, SKEWED, seed=0, n_draws=200)
    step = by_metric(rows, "amplification_step_greedy", "ar")
    assert step.value == step.low == step.high == 0
    step = by_metric(rows, "amplification_step_sample", "ar")
    assert step.value == pytest.approx(by_metric(rows, "amplification_sample", "ar").value - by_metric(rows, "amplification_exact", "ar").value)


def test_a_dataset_without_lean_has_no_signed_amplification_and_says_so() -> None:
    rows = amplification_rows(exact_rows(NULL, np.random.default_rng(4)), None, None, NULL, seed=0, n_draws=100)
    row = by_metric(rows, "amplification_signed_exact", "en")
    assert np.isnan(row.value) and "no context leans" in row.note


def test_signed_steps_cover_zero_for_a_calibrated_model_with_few_samples() -> None:
    covered = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        exact = exact_rows(SKEWED, rng, noise=0.05)
        rows = amplification_rows(exact, captions_of(exact, rng), None, SKEWED, seed=seed, n_draws=200)
        covered += [row.low <= 0 <= row.high for row in rows if row.metric == "amplification_signed_step_sample"]
    assert np.mean(covered) >= 0.88


def test_a_context_that_is_mostly_captioned_neutrally_does_not_cost_the_interval() -> None:
    rng = np.random.default_rng(6)
    exact = exact_rows(SKEWED, rng)
    sampled = captions_of(exact, rng)
    # One gendered cluster of six is missing from a third of the draws.
    silent_N = (sampled.context_N == "c02") & (sampled.cluster_N != sampled.cluster_N[sampled.context_N == "c02"].min())
    rows = amplification_rows(exact, sampled.where(~silent_N), None, SKEWED, seed=0, n_draws=200)
    row = by_metric(rows, "amplification_step_sample", "en")
    assert row.low < row.value < row.high


def test_a_context_of_one_cluster_is_named() -> None:
    exact = exact_rows(SKEWED, np.random.default_rng(7))
    keep_N = (exact.context_N != "c00") | (exact.cluster_N == 0)
    row = by_metric(amplification_rows(exact.where(keep_N), None, None, SKEWED, seed=0, n_draws=100), "amplification_exact", "en")
    assert "one cluster): c00" in row.note and row.low < row.high


def test_a_context_without_reference_is_left_out_of_every_level() -> None:
    partial = {key: share for key, share in SKEWED.items() if key[0] != "c07"}
    rows = amplification_rows(exact_rows(SKEWED, np.random.default_rng(5)), None, None, partial, seed=0, n_draws=100)
    assert all("c07" in row.note for row in rows)
    assert by_metric(rows, "amplification_dataset", "en").value == pytest.approx(
        np.mean([abs(share - 0.5) for (_, of), share in partial.items() if of == "en"])
    )
