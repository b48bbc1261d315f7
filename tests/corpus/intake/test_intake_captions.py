"""Which texts can be captions of a language, judged by their letters alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.corpus.caption_cells import BadCaption, captions_of, is_blank, wrong_script


@pytest.mark.parametrize("text", ["طباخة", "طَبَّاخَة", "ﻃﺒﺎﺧﺔ", "آشپز گچ", "iPhone 14 مع رجل", "١٢ رجلاً؟"])
def test_arabic_letters_make_an_arabic_caption(text):
    assert wrong_script(text, "ar") is None


@pytest.mark.parametrize("text", ["a cook", "١٢٣؟", "،؛", "َُ", "Повар", ""])
def test_no_arabic_letter_makes_no_arabic_caption(text):
    assert wrong_script(text, "ar") is not None


@pytest.mark.parametrize("text", ["a cook", "a café", "a sign that says طباخ", "A — “quote” 🙂", "naïve"])
def test_latin_letters_make_an_english_caption(text):
    assert wrong_script(text, "en") is None


@pytest.mark.parametrize(
    ("text", "word"), [("طباخة مع كرة a", "Arabic"), ("Повар с мячом", "non-Latin"), ("厨师 a", "non-Latin"), ("🙂 12", "without a letter")]
)
def test_other_letters_make_no_english_caption(text, word):
    assert word in (wrong_script(text, "en") or "")


@pytest.mark.parametrize("text", ["", " \n\t", "\u200f\u200e", "\u200d \ufeff", "\x00\x07"])
def test_what_nobody_can_see_is_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("cell", [7, {"a": 1}, [1, 2], 3.5, True, [["a"]]])
def test_only_texts_are_captions(cell):
    with pytest.raises(BadCaption, match="must be text"):
        captions_of([cell], "en")


@pytest.mark.parametrize("cell", [None, "", "[]", [], ["", None], '["", " "]'])
def test_no_caption_is_told(cell):
    with pytest.raises(BadCaption, match="no English caption"):
        captions_of([cell], "en")


@settings(deadline=None)
@given(st.text(), st.sampled_from(["en", "ar"]))
def test_any_text_is_kept_or_refused_with_a_reason(text, language):
    try:
        captions, n_blank = captions_of([text], language)
    except BadCaption as error:
        assert error.reason
    else:
        assert captions
        assert n_blank >= 0
        assert not any(is_blank(caption) or wrong_script(caption, language) for caption in captions)
