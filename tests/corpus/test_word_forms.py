"""Laws of words by form and meaning: a thing in the feminine is no woman, a man may look feminine, and doubtful words are left out."""

from __future__ import annotations

import pytest

from saebias.corpus.labels import labeller
from saebias.corpus.word_forms import Word, words_of


def found(text: str, language: str) -> dict[str, Word]:
    return {word.surface: word for word in words_of(text, language, labeller(language))}


@pytest.mark.parametrize(
    ("text", "surface", "is_feminine_form", "meaning"),
    [
        ("طباخة تقف بجانب سيارة", "طباخة", True, "F"),
        ("طباخة تقف بجانب سيارة", "تقف", True, "F"),
        ("طباخة تقف بجانب سيارة", "سيارة", True, "N"),
        ("طباخ يقف بجانب كرسي", "طباخ", False, "m"),
        ("طباخ يقف بجانب كرسي", "كرسي", False, "N"),
        ("خليفة يقف", "خليفة", True, "m"),
        ("امرأة حامل تقف", "حامل", False, "F"),
        ("رجل يقف", "رجل", False, "M"),
        ("شخص يقف", "يقف", False, "N"),
    ],
)
def test_an_arabic_word_has_the_form_that_is_written_and_the_meaning_that_is_labelled(text: str, surface: str, is_feminine_form: bool, meaning: str) -> None:
    word = found(text, "ar")[surface]
    assert (word.is_feminine_form, word.meaning) == (is_feminine_form, meaning)
    assert text[word.start : word.end] == surface


def test_english_words_have_no_grammatical_gender() -> None:
    words = found("a woman artist beside a rocket", "en")
    assert {surface: word.meaning for surface, word in words.items()} == {"a": "N", "woman": "F", "artist": "N", "beside": "N", "rocket": "N"}
    assert not any(word.is_feminine_form for word in words.values())
    assert words["artist"].rule and not words["rocket"].rule


def test_a_word_with_contradictory_evidence_is_left_out() -> None:
    assert "طفلها" not in found("امرأة تقف مع طفلها", "ar")
