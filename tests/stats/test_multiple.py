"""Benjamini-Hochberg over every latent tested."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from saebias.errors import InputError
from saebias.stats.multiple import benjamini_hochberg


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)))
def test_q_agrees_with_scipy(p_F: np.ndarray) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p_F), stats.false_discovery_control(p_F), atol=1e-12)


def test_the_false_discovery_rate_is_kept_when_signals_hide_among_dead_latents() -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(200):
        p_F = np.concatenate([rng.random(180), np.ones(100), stats.norm.sf(rng.normal(3.5, 1, 20))])
        found_F = benjamini_hochberg(p_F) <= 0.1
        rates.append(found_F[:280].sum() / max(1, found_F.sum()))
    assert np.mean(rates) <= 0.1


def test_dead_latents_count_in_the_family() -> None:
    p_F = np.array([0.001, 0.02])
    assert benjamini_hochberg(np.concatenate([p_F, np.ones(98)]))[0] == pytest.approx(0.1)


def test_a_nan_p_is_an_error_that_names_the_test() -> None:
    with pytest.raises(InputError, match=r"p\[1\] is nan"):
        benjamini_hochberg([0.1, np.nan])
