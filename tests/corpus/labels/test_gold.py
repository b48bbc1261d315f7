"""The labels of hand-written captions are what a careful annotator says."""

from __future__ import annotations

import pytest

from saebias.corpus.labels import label_caption

from .conftest import gold


@pytest.mark.parametrize("language", ["en", "ar"])
def test_there_are_three_hundred_gold_captions_and_all_are_read_right(language: str) -> None:
    captions = gold(language)
    wrong = [
        (label, text, label_caption(text, language))
        for label, explicit, text in captions
        if label_caption(text, language).label != label or (explicit is not None and label_caption(text, language).explicit != explicit)
    ]
    assert len(captions) >= 300
    assert not wrong


@pytest.mark.parametrize("language", ["en", "ar"])
def test_every_piece_of_evidence_stands_where_it_says(language: str) -> None:
    for _, _, text in gold(language):
        label = label_caption(text, language)
        for item in (*label.evidence, *label.rejected):
            assert text[item.start : item.end] == item.surface
            assert item.mention_start < 0 or text[item.mention_start :].startswith(item.mention)
            assert item.rule


@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_gendered_label_always_has_evidence_of_that_gender(language: str) -> None:
    for _, _, text in gold(language):
        label = label_caption(text, language)
        genders = {item.gender for item in label.evidence}
        if label.label == "X":
            assert {"F", "M"} <= genders
        elif label.label in "FM":
            assert label.label in genders
        elif label.label == "N":
            assert genders == {"N"}
        else:
            assert not genders
