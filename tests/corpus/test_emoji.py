import csv
from pathlib import Path

import pytest

from saebias.corpus import emoji
from saebias.errors import InputError

TRIPLES = Path(__file__).parents[3] / "shared" / "data" / "emoji" / "triples.csv"


def test_there_are_84_concepts_and_494_of_them_with_skin_tones():
    concepts = emoji.load_concepts()
    assert len(concepts) == len({concept.key for concept in concepts}) == 84
    assert sum(len(concept.tones) for concept in concepts) == 494


def test_concepts_without_skin_tones_are_the_genie_and_the_zombie():
    assert [concept.key for concept in emoji.load_concepts() if concept.tones == ("none",)] == ["genie", "zombie"]


@pytest.mark.parametrize("style", emoji.STYLES)
def test_every_concept_has_its_1482_pictures_in_each_style(style):
    sequences = [concept.sequence(gender, tone) for concept in emoji.load_concepts() for tone in concept.tones for gender in emoji.GENDERS]
    assert len(sequences) == 1482
    heads = {emoji.picture_source(sequence, style)[:4] for sequence in sequences}
    assert heads == ({b"\x89PNG"} if style == "twemoji" else {b"<svg"})


def test_names_and_sequences_are_those_of_the_reference_table():
    if not TRIPLES.is_file():
        pytest.skip(f"the reference table {TRIPLES} is not here")
    with TRIPLES.open(encoding="utf-8") as file:
        expected = {tuple(row[key] for key in ("person", "man", "woman", "en_p", "en_m", "en_w", "ar_p", "ar_m", "ar_w")) for row in csv.DictReader(file)}
    found = {(c.sequence_N, c.sequence_M, c.sequence_F, c.en.N, c.en.M, c.en.F, c.ar.N, c.ar.M, c.ar.F) for c in emoji.load_concepts()}
    assert found == expected


def test_openmoji_draws_108_neutral_people_as_the_man_and_6_as_the_woman():
    pictures = emoji.ambiguous_pictures("openmoji")
    assert (pictures.identical_to_man, pictures.identical_to_woman) == (108, 6)
    assert len(pictures.kept) + 108 + 6 + pictures.gendered_name == 494


def test_no_ambiguous_picture_has_the_bytes_of_a_gendered_one():
    for style in emoji.STYLES:
        for key, tone in emoji.ambiguous_pictures(style).kept:
            concept = emoji.concept_by_key(key)
            neutral = emoji.picture_source(concept.sequence("N", tone), style)
            assert neutral not in {emoji.picture_source(concept.sequence(gender, tone), style) for gender in "FM"}


@pytest.mark.parametrize("style", emoji.STYLES)
def test_turban_veil_and_fairy_are_never_ambiguous(style):
    kept = {key for key, _ in emoji.ambiguous_pictures(style).kept}
    assert len(emoji.GENDERED_NEUTRAL_NAMES) == 3
    assert kept.isdisjoint(emoji.GENDERED_NEUTRAL_NAMES)


def test_18_of_20_neutral_arabic_occupation_names_are_bare_masculine_nouns():
    names = {key: emoji.concept_by_key(key).ar.N for key in emoji.OCCUPATIONS}
    assert len(names) == 20
    # "A person who ..." is the only wording that avoids a gendered noun.
    assert {key for key, name in names.items() if name.startswith("شخص ")} == {"construction worker", "detective"}
    assert not any(name.split(" ")[0].endswith("ة") for name in names.values())


def test_a_feminine_name_ends_in_the_feminine_letter_where_the_masculine_one_does_not():
    cook = emoji.concept_by_key("cook")
    assert (cook.ar.M, cook.ar.F, cook.en.F) == ("طباخ", "طباخة", "woman cook")


@pytest.mark.parametrize("style", emoji.STYLES)
def test_a_picture_has_the_asked_size_and_a_transparent_ground(style):
    image = emoji.picture(emoji.concept_by_key("judge").sequence("F", "dark"), style, 64)
    assert image.size == (64, 64)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (0, 0, 0, 0) or image.getpixel((0, 0))[3] == 0


def test_a_variation_selector_gives_way_to_the_skin_tone():
    assert emoji.with_tone("🕵️", "dark") == "🕵🏿"
    assert emoji.with_tone("🧑‍⚕️", "dark") == "🧑🏿‍⚕️"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: emoji.concept_by_key("nurse"), "nurse"),
        (lambda: emoji.concept_by_key("genie").sequence("F", "dark"), "skin tone"),
        (lambda: emoji.concept_by_key("cook").sequence("X"), "gender 'X'"),
        (lambda: emoji.picture_source("🧑", "notoemoji"), "notoemoji"),
        (lambda: emoji.picture_source("zz", "twemoji"), "no picture"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_it(call, said):
    with pytest.raises(InputError, match=said):
        call()
