"""Labels do not depend on how a caption is written down."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.corpus.labels import label_caption

from .conftest import gold

ARABIC = [text for _, _, text in gold("ar")]
ENGLISH = [text for _, _, text in gold("en")]
MARKS = "\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0670"
# Letters that join to the next one, where a tatweel may stand.
JOINING = set("بتثجحخسشصضطظعغفقكلمنهي")
# With a conjunction these begin with another word: فتحت "she opened", وجد "he found".
BECOMES_ANOTHER_WORD = ("تحت الجسر نهر صغير", "جد جميل هذا المنظر")
BEGINS_WITH_A_CONJUNCTION = ("وأمه تقف خلفه", "فالمرأة تنظر إلى البحر", "والرجل ينظر إلى البحر", "وبالفتاة قبعة حمراء")
FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def verdict(text: str, language: str) -> tuple[str, bool]:
    label = label_caption(text, language)
    return label.label, label.explicit


@given(text=st.sampled_from(ARABIC), seed=st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_added_diacritics_change_no_label(text: str, seed) -> None:
    marked = "".join(letter + (seed.choice(MARKS) if "\u0621" <= letter <= "\u064a" and seed.random() < 0.5 else "") for letter in text)
    assert verdict(marked, "ar") == verdict(text, "ar")


@given(text=st.sampled_from(ARABIC), seed=st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_tatweel_changes_no_label(text: str, seed) -> None:
    joined = []
    for place, letter in enumerate(text):
        following = text[place + 1 : place + 2]
        stretch = "ـ" * seed.randint(0, 3) if letter in JOINING and "\u0621" <= following <= "\u064a" else ""
        joined.append(letter + stretch)
    assert verdict("".join(joined), "ar") == verdict(text, "ar")


@pytest.mark.parametrize("language", ["en", "ar"])
@given(data=st.data(), before=st.text("«\"'([ \t\u200f\u202b-", max_size=3), after=st.text("»\"'؟!.،؛)] \u202c", max_size=3))
@settings(max_examples=80, deadline=None)
def test_surrounding_punctuation_changes_no_label(language: str, data, before: str, after: str) -> None:
    text = data.draw(st.sampled_from(ARABIC if language == "ar" else ENGLISH))
    assert verdict(before + text + after, language) == verdict(text, language)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_unicode_normalisation_form_changes_no_label(language: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> None:
    for text in ARABIC if language == "ar" else ENGLISH:
        assert verdict(unicodedata.normalize(form, text), language) == verdict(text, language)


@pytest.mark.parametrize("conjunction", ["و", "ف"])
def test_a_conjunction_before_the_first_word_changes_no_label(conjunction: str) -> None:
    bare = [text for text in ARABIC if "\u0621" <= text[0] <= "\u064a" and text not in BEGINS_WITH_A_CONJUNCTION + BECOMES_ANOTHER_WORD]
    changed = [text for text in bare if verdict(conjunction + text, "ar") != verdict(text, "ar")]
    assert not changed


@given(text=st.sampled_from(ARABIC))
@settings(deadline=None)
def test_hamza_left_out_of_alef_changes_no_feminine_label(text: str) -> None:
    plain = text.replace("أ", "ا").replace("إ", "ا")
    if label_caption(text, "ar").label == "F":
        assert label_caption(plain, "ar").label == "F"


@pytest.mark.parametrize("language", ["en", "ar"])
@given(text=st.one_of(st.text(max_size=80), st.text("امرأةرجلهيتوـًُ ،؟ asheT'-", max_size=60)))
@settings(max_examples=300, deadline=None)
def test_any_text_is_labelled_and_its_evidence_is_in_it(language: str, text: str) -> None:
    label = label_caption(text, language)
    assert label.label in "FMNX0"
    for item in (*label.evidence, *label.rejected):
        assert text[item.start : item.end] == item.surface


@given(text=st.sampled_from(ENGLISH), seed=st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_invisible_marks_inside_english_words_change_no_label(text: str, seed) -> None:
    marked = "".join(letter + ("\u00ad" if letter.isalpha() and seed.random() < 0.3 else "") for letter in text)
    assert verdict(marked, "en") == verdict(text, "en")
