"""Outcomes of captions: shares add up, gaps point the right way, and are recomputed in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.bias.outcomes import ambiguous_shares, clear_outcomes, outcome_of
from saebias.bias.rows import CaptionLabels
from saebias.errors import InputError
from tests.bias.planted import by_metric


def captions(n_images: int, rng: np.random.Generator, *, wrong_f: float = 0.1, wrong_m: float = 0.02, neutral: float = 0.05) -> CaptionLabels:
    """Two captions (one per language) of clear images, women misgendered more often than men."""
    gender_N = np.where(np.arange(n_images) % 2 == 0, "F", "M")
    draw_N = rng.random(n_images)
    wrong_N = np.where(gender_N == "F", wrong_f, wrong_m)
    label_N = np.where(draw_N < wrong_N, np.where(gender_N == "F", "M", "F"), np.where(draw_N < wrong_N + neutral, "N", gender_N))
    image_N = np.arange(n_images)
    context_N = np.where(image_N // 2 % 2 == 0, "cook", "pilot")
    columns = [np.tile(column, 2) for column in (image_N, image_N // 4 * 2 + (gender_N == "F"), context_N)]
    language_N = np.repeat(["en", "ar"], n_images)
    explicit_N = language_N == "en"
    return CaptionLabels(*columns, language_N, np.tile(gender_N, 2), np.tile(label_N, 2), explicit_N)


def test_every_caption_has_exactly_one_outcome() -> None:
    labels = np.array(["F", "M", "N", "X", "0"])
    assert outcome_of(labels, np.full(5, "F")).tolist() == ["correct", "wrong", "neutral", "mixed", "no_person"]
    assert outcome_of(labels, np.full(5, "M")).tolist() == ["wrong", "correct", "neutral", "mixed", "no_person"]


def test_shares_of_a_cell_add_up_to_one() -> None:
    rows = clear_outcomes(captions(200, np.random.default_rng(0)))
    for language in ("en", "ar"):
        for context in (None, "cook", "pilot"):
            for gender in (None, "F", "M"):
                shares = [by_metric(rows, f"outcome_{name}", language, context, gender).value for name in ("correct", "wrong", "neutral", "mixed", "no_person")]
                assert sum(shares) == pytest.approx(1)


def test_shares_are_those_of_plain_counting() -> None:
    labels = captions(400, np.random.default_rng(1))
    rows = clear_outcomes(labels)
    cell_N = (labels.language_N == "ar") & (labels.context_N == "cook") & (labels.gender_N == "F")
    row = by_metric(rows, "outcome_wrong", "ar", "cook", "F")
    assert row.value == pytest.approx((labels.label_N[cell_N] == "M").mean())
    assert row.n_images == len(set(labels.image_N[cell_N])) and row.n_clusters == len(set(labels.cluster_N[cell_N]))


def test_the_misgender_gap_is_positive_where_women_are_misgendered_more_and_covers_the_plant() -> None:
    covered = []
    for seed in range(40):
        rows = clear_outcomes(captions(400, np.random.default_rng(seed)))
        gap = by_metric(rows, "misgender_gap", "en", None, None)
        covered.append(gap.low <= 0.08 <= gap.high)
        assert gap.value == pytest.approx(by_metric(rows, "outcome_wrong", "en", None, "F").value - by_metric(rows, "outcome_wrong", "en", None, "M").value)
    assert np.mean(covered) >= 0.90


def test_equal_treatment_gives_gaps_that_cover_zero() -> None:
    covered = []
    for seed in range(30):
        rows = clear_outcomes(captions(300, np.random.default_rng(seed), wrong_f=0.02))
        covered += [row.low <= 0 <= row.high for row in rows if row.metric in ("misgender_gap", "neutral_gap") and row.context is None]
    assert np.mean(covered) >= 0.93


def test_masculine_by_grammar_alone_is_not_explicit() -> None:
    rows = clear_outcomes(captions(100, np.random.default_rng(2)))
    assert by_metric(rows, "outcome_explicit_male", "ar", None, "M").value == 0
    assert by_metric(rows, "outcome_explicit_male", "en", None, "M").value == 1


def test_a_gap_without_men_is_nan_with_the_reason() -> None:
    labels = captions(40, np.random.default_rng(3))
    rows = clear_outcomes(labels.where(labels.gender_N == "F"))
    gap = by_metric(rows, "misgender_gap", "en", None, None)
    assert np.isnan(gap.value) and "visible gender M" in gap.note


def test_ambiguous_images_count_nowhere_in_clear_outcomes() -> None:
    labels = captions(40, np.random.default_rng(4))
    ambiguous = CaptionLabels(
        *(
            np.append(getattr(labels, name), value)
            for name, value in zip(
                ("image_N", "cluster_N", "context_N", "language_N", "gender_N", "label_N", "explicit_N"), (999, 999, "cook", "en", "A", "F", True), strict=True
            )
        )
    )
    assert clear_outcomes(ambiguous) == clear_outcomes(labels)


def test_ambiguous_shares_split_by_what_the_caption_says() -> None:
    label_N = np.array(["F", "M", "M", "N", "0", "X", "M", "F"])
    explicit_N = np.array([1, 0, 1, 0, 0, 1, 0, 1])
    labels = CaptionLabels(np.arange(8), np.arange(8), np.full(8, "cook"), np.full(8, "ar"), np.full(8, "A"), label_N, explicit_N)
    rows = ambiguous_shares(labels)
    said = {row.metric: row.value for row in rows if row.context is None}
    assert said == pytest.approx(
        {"said_F": 2 / 8, "said_M": 3 / 8, "said_M_explicit": 1 / 8, "said_N": 1 / 8, "said_X": 1 / 8, "said_0": 1 / 8, "said_F_of_gendered": 2 / 5}
    )


def test_an_unknown_label_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="unknown caption label 'female'"):
        CaptionLabels(*(np.array([value]) for value in (1, 1, "cook", "en", "F", "female", True)))
