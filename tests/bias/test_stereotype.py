"""Stereotype and default: planted ones are recovered, a null stays silent, languages are paired by image."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.bias.rows import ExactProbabilities
from saebias.bias.stereotype import alignment_rows, context_probabilities, stereotype_rows
from saebias.errors import InputError
from tests.bias.planted import by_metric, exact_rows, plant_of

SKEWED = plant_of(list(np.linspace(0.15, 0.85, 10)), list(np.linspace(0.7, 0.1, 10)))
NULL = plant_of([0.5] * 10, [0.5] * 10)


def test_a_null_captioner_shows_no_stereotype_and_no_default() -> None:
    quiet = {"stereotype_spread": [], "stereotype_spread_variance": [], "masculine_default": [], "masculine_default_these_contexts": []}
    small_p = []
    for seed in range(40):
        rows = stereotype_rows(exact_rows(NULL, np.random.default_rng(seed)), seed=seed, n_draws=300)
        for metric, hits in quiet.items():
            hits += [row.low <= 0 <= row.high for row in rows if row.metric == metric]
        small_p.append(by_metric(rows, "stereotype_spread_p", "en").value <= 0.05)
    for metric, hits in quiet.items():
        assert np.mean(hits) >= 0.88, metric
    # 40 simulations: a test of level .05 exceeds .17 once in a thousand times; the level itself is tested on spread_of_groups.
    assert np.mean(small_p) <= 0.17


def test_a_planted_stereotype_and_default_are_recovered_with_intervals_that_cover() -> None:
    truth = {
        ("stereotype_spread", "en"): np.std([SKEWED[key] for key in SKEWED if key[1] == "en"], ddof=1),
        ("stereotype_spread", "ar"): np.std([SKEWED[key] for key in SKEWED if key[1] == "ar"], ddof=1),
        ("masculine_default", "en"): 0.0,
        ("masculine_default", "ar"): 0.1,
        ("masculine_default", "ar-en"): 0.1,
        ("masculine_default_these_contexts", "ar"): 0.1,
    }
    covered = {key: [] for key in truth}
    for seed in range(30):
        rows = stereotype_rows(exact_rows(SKEWED, np.random.default_rng(seed), noise=0.1), seed=seed, n_draws=300)
        for (metric, language), value in truth.items():
            row = by_metric(rows, metric, language)
            covered[metric, language].append(row.low <= value <= row.high)
            assert row.value == pytest.approx(value, abs=0.03)
    for key, hits in covered.items():
        assert np.mean(hits) >= 0.85, key


def test_notes_tell_a_tiny_certain_spread_from_one_that_matters() -> None:
    tiny = plant_of([0.48, 0.52] * 5, [0.5] * 10)
    rows = stereotype_rows(exact_rows(tiny, np.random.default_rng(9), noise=0.02), seed=0, n_draws=200)
    row = by_metric(rows, "stereotype_spread", "en")
    assert row.low > 0 and row.note.startswith("negligible (smallest that matters: 0.05)")
    rows = stereotype_rows(exact_rows(SKEWED, np.random.default_rng(9)), seed=0, n_draws=200)
    assert by_metric(rows, "stereotype_spread", "en").note.startswith("present")


def test_p_of_a_context_is_the_mean_over_its_images_of_f_among_f_and_m() -> None:
    exact = exact_rows(SKEWED, np.random.default_rng(1))
    rows = stereotype_rows(exact, seed=0, n_draws=50)
    inside_N = (exact.context_N == "c03") & (exact.language_N == "ar")
    expected = (exact.p_f_N[inside_N] / (exact.p_f_N[inside_N] + exact.p_m_N[inside_N])).mean()
    row = by_metric(rows, "p_female", "ar", "c03")
    assert row.value == pytest.approx(expected) == pytest.approx(context_probabilities(exact, "ar")["c03"])
    assert row.low < row.value < row.high
    assert by_metric(rows, "p_neutral", "ar", "c03").value == pytest.approx(0.1)


def test_the_default_difference_is_paired_by_image() -> None:
    exact = exact_rows(SKEWED, np.random.default_rng(2))
    alone_N = (exact.language_N == "en") & (exact.image_N < 2)
    row = by_metric(stereotype_rows(exact.where(~alone_N), seed=0, n_draws=50), "masculine_default", "ar-en")
    both_N = exact.image_N >= 2
    en, ar = (exact.where(both_N & (exact.language_N == language)) for language in ("en", "ar"))
    assert (en.image_N == ar.image_N).all()
    by_context = [(en.p_female_N - ar.p_female_N)[en.context_N == context].mean() for context in np.unique(en.context_N)]
    assert row.value == pytest.approx(np.mean(by_context))
    assert "2 images scored in one language left out" in row.note


def test_clear_images_do_not_enter_the_stereotype() -> None:
    exact = exact_rows(NULL, np.random.default_rng(3))
    gender_N = np.where(exact.image_N % 2 == 0, "F", "A")
    mixed = ExactProbabilities(
        exact.image_N, exact.cluster_N, exact.context_N, exact.language_N, gender_N, np.where(gender_N == "F", 0.99, exact.p_f_N), exact.p_m_N, exact.p_n_N
    )
    alone = stereotype_rows(exact.where(gender_N == "A"), seed=0, n_draws=50)
    np.testing.assert_equal([tuple(vars(row).values()) for row in stereotype_rows(mixed, seed=0, n_draws=50)], [tuple(vars(row).values()) for row in alone])


def test_no_neutral_continuation_is_nan_with_the_reason() -> None:
    exact = exact_rows(NULL, np.random.default_rng(4))
    columns = (exact.image_N, exact.cluster_N, exact.context_N, exact.language_N, exact.gender_N, exact.p_f_N, exact.p_m_N)
    rows = stereotype_rows(ExactProbabilities(*columns, np.full(len(exact), np.nan)), seed=0, n_draws=50)
    row = by_metric(rows, "neutral_share", "en")
    assert np.isnan(row.value) and "no neutral continuation" in row.note


def test_alignment_is_one_with_the_plant_and_nothing_with_an_unrelated_order() -> None:
    exact = exact_rows(SKEWED, np.random.default_rng(5), noise=0.02)
    assert all(row.value == pytest.approx(1) for row in alignment_rows(exact, SKEWED))
    shares = np.random.default_rng(6).permutation(10) / 10
    unrelated = {(context, language): float(shares[int(context[1:])]) for context, language in SKEWED}
    assert all(row.low <= 0 <= row.high for row in alignment_rows(exact, unrelated))


def test_contexts_without_reference_are_counted() -> None:
    exact = exact_rows(SKEWED, np.random.default_rng(7))
    partial = {key: value for key, value in SKEWED.items() if key[0] != "c00"}
    assert all("1 contexts have no reference" in row.note for row in alignment_rows(exact, partial))
    assert all(np.isnan(row.value) and "no context has a reference" in row.note for row in alignment_rows(exact, {}))


@pytest.mark.parametrize(("p_f", "p_m", "message"), [(1.5, 0.1, "lie in"), (0.0, 0.0, "no probability at all"), (np.nan, 0.1, "lie in")])
def test_probabilities_that_are_none_are_refused_with_the_image(p_f: float, p_m: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExactProbabilities(*(np.array([value]) for value in ("im7", 0, "cook", "en", "A", p_f, p_m, 0.1)))


def test_an_image_twice_in_one_language_is_refused() -> None:
    with pytest.raises(InputError, match="twice in one language"):
        ExactProbabilities(*(np.array([value] * 2) for value in ("im7", 0, "cook", "en", "A", 0.4, 0.5, 0.1)))


def test_a_language_without_ambiguous_images_is_refused() -> None:
    exact = exact_rows(NULL, np.random.default_rng(8))
    with pytest.raises(InputError, match="no ambiguous images in language 'fr'"):
        exact.ambiguous("fr")
