"""Laws of form and meaning: a latent of form is found by the one tool and not by the other, and words where they go together decide nothing."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.mechanistic.codes import SparseCodes
from saebias.mechanistic.grammar import MorphologicalGenderAnalyzer, SemanticGenderAnalyzer, SharedNouns, Words

FORM_LATENT, MEANING_LATENT = 3, 8


def words(seed: int, *, planted: tuple[str, ...] = ("form", "meaning")) -> Words:
    """Forty lexemes of every combination of form and meaning (خليفة, حامل among them) plus neutral ones, each seen four times."""
    rng = np.random.default_rng(seed)
    form_G = np.tile([True, True, False, False, True, False], 20)
    meaning_G = np.tile(["F", "M", "F", "M", "N", "N"], 20)
    lexeme_N = np.repeat(np.arange(120), 4)
    form_N, meaning_N = form_G[lexeme_N], meaning_G[lexeme_N]
    codes_NF = (rng.random((480, 20)) < 0.3) * rng.gamma(4, 0.25, size=(480, 20))
    if "form" in planted:
        codes_NF[:, FORM_LATENT] = (rng.random(480) < np.where(form_N, 0.8, 0.2)) * 1.0
    if "meaning" in planted:
        codes_NF[:, MEANING_LATENT] = (rng.random(480) < np.select([meaning_N == "F", meaning_N == "M"], [0.8, 0.2], 0.5)) * 1.0
    return Words(codes_NF, form_N, meaning_N, lexeme_N)


def test_a_latent_of_form_is_found_among_words_of_equal_meaning_and_one_of_meaning_is_not() -> None:
    rows = MorphologicalGenderAnalyzer().read("sae", words(1), seed=1)
    assert [row.latent for row in rows if row.selected] == [FORM_LATENT]
    assert rows[FORM_LATENT].association > 0.4 and rows[FORM_LATENT].follows == "form"


def test_a_latent_of_meaning_is_found_among_words_of_equal_form_and_one_of_form_is_not() -> None:
    rows = SemanticGenderAnalyzer().read("sae", words(2), seed=1)
    assert [row.latent for row in rows if row.selected] == [MEANING_LATENT]
    assert abs(rows[FORM_LATENT].association) < 0.15


def test_partial_association_vanishes_where_only_the_other_is_planted() -> None:
    assert not any(row.selected for row in SemanticGenderAnalyzer().read("sae", words(3, planted=("form",)), seed=1))
    assert not any(row.selected for row in MorphologicalGenderAnalyzer().read("sae", words(4, planted=("meaning",)), seed=1))


def test_words_where_form_and_meaning_go_together_decide_nothing() -> None:
    both = words(1)
    together = (both.is_feminine_form_N & (both.meaning_N == "F")) | (~both.is_feminine_form_N & (both.meaning_N == "M"))
    only = Words(SparseCodes.of(both.codes).rows(together), both.is_feminine_form_N[together], both.meaning_N[together], both.lexeme_N[together])
    for analyzer in (MorphologicalGenderAnalyzer(), SemanticGenderAnalyzer()):
        with pytest.raises(InputError, match="go together in all"):
            analyzer.read("sae", only, seed=1)


def test_a_lexeme_with_two_forms_is_refused() -> None:
    both = words(1)
    with pytest.raises(InputError, match="occurs with two forms or meanings"):
        MorphologicalGenderAnalyzer().read("sae", Words(both.codes, both.is_feminine_form_N, both.meaning_N, both.lexeme_N // 2), seed=1)


def shared_nouns(seed: int, effect: float) -> SharedNouns:
    """Eight professions, each said of women and of men in one form; latent 8 follows who is meant, latent 3 the profession itself."""
    rng, cluster_N = np.random.default_rng(seed), np.repeat(np.arange(96), 3)
    noun_N, female_N = np.array([f"profession {number}" for number in cluster_N % 8]), (cluster_N // 8) % 2 == 0
    codes_NF = (rng.random((288, 20)) < 0.3) * rng.gamma(4, 0.25, size=(288, 20))
    codes_NF[:, FORM_LATENT] = cluster_N % 8
    codes_NF[:, MEANING_LATENT] = (rng.random(288) < np.where(female_N, 0.5 + effect, 0.5 - effect)) * 1.0
    return SharedNouns(codes_NF, noun_N, female_N, cluster_N)


def test_on_nouns_of_one_form_the_latent_that_follows_who_is_meant_is_found_and_that_of_the_noun_is_not() -> None:
    rows = SemanticGenderAnalyzer().read_shared("sae", shared_nouns(1, 0.4), seed=1)
    assert [row.latent for row in rows if row.selected] == [MEANING_LATENT]
    assert rows[MEANING_LATENT].association > 0.5 and rows[FORM_LATENT].association == 0 and rows[FORM_LATENT].p == 1


def test_shared_nouns_that_nothing_follows_find_nothing() -> None:
    found = [any(row.selected for row in SemanticGenderAnalyzer().read_shared("sae", shared_nouns(seed, 0.0), seed=seed)) for seed in range(20)]
    assert np.mean(found) <= 0.15


def test_too_few_words_to_find_anything_are_a_reason_and_not_an_empty_result() -> None:
    two = Words(np.eye(2), np.array([False, False]), np.array(["F", "M"]), np.array(["woman", "man"]))
    with pytest.raises(InputError, match=r"labelled in 2 ways: p cannot fall below 0.5"):
        SemanticGenderAnalyzer().read("sae", two, seed=1)


def test_a_silent_latent_counts_as_tested_and_is_never_selected() -> None:
    both = words(1)
    dense_NF = SparseCodes.of(both.codes).columns(np.arange(20))
    dense_NF[:, 5] = 0
    rows = MorphologicalGenderAnalyzer().read("sae", Words(dense_NF, both.is_feminine_form_N, both.meaning_N, both.lexeme_N), seed=1)
    assert len(rows) == 20 and (rows[5].association, rows[5].p, rows[5].selected) == (0.0, 1.0, False)
