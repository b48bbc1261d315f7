"""One interface for reading gender off a caption, in English and Arabic, with the written signs that it rests on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from saebias.errors import InputError

LABELS = ("F", "M", "N", "X", "0")


class Evidence(NamedTuple):
    """One written sign of a person or a gender: `text[start:end] == surface`."""

    surface: str
    start: int
    end: int
    rule: str
    gender: str
    """F, M, or N (a person named without gender)."""
    mention: str = ""
    """The person mention that the sign is bound to, as written; empty for a person who is not named."""
    mention_start: int = -1
    explicit: bool = True
    """False for N and for Arabic masculine by grammar alone, which is the unmarked default of the language."""
    ambiguous: bool = False
    """A careful reader would hesitate: generic plural, second person, pronoun that may be an animal's."""


class CaptionLabel(NamedTuple):
    """What a caption says about gender. F, M, N (a person, no gender said), X (both), 0 (no person)."""

    label: str
    explicit: bool
    ambiguous: bool
    """The label rests on ambiguous evidence only."""
    evidence: tuple[Evidence, ...]
    rejected: tuple[Evidence, ...]
    """Matched but not counted; the rule says why (name, fixed phrase, thing, animal, not a person)."""
    words: int
    """Word tokens in the caption, so that counts can be given per 100 words."""


Labeller = Callable[[str], CaptionLabel]


def label_caption(text: str, language: str, extra_lexicon: Path | None = None) -> CaptionLabel:
    """The gender label of one caption. `language` is "en" or "ar"; `extra_lexicon` adds or overrides words (see `label_lexicon`)."""
    return labeller(language, extra_lexicon)(text)


def label_captions(texts: Iterable[str], language: str, extra_lexicon: Path | None = None) -> list[CaptionLabel]:
    """The gender labels of many captions of one language, in order."""
    label = labeller(language, extra_lexicon)
    return [label(text) for text in texts]


@cache
def labeller(language: str, extra_lexicon: Path | None = None) -> Labeller:
    """The labelling function of a language, built once. Raises InputError for a language other than en and ar."""
    if language == "en":
        from saebias.corpus.labels_en import english_labeller

        return english_labeller(extra_lexicon)
    if language == "ar":
        from saebias.corpus.labels_ar import arabic_labeller

        return arabic_labeller(extra_lexicon)
    raise InputError(f"no gender labels for language {language!r}; captions are labelled in 'en' and 'ar'")


def conclude(evidence: list[Evidence], rejected: list[Evidence], words: int) -> CaptionLabel:
    """The label that the evidence supports. Certain evidence outweighs ambiguous evidence; explicit masculine outweighs grammatical masculine.

    Feminine evidence beside masculine by grammar alone is F: the masculine form says "a person" there, as in generic plurals.
    """
    gendered = [item for item in evidence if item.gender != "N"]
    certain = [item for item in gendered if not item.ambiguous]
    decisive = certain or gendered
    feminine = any(item.gender == "F" for item in decisive)
    masculine = any(item.gender == "M" for item in decisive)
    explicit_masculine = any(item.gender == "M" and item.explicit for item in decisive)
    if feminine:
        label = "X" if explicit_masculine else "F"
    elif masculine:
        label = "M"
    else:
        label = "N" if evidence else "0"
    explicit = feminine or explicit_masculine
    ambiguous = bool(gendered) and not certain
    return CaptionLabel(label, explicit, ambiguous, tuple(evidence), tuple(rejected), words)


def agreement_consistent(label: CaptionLabel) -> bool | None:
    """Do all gender marks that are bound to one mention agree? None where no mention carries two marks."""
    marks: dict[int, list[str]] = {}
    for item in label.evidence:
        if item.gender != "N" and item.mention_start >= 0:
            marks.setdefault(item.mention_start, []).append(item.gender)
    repeated = [genders for genders in marks.values() if len(genders) > 1]
    if not repeated:
        return None
    return all(len(set(genders)) == 1 for genders in repeated)


_ARABIC_LETTER = re.compile(r"[\u0620-\u064a\u066e-\u06d3\ufb50-\ufdff\ufe70-\ufefc]")
_LATIN_LETTER = re.compile(r"[A-Za-z\u00c0-\u024f]")


def language_of(text: str) -> str | None:
    """The language whose script most letters of `text` are in: "en", "ar", or None where there is no letter or a tie."""
    arabic, latin = len(_ARABIC_LETTER.findall(text)), len(_LATIN_LETTER.findall(text))
    if arabic == latin:
        return None
    return "ar" if arabic > latin else "en"
