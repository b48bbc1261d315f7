"""Facts of the two languages that a labeller has to know, one case each."""

from __future__ import annotations

import pytest

from saebias.corpus.labels import agreement_consistent, label_caption, label_captions, language_of
from saebias.errors import InputError


@pytest.mark.parametrize("word", ["شخص", "فرد", "إنسان"])
def test_arabic_words_for_a_person_are_neutral_though_masculine(word: str) -> None:
    assert label_caption(f"{word} يقف أمام الباب", "ar").label == "N"


@pytest.mark.parametrize("word", ["شخصية", "ضحية"])
def test_arabic_words_for_a_character_and_a_victim_are_neutral_though_feminine(word: str) -> None:
    assert label_caption(f"{word} تقف أمام الباب", "ar").label == "N"


@pytest.mark.parametrize("text", ["السيارات تقف", "الكلاب تنبح", "الأشجار تنمو في الحديقة", "السيارة تقف هنا", "تقف السيارة هنا"])
def test_non_human_agreement_is_no_woman(text: str) -> None:
    assert label_caption(text, "ar").label == "0"


def test_a_caliph_ends_in_ta_marbuta_and_is_masculine() -> None:
    assert label_caption("خليفة يجلس على العرش", "ar").label == "M"


@pytest.mark.parametrize("text", ["أم تحمل طفلها", "بنت تقرأ", "عروس جميلة", "امرأة حامل"])
def test_feminine_words_without_ta_marbuta_are_feminine(text: str) -> None:
    assert label_caption(text, "ar").label == "F"


@pytest.mark.parametrize("word", ["أبيض", "أمام", "أخضر", "الهواء", "أخبار", "أمس", "كم", "بعد"])
def test_a_father_mother_brother_or_he_is_not_inside_another_word(word: str) -> None:
    assert label_caption(word, "ar").label == "0"


def test_her_may_be_a_car_and_the_mark_is_shown_as_rejected() -> None:
    label = label_caption("السيارة ولونها أحمر", "ar")
    assert label.label == "0"
    assert [item.surface for item in label.rejected if item.rule == "pronoun of a thing"] == ["ولونها"]


def test_a_feminine_present_may_be_you_and_is_flagged() -> None:
    assert label_caption("هل أنت تشرب القهوة", "ar").ambiguous
    assert not label_caption("امرأة تشرب القهوة", "ar").ambiguous


@pytest.mark.parametrize("prefix", ["و", "ف", "ب", "ل", "ك", "وب", "فل", "وك", "ال", "وال", "بال", "كال", "لل", "ولل", "فبال"])
def test_every_legal_clitic_comes_off_a_woman_doctor(prefix: str) -> None:
    label = label_caption(f"{prefix}طبيبة", "ar")
    assert (label.label, label.evidence[0].surface) == ("F", f"{prefix}طبيبة")


@pytest.mark.parametrize(
    ("text", "label"),
    [("طبيبتان", "F"), ("طبيبات", "F"), ("طبيبون", "M"), ("معلمان", "M"), ("أطباء", "M"), ("نساء", "F"), ("رجال", "M"), ("رجلان", "M"), ("امرأتان", "F")],
)
def test_arabic_duals_and_plurals_carry_gender(text: str, label: str) -> None:
    assert label_caption(text, "ar").label == label


def test_arabic_masculine_is_explicit_in_a_man_and_grammatical_in_a_doctor() -> None:
    assert label_caption("رجل يقف", "ar").explicit
    assert not label_caption("طبيب يقف", "ar").explicit
    assert label_caption("طبيبة تقف", "ar").explicit


def test_agreement_is_bound_to_its_person() -> None:
    label = label_caption("امرأة جميلة تحمل حقيبتها", "ar")
    assert {item.mention for item in label.evidence} == {"امرأة"}
    assert [item.rule for item in label.evidence] == ["person noun", "adjective", "verb agreement", "attached pronoun"]
    assert agreement_consistent(label) is True


def test_broken_agreement_is_seen() -> None:
    assert agreement_consistent(label_caption("سيدة أصلع", "ar")) is False
    assert agreement_consistent(label_caption("سيدة", "ar")) is None


@pytest.mark.parametrize("text", ["the theme of the theater", "other weather", "the feather", "a shelf", "history"])
def test_he_and_she_are_not_inside_other_words(text: str) -> None:
    assert label_caption(text, "en").label == "0"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a policewoman", "F"), ("businessmen", "M"), ("an ex-chancelloress", "F"), ("a landlady", "F"), ("her mother-in-law", "F"),
        ("great-granddaughters", "F"), ("two waitresses", "F"), ("it is hers", "F"), ("he hurt himself", "M"), ("the girls’ bags", "F"),
    ],
)  # fmt: skip
def test_english_compounds_possessives_and_reflexives_are_read(text: str, label: str) -> None:
    assert label_caption(text, "en").label == label


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Man City fans' flag", "name"), ("the history of man", "generic man"), ("Her Majesty's Ship", "name"),
        ("a cat licking her paw", "pronoun of an animal"),
        ("a male lion", "adjective of a thing or an animal"), ("a queen bed", "thing"), ("the women's clothing", "thing for them"),
    ],
)  # fmt: skip
def test_what_was_matched_but_not_counted_says_why(text: str, rule: str) -> None:
    rejected = label_caption(text, "en").rejected
    assert any(rule in item.rule for item in rejected)


def test_boy_scouts_are_evidence_by_a_rule() -> None:
    (item,) = label_caption("boy scouts in a tent", "en").evidence
    assert (item.surface, item.gender, item.rule) == ("boy scouts", "M", "fixed phrase: boys")


def test_the_name_of_a_work_does_not_outweigh_the_person() -> None:
    assert label_caption("In 1990 he starred in Working Girl and My Stepmother Is an Alien.", "en").label == "M"


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("text", ["", " ", "\u200f\u202b", "12 + 7 = ١٩", "👩‍🍳👨", "\x00\x07", "!!!", "…", "\ud800"])
def test_captions_without_words_name_nobody(language: str, text: str) -> None:
    assert label_caption(text, language).label == "0"


def test_a_caption_in_the_wrong_language_is_not_guessed() -> None:
    assert label_caption("a woman with a guitar", "ar").label == "0"
    assert label_caption("امرأة مع جيتار", "en").label == "0"
    assert language_of("امرأة مع جيتار") == "ar"
    assert language_of("a woman") == "en"
    assert language_of("👩 12") is None


def test_mixed_script_captions_are_read_in_their_language() -> None:
    assert label_caption("امرأة woman in Paris", "ar").label == "F"
    assert label_caption("a man named محمد", "en").label == "M"


def test_an_unknown_language_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"'fr'.*'en' and 'ar'"):
        label_captions(["une femme"], "fr")


@pytest.mark.parametrize(("language", "words"), [("en", "a woman holding her hat near the sea "), ("ar", "امرأة تحمل حقيبتها قرب البحر ")])
def test_a_caption_of_ten_thousand_words_is_read(language: str, words: str) -> None:
    label = label_caption(words * 2_000, language)
    assert label.label == "F"
    assert label.words >= 10_000
