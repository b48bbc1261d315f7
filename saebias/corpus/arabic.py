"""Arabic writing: tokens of a caption, one normal spelling per word, and the clitics that can be split off it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_LETTERS = "\u0620-\u063f\u0641-\u064a\u066e\u066f\u0671-\u06d3\u06fa-\u06fc\ufb50-\ufbb1\ufbd3-\ufdf1\ufe70-\ufefc"
# Diacritics, tatweel, superscript alef, hamza and madda marks, and marks without width may stand inside a word.
_INSIDE = (
    _LETTERS + "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad"
)
TOKEN = re.compile(rf"[{_LETTERS}][{_INSIDE}]*|[^\W\d_]+")

_SAME_LETTER = str.maketrans({"أ": "ا", "إ": "ا", "ٱ": "ا", "ى": "ي", "ی": "ي", "ې": "ي", "ک": "ك", "ڪ": "ك", "ہ": "ه", "ھ": "ه", "ۀ": "ه", "ۃ": "ة"})
_STRETCHED = re.compile(r"(.)\1{2,}")
_DROPPED = re.compile(
    "[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad]"
)


def normal(word: str) -> str:
    """`word` in one spelling: no diacritics, tatweel or invisible marks; one alef (آ stays), one ya; stretched letters shortened to one."""
    composed = _DROPPED.sub("", unicodedata.normalize("NFKC", word)).translate(_SAME_LETTER)
    return _STRETCHED.sub(r"\1", composed)


def plain_alef(word: str) -> str:
    """`word` with آ written as ا, as many people write it."""
    return word.replace("آ", "ا")


# Conjunction, then preposition, then article. ل and the article merge into لل.
_CONJUNCTIONS = ("", "و", "ف")
_PREPOSITIONS = ("", "ب", "ك", "ل")


def _prefixes() -> tuple[tuple[str, bool, bool, bool], ...]:
    found = []
    for conjunction in _CONJUNCTIONS:
        for preposition in _PREPOSITIONS:
            for article in ("", "ال"):
                prefix = "لل" if preposition == "ل" and article else preposition + article
                found.append((conjunction + prefix, bool(conjunction), bool(preposition), bool(article)))
    # The fewest letters go first: a word is read whole before anything is taken off it.
    return tuple(sorted(found, key=lambda row: len(row[0])))


NOUN_PREFIXES = _prefixes()
"""(letters, conjunction?, preposition?, article?) of every legal combination before a noun."""

VERB_PREFIXES = tuple(
    (conjunction + future, bool(conjunction)) for conjunction in _CONJUNCTIONS for future in ("", "س", "ل", "ف", "أ", "ب") if conjunction + future != "فف"
)
"""(letters, conjunction?) before a verb: and, so; will; to; ب of the present in dialects."""

PRONOUNS = {
    "ها": "F",
    "ه": "M",
    "هما": "N",
    "هم": "MP",
    "هن": "FP",
    "ني": "1",
    "نا": "1",
    "ي": "1",
    "كما": "2",
    "كم": "2",
    "كن": "2",
    "ك": "2",
}
"""Attached pronouns and who they stand for: F, M, MP, FP, N (two persons), 1 and 2 (speaker, hearer)."""


def stems(word: str) -> Iterator[tuple[str, bool, bool, bool, str]]:
    """Every way to take clitics off a normalised noun: (stem, conjunction?, preposition?, article?, attached pronoun or "")."""
    for letters, conjunction, preposition, article in NOUN_PREFIXES:
        if not word.startswith(letters):
            continue
        rest = word[len(letters) :]
        if len(rest) < 2:
            continue
        yield rest, conjunction, preposition, article, ""
        if article:
            continue
        for pronoun in PRONOUNS:
            if pronoun != "ني" and rest.endswith(pronoun) and len(rest) - len(pronoun) >= 2:
                yield rest[: -len(pronoun)], conjunction, preposition, article, pronoun
