"""Arabic nouns and adjectives: the forms of a lexicon entry, and what the shape of an unknown noun says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from saebias.corpus.arabic import normal
from saebias.corpus.label_lexicon import Entry

PERSON_KINDS = frozenset(("person", "kin", "role", "role_plural", "state", "neutral", "open", "name"))
THING_KINDS = frozenset(("thing_m", "thing_f", "thing_plural", "institution", "animal", "animal_plural"))


class Noun(NamedTuple):
    """One inflected noun or adjective."""

    kind: str
    gender: str
    number: str
    explicit: bool
    ambiguous: bool
    lemma: str


def _noun(entry: Entry, gender: str, number: str) -> Noun:
    ambiguous = "ambiguous" in entry.note
    if entry.kind in ("role", "state", "adjective") and gender == "F":
        ambiguous = "feminine form also" in entry.note
    elif entry.kind in ("role", "state", "adjective") and gender == "M":
        ambiguous = "masculine also" in entry.note or number == "p"
    elif entry.kind == "role_plural":
        ambiguous = True
    explicit = gender == "F" or (gender == "M" and entry.kind in ("person", "kin"))
    return Noun(entry.kind, gender, number, explicit, ambiguous, entry.word)


def inflected(entry: Entry) -> Iterator[tuple[str, Noun]]:
    """Every written form of a lexicon entry with what it says."""
    word = normal(entry.word)
    base = _noun(entry, entry.gender, entry.number)
    yield word, base
    if (
        entry.number == "s"
        and entry.kind in ("person", "kin", "role", "state", "adjective", "thing_m", "animal", "neutral")
        and not word.endswith(("ة", "ا", "اء"))
    ):
        yield word + "ا", base
    if entry.number == "s" and entry.kind in ("animal", "neutral") and not word.endswith("ة"):
        yield word + "ان", base._replace(number="d")
        yield word + "ين", base._replace(number="d")
    if entry.number == "p" and word.endswith(("ون", "ين")):
        yield word[:-1], base
    if entry.kind in ("role", "state", "adjective"):
        yield from _role_forms(entry, word)


def _role_forms(entry: Entry, word: str) -> Iterator[tuple[str, Noun]]:
    if entry.number != "s":
        return
    if entry.gender == "F":
        if word.endswith("ة"):
            yield from _feminine_forms(entry, word[:-1])
        return
    if word.endswith(("ة", "ا")):
        return
    if "no feminine" not in entry.note:
        yield from _feminine_forms(entry, word)
    plural = _noun(entry, "M", "p")
    stem = word[:-1] if word.endswith("ي") and not entry.word.endswith(("يّ",)) and len(word) <= 5 and "ا" in word[1:3] else word
    for ending in ("ون", "ين", "وا"):
        if ending != "وا":
            yield stem + ending, plural
    dual = _noun(entry, "M", "d")
    yield word + "ان", dual
    if stem != word:
        # قاض for قاضي where the word is indefinite.
        yield stem, _noun(entry, "M", "s")._replace(ambiguous=True)


def _feminine_forms(entry: Entry, stem: str) -> Iterator[tuple[str, Noun]]:
    single, plural, dual = _noun(entry, "F", "s"), _noun(entry, "F", "p"), _noun(entry, "F", "d")
    yield stem + "ة", single
    yield stem + "ات", plural
    for ending in ("تان", "تين", "تا", "تي"):
        yield stem + ending, dual


def guessed_noun(stem: str) -> Noun:
    """What the ending of an unlisted noun says of its gender and number; "-" where it says nothing."""
    gender, number = "-", "-"
    if stem.endswith("ة") or (stem.endswith(("اء", "يا")) and len(stem) > 3):
        gender, number = "F", "s"
    elif stem.endswith("ات"):
        gender, number = "F", "p"
    return Noun("guess", gender, number, False, False, stem)
