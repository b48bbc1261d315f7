"""Prevalence corrected for the labeller's own errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from saebias.corpus.prevalence import LabellerQuality, corrected_prevalence, measured_quality, rogan_gladen
from saebias.errors import InputError


def observed(true_share: float, sensitivity: float, specificity: float, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positives and captions per cluster of a labeller with known error rates."""
    rng = np.random.default_rng(seed)
    captions = rng.integers(1, 6, size=clusters)
    truly = rng.binomial(captions, true_share)
    positives = rng.binomial(truly, sensitivity) + rng.binomial(captions - truly, 1 - specificity)
    return positives.astype(np.int64), captions.astype(np.int64)


def test_rogan_gladen_inverts_the_errors() -> None:
    assert rogan_gladen(0.3 * 0.9 + 0.7 * 0.05, 0.9, 0.95) == pytest.approx(0.3)


def test_a_planted_share_is_recovered() -> None:
    positives, captions = observed(0.3, 0.85, 0.9, clusters=20_000, seed=1)
    quality = LabellerQuality(found=8_500, positives=10_000, spared=9_000, negatives=10_000)
    found = corrected_prevalence(positives, captions, quality, seed=2)
    assert found.corrected == pytest.approx(0.3, abs=0.015)
    assert abs(found.observed - 0.3) > 0.02
    assert found.low < 0.3 < found.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(60):
        positives, captions = observed(0.4, 0.9, 0.92, clusters=200, seed=100 + trial)
        quality = LabellerQuality(int(rng.binomial(150, 0.9)), 150, int(rng.binomial(150, 0.92)), 150)
        found = corrected_prevalence(positives, captions, quality, seed=trial, draws=2_000)
        covered += found.low <= 0.4 <= found.high
    assert covered >= 54


def test_fewer_gold_captions_widen_the_interval() -> None:
    positives, captions = observed(0.4, 0.9, 0.9, clusters=2_000, seed=5)
    wide = corrected_prevalence(positives, captions, LabellerQuality(27, 30, 27, 30), seed=6)
    narrow = corrected_prevalence(positives, captions, LabellerQuality(2_700, 3_000, 2_700, 3_000), seed=6)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_a_labeller_no_better_than_chance_gives_no_number_and_says_why() -> None:
    one = np.ones(10, dtype=np.int64)
    found = corrected_prevalence(one, one, LabellerQuality(5, 10, 5, 10), seed=0)
    assert math.isnan(found.corrected)
    assert "no better than chance" in found.reason
    none = corrected_prevalence(one, one, LabellerQuality(0, 0, 5, 10), seed=0)
    assert none.reason == "no gold captions of one kind"


def test_a_share_that_the_error_rates_do_not_allow_is_said_so() -> None:
    found = corrected_prevalence(np.zeros(50, dtype=np.int64), np.ones(50, dtype=np.int64), LabellerQuality(90, 100, 80, 100), seed=0)
    assert found.corrected == 0.0
    assert "outside" in found.reason


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="more positives than captions"):
        corrected_prevalence(np.array([2]), np.array([1]), LabellerQuality(9, 10, 9, 10), seed=0)
    with pytest.raises(InputError, match="between 0 and"):
        LabellerQuality(11, 10, 9, 10)


def test_the_measured_error_rates_come_with_the_package() -> None:
    for language in ("en", "ar"):
        for label in "FM":
            quality = measured_quality(language, label)
            assert quality.sensitivity > 0.85
            assert quality.specificity > 0.9
    with pytest.raises(InputError, match="no measured error rates"):
        measured_quality("en", "N")
