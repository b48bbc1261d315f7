"""Equivalence tests and verdicts against the smallest effect that matters."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.stats.equivalence import tost, tost_draws, verdict
from saebias.stats.resampling import Estimate


def estimate(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 10, 10)


def test_an_effect_at_the_margin_is_called_equivalent_in_five_percent_of_studies() -> None:
    rng = np.random.default_rng(0)
    called = [tost(rng.normal(0.1, 0.02), 0.02, 0.1).equivalent for _ in range(2000)]
    assert np.mean(called) == pytest.approx(0.05, abs=0.016)


def test_a_precise_zero_is_equivalent_and_a_vague_zero_is_not() -> None:
    assert tost(0.0, 0.01, 0.05).equivalent
    assert not tost(0.0, 0.05, 0.05).equivalent


def test_draws_and_normal_theory_agree() -> None:
    rng = np.random.default_rng(1)
    normal = tost(0.02, 0.02, 0.06)
    assert tost_draws(0.02, rng.normal(0.02, 0.02, 20_000), 0.06).p == pytest.approx(normal.p, abs=0.005)


def test_a_certain_but_tiny_difference_is_negligible_and_not_present() -> None:
    assert verdict(estimate(0.010, 0.012), 0.05) == "negligible"
    assert verdict(estimate(0.06, 0.09), 0.05) == "present"
    assert verdict(estimate(-0.09, -0.06), 0.05) == "present"
    assert verdict(estimate(0.03, 0.09), 0.05) == "undecided"
    assert verdict(estimate(np.nan, np.nan), 0.05) == "undecided"


@pytest.mark.parametrize(("standard_error", "margin"), [(0.0, 0.1), (0.1, 0.0), (0.1, -1.0)])
def test_a_margin_or_error_that_is_not_positive_is_refused(standard_error: float, margin: float) -> None:
    with pytest.raises(InputError, match="must be above 0"):
        tost(0.0, standard_error, margin)
