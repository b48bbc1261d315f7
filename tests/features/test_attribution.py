"""Attribution: the parts add up, and the two targets find the two kinds of latents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.errors import InputError
from saebias.features.attribution import between_context, latent_attribution, visible_gender
from saebias.features.selection import top_latents


def linear_model(rng: np.random.Generator, *, n_contexts: int = 8, per_context: int = 12, n_latents: int = 40) -> tuple[np.ndarray, ...]:
    """(grad_NF, codes_NF, gap_N, contexts_N, y_N): latents 0-3 vary with the context, 4-7 with visible gender, all push the gap; the rest are noise."""
    contexts_N = np.repeat(np.arange(n_contexts), per_context)
    y_N = np.arange(len(contexts_N)) % 2
    codes_NF = 0.3 * rng.random((len(contexts_N), n_latents))
    codes_NF[:, :4] += rng.random((n_contexts, 4))[contexts_N]
    codes_NF[:, 4:8] += y_N[:, None]
    weights_F = np.concatenate([[2.0, -2.0, 1.5, -1.5], np.full(4, 1.0), np.full(n_latents - 8, 0.02)])
    return np.broadcast_to(weights_F, codes_NF.shape), codes_NF, codes_NF @ weights_F, contexts_N, y_N


def test_in_a_linear_model_the_latents_explain_all_of_the_variance_between_contexts() -> None:
    grad_NF, codes_NF, gap_N, contexts_N, _ = linear_model(np.random.default_rng(0))
    found = between_context(latent_attribution(grad_NF, codes_NF, codes_NF.mean(axis=0)), gap_N, contexts_N)
    means_O = np.array([gap_N[contexts_N == context].mean() for context in range(8)])
    assert found.total_variance == pytest.approx(means_O.var(ddof=1))
    assert found.score_F.sum() == pytest.approx(found.total_variance)
    assert found.remainder == pytest.approx(0, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 6))
def test_scores_error_and_remainder_always_add_up_to_the_variance(seed: int, n_contexts: int) -> None:
    rng = np.random.default_rng(seed)
    contexts_N = np.concatenate([np.arange(n_contexts), rng.integers(0, n_contexts, 20)])
    attribution_NF, gap_N, error_N = rng.normal(size=(len(contexts_N), 5)), rng.normal(size=len(contexts_N)), rng.normal(size=len(contexts_N))
    found = between_context(attribution_NF, gap_N, contexts_N, error_N)
    assert found.score_F.sum() + found.error + found.remainder == pytest.approx(found.total_variance)


def test_a_score_is_the_covariance_of_context_means() -> None:
    rng = np.random.default_rng(1)
    contexts_N = np.repeat(["cook", "nurse", "pilot", "judge"], [3, 5, 2, 6])
    attribution_NF, gap_N = rng.normal(size=(16, 3)), rng.normal(size=16)
    names = np.unique(contexts_N)
    means_OF = np.array([attribution_NF[contexts_N == name].mean(axis=0) for name in names])
    gaps_O = np.array([gap_N[contexts_N == name].mean() for name in names])
    expected = [np.cov(means_OF[:, latent], gaps_O)[0, 1] for latent in range(3)]
    np.testing.assert_allclose(between_context(attribution_NF, gap_N, contexts_N).score_F, expected)


def test_a_latent_that_holds_contexts_together_has_a_negative_score() -> None:
    contexts_N = np.repeat(np.arange(5), 4)
    pull_N = contexts_N.astype(float)
    found = between_context(np.stack([2 * pull_N, -pull_N], axis=1), pull_N, contexts_N)
    assert found.score_F[0] > 0 > found.score_F[1]


def test_the_two_targets_find_the_two_kinds_of_latents() -> None:
    grad_NF, codes_NF, gap_N, contexts_N, y_N = linear_model(np.random.default_rng(2))
    attribution_NF = latent_attribution(grad_NF, codes_NF, codes_NF.mean(axis=0))
    assert set(top_latents(between_context(attribution_NF, gap_N, contexts_N).score_F, 4)) == {0, 1, 2, 3}
    assert set(top_latents(visible_gender(attribution_NF, y_N), 4)) == {4, 5, 6, 7}


def test_visible_gender_is_women_minus_men() -> None:
    attribution_NF, y_N = np.array([[1.0], [3.0], [10.0]]), np.array([1, 1, 0])
    assert visible_gender(attribution_NF, y_N)[0] == pytest.approx(2 - 10)


def test_attribution_at_the_reference_is_zero_and_keeps_single_precision() -> None:
    grad_NF = np.ones((2, 3), dtype=np.float32)
    attribution_NF = latent_attribution(grad_NF, grad_NF, np.ones(3, dtype=np.float32))
    assert attribution_NF.dtype == np.float32 and not attribution_NF.any()


def test_shapes_that_do_not_fit_and_gradients_that_overflow_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\), codes \(3, 2\)"):
        latent_attribution(np.ones((2, 3)), np.ones((3, 2)), np.ones(3))
    with pytest.raises(InputError, match="not finite"):
        latent_attribution(np.full((1, 1), np.inf), np.ones((1, 1)), np.zeros(1))


def test_two_contexts_are_too_few() -> None:
    with pytest.raises(InputError, match="2 contexts"):
        between_context(np.ones((2, 1)), [0.0, 1.0], ["cook", "nurse"])
