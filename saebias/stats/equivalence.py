"""Saying "no effect" needs evidence of its own: equivalence tests and a verdict against the smallest effect that matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from saebias.errors import InputError
from saebias.stats.resampling import Estimate


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests: `p` is the larger of the two, `equivalent` says whether the effect lies within the margin at the level asked for."""

    value: float
    margin: float
    p: float
    equivalent: bool


def tost(value: float, standard_error: float, margin: float, *, df: float = np.inf, alpha: float = 0.05) -> Equivalence:
    """Two one-sided t tests of |effect| < margin (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657)."""
    if not margin > 0:
        raise InputError(f"equivalence margin {margin} must be above 0; set it to the smallest effect that matters")
    if not standard_error > 0:
        raise InputError(f"standard error {standard_error} must be above 0; use `verdict` with an interval instead")
    upper = stats.t.sf((margin - value) / standard_error, df)
    lower = stats.t.sf((value + margin) / standard_error, df)
    p = float(max(upper, lower))
    return Equivalence(float(value), float(margin), p, p < alpha)


def tost_draws(value: float, draws_R: np.ndarray, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """The same from bootstrap draws of the effect: p is the larger tail share beyond the margin, (1 + #) / (R + 1)."""
    if not margin > 0:
        raise InputError(f"equivalence margin {margin} must be above 0; set it to the smallest effect that matters")
    if np.isnan(draws_R).any() or np.isnan(value):
        raise InputError("a draw or the value is NaN; an equivalence test needs every draw defined")
    p = float(max(1 + np.sum(draws_R >= margin), 1 + np.sum(draws_R <= -margin)) / (len(draws_R) + 1))
    return Equivalence(float(value), float(margin), p, p < alpha)


def verdict(estimate: Estimate, smallest: float) -> str:
    """present | negligible | undecided: the interval lies beyond, within, or across +-`smallest`, the smallest effect that matters.

    "present" needs the whole interval outside, so a difference that is certain but tiny is never reported as bias.
    """
    if not smallest >= 0:
        raise InputError(f"smallest effect {smallest} must not be negative")
    if np.isnan(estimate.low) or np.isnan(estimate.high):
        return "undecided"
    if estimate.low > smallest or estimate.high < -smallest:
        return "present"
    if -smallest <= estimate.low and estimate.high <= smallest:
        return "negligible"
    return "undecided"
