"""Laws of form and meaning: a latent of form is found by the one tool and not by the other, and words where they go together decide nothing."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.mechanistic.codes import SparseCodes
from saebias.mechanistic.grammar import MorphologicalGenderAnalyzer, SemanticGenderAnalyzer, Words

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
