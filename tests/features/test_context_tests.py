"""Between-context scores: intervals cover, p is uniform where contexts do not differ and small for latents that carry the stereotype."""

from __future__ import annotations

import time

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.features.attribution import between_context
from saebias.features.context_tests import between_context_p, explained_slope, score_intervals


def images(
    stereotype: float, rng: np.random.Generator, *, n_latents: int = 40, n_contexts: int = 8, clusters: int = 6, rows: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(attribution_NF, gap_N, contexts_N, clusters_N): latents 0-3 follow the context, drawings add noise to all and to the gap, the last is dead."""
    contexts_N = np.repeat(np.arange(n_contexts), clusters * rows)
    clusters_N = np.repeat(np.arange(n_contexts * clusters), rows)
    attribution_NF = 0.3 * rng.normal(size=(n_contexts * clusters, n_latents))[clusters_N] + 0.1 * rng.normal(size=(len(clusters_N), n_latents))
    pattern_O = np.linspace(-1, 1, n_contexts)
    attribution_NF[:, :4] += stereotype * pattern_O[contexts_N][:, None]
    attribution_NF[:, -1] = 0
    return attribution_NF, attribution_NF.sum(axis=1), contexts_N, clusters_N


def test_without_differences_between_contexts_p_is_uniform_over_latents() -> None:
    p_values = [between_context_p(*images(0.0, np.random.default_rng(seed)), seed=seed, n_permutations=199)[:-1] for seed in range(40)]
    # The latents of one simulation share its gap, so 40 simulations are worth less than 40 x 39 latents.
    for level, margin in ((0.05, 0.02), (0.2, 0.06)):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=margin)


def test_latents_that_follow_the_context_have_the_smallest_p_and_others_do_not() -> None:
    p_F = between_context_p(*images(0.5, np.random.default_rng(0)), seed=0, n_permutations=999)
    assert (p_F[:4] == 1 / 1000).all()
    assert p_F[-1] == 1.0
    assert (p_F[4:-1] < 0.002).sum() <= 2


def test_p_equals_the_plain_loop_over_permutations() -> None:
    attribution_NF, gap_N, contexts_N, clusters_N = images(0.1, np.random.default_rng(1), n_latents=5)
    p_F = between_context_p(attribution_NF, gap_N, contexts_N, clusters_N, seed=3, n_permutations=60)
    contexts_G = np.array([contexts_N[clusters_N == cluster][0] for cluster in range(48)])
    dealt_RG = np.random.default_rng(3).permuted(np.broadcast_to(contexts_G, (60, 48)), axis=1)
    drawn_RF = np.stack([between_context(attribution_NF, gap_N, dealt_G[clusters_N]).score_F for dealt_G in dealt_RG])
    median_F = np.median(drawn_RF, axis=0)
    observed_F = between_context(attribution_NF, gap_N, contexts_N).score_F
    np.testing.assert_allclose(p_F, (1 + (np.abs(drawn_RF - median_F) >= np.abs(observed_F - median_F) - 1e-9).sum(axis=0)) / 61)


def test_intervals_cover_the_score_of_endless_images_and_centre_on_the_score_measured() -> None:
    truth = 4 * 0.5**2 * np.linspace(-1, 1, 8).var(ddof=1)
    covered, unbiased = [], []
    for seed in range(80):
        attribution_NF, gap_N, contexts_N, clusters_N = images(0.5, np.random.default_rng(seed))
        found = score_intervals(attribution_NF[:, :2], gap_N, contexts_N, clusters_N, seed=seed, n_draws=300)
        np.testing.assert_allclose(found.score_F, between_context(attribution_NF, gap_N, contexts_N).score_F[:2])
        assert ((found.low_F < found.score_F) & (found.score_F < found.high_F)).all()
        covered.append((found.low_F <= truth) & (truth <= found.high_F))
        unbiased.append(found.unbiased_F)
    assert 0.90 <= np.mean(covered) <= 0.995
    assert np.mean(unbiased) == pytest.approx(truth, abs=0.05)


def test_a_context_with_one_drawing_is_refused_by_name() -> None:
    attribution_NF, gap_N, contexts_N, clusters_N = images(0.1, np.random.default_rng(2))
    keep_N = (contexts_N > 0) | (clusters_N == 0)
    with pytest.raises(InputError, match="context 0 has one cluster"):
        score_intervals(attribution_NF[keep_N], gap_N[keep_N], contexts_N[keep_N], clusters_N[keep_N], seed=0)


def test_two_thousand_latents_take_seconds() -> None:
    rows = images(0.1, np.random.default_rng(3), n_latents=2048, n_contexts=16, clusters=12)
    start = time.process_time()
    between_context_p(*rows, seed=0, n_permutations=1999)
    assert time.process_time() - start < 6


def contexts_of_parts(share: float, spread: float, seed: int = 1, n_contexts: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(attribution, gap, contexts, clusters): three latents that carry `share` of what the gap does from context to context, and noise."""
    rng = np.random.default_rng([seed, 4])
    context = np.repeat(np.arange(n_contexts), 12)
    gap_O = spread * rng.standard_normal(n_contexts)
    gap = gap_O[context] + 0.05 * rng.standard_normal(len(context))
    attribution = share / 3 * gap_O[context][:, None] + 0.05 * rng.standard_normal((len(context), 3))
    return attribution, gap, context, np.arange(len(context)) // 2


@pytest.mark.parametrize("share", [0.5, 1.0, 3.0])
def test_the_slope_of_the_parts_is_the_planted_one_and_may_exceed_one(share: float) -> None:
    found = explained_slope(*contexts_of_parts(share, 1.0), seed=1)
    assert found.low < share < found.high and found.value == pytest.approx(share, rel=0.1)


def test_the_slope_of_the_parts_is_covered_in_the_share_of_worlds_asked_for() -> None:
    found = [explained_slope(*contexts_of_parts(0.8, 0.6, seed), seed=seed) for seed in range(60)]
    assert np.mean([each.low < 0.8 < each.high for each in found]) >= 0.87


def test_where_contexts_do_not_differ_or_are_few_there_is_no_slope_and_a_reason() -> None:
    assert "not shown to differ" in explained_slope(*contexts_of_parts(1.0, 0.0), seed=1).note
    few = explained_slope(*contexts_of_parts(1.0, 1.0, n_contexts=3), seed=1)
    assert np.isnan(few.value) and "3 contexts" in few.note
