"""English word forms: tokens of a caption and what each says by itself, from the lexicon or from the way the word is built."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from saebias.corpus.label_lexicon import Entry, extra_entries, lexicon

# Letters, combining marks and full-width forms; marks without width (soft hyphen, joiners, direction marks) may stand inside a word.
_LETTER = "A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff\ufb00-\ufb06\uff21-\uff3a\uff41-\uff5a"
_INSIDE = _LETTER + "\u0300-\u036f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
TOKEN = re.compile(rf"[{_LETTER}][{_INSIDE}]*(?:['’ʼ＇\-‐‑][{_LETTER}][{_INSIDE}]*)*")

_KEEP_FORMS = 200_000


class Phrase(NamedTuple):
    """A sequence of folded tokens that is decided as a whole; `capitals` marks tokens that must be capitalised in the caption."""

    words: tuple[str, ...]
    capitals: tuple[bool, ...]
    gender: str
    rule: str


class Form(NamedTuple):
    """What one written token says by itself."""

    folded: str
    """Lower case, no diacritics, straight apostrophe."""
    base: str
    """`folded` without a possessive or contracted ending."""
    possessive: bool
    capital: bool
    entry: Entry | None
    phrases: tuple[Phrase, ...]
    """The phrases that begin with this token."""

    @property
    def matters(self) -> bool:
        """Whether the token can be evidence or begin a phrase."""
        return self.entry is not None or bool(self.phrases)


def fold(word: str) -> str:
    """`word` in lower case without diacritics and invisible marks, with a straight apostrophe and hyphen."""
    if word.isascii():
        return word.lower()
    letters = [letter for letter in unicodedata.normalize("NFKD", word) if unicodedata.category(letter) not in ("Mn", "Cf")]
    return "".join(letters).replace("’", "'").replace("ʼ", "'").replace("‐", "-").replace("‑", "-").lower()


class EnglishForms:
    """The forms of tokens, computed once per spelling."""

    def __init__(self, extra_lexicon: Path | None = None) -> None:
        words = (*lexicon("en"), *extra_entries(extra_lexicon, "en"))
        self._entries: dict[str, Entry] = {fold(entry.word): entry for entry in words if " " not in entry.word}
        phrases = (*lexicon("en_phrases"), *(entry for entry in words if " " in entry.word))
        self._phrases = _phrases_by_first_word(phrases)
        self._forms: dict[str, Form] = {}

    def form(self, token: str) -> Form:
        """The form of a token as matched by TOKEN."""
        found = self._forms.get(token)
        if found is None:
            if len(self._forms) >= _KEEP_FORMS:
                self._forms.clear()
            found = self._forms[token] = self._build(token)
        return found

    def _build(self, token: str) -> Form:
        folded = fold(token)
        base, possessive = folded, False
        cut = folded.rfind("'")
        if cut > 0 and folded[cut + 1 :] in ("s", "d", "ll", "ve", "re", "m"):
            base, possessive = folded[:cut], folded[cut + 1 :] == "s"
        entry = self._entries.get(folded) or self._entries.get(base) or self._compound(base, token)
        return Form(folded, base, possessive, token[:1].isupper(), entry, self._phrases.get(folded, ()))

    def _compound(self, base: str, token: str) -> Entry | None:
        """The entry of a word that is not in the lexicon but built from one that is."""
        if "-" in base:
            return self._hyphenated(base)
        for ending, gender, number in _PERSON_ENDINGS:
            if base.endswith(ending) and len(base) >= len(ending) + 2:
                # A capitalised "-man" is a surname more often than a man (Freeman, Whitman).
                if gender == "M" and ending in ("man", "men") and token[:1].isupper():
                    return None
                return Entry(base, gender, number, "compound", "rule")
        return self._feminine_form(base)

    def _hyphenated(self, base: str) -> Entry | None:
        parts = base.split("-")
        if parts[-1] in ("law", "be") and len(parts) > 2:
            return self._entries.get(parts[-3])
        if parts[-1] in ("made", "like", "only", "friendly", "sized", "size", "free"):
            return None
        last = self._entries.get(parts[-1]) or (self._compound(parts[-1], parts[-1]) if len(parts[-1]) > 5 else None)
        if last is None or last.gender == "-" or last.kind == "pronoun":
            return None
        if parts[0] == "she":
            return None
        return last

    def _feminine_form(self, base: str) -> Entry | None:
        """`-ess` on a word for a person: captainess, chancelloress; a tripled s is a slip of the pen."""
        word = base.replace("sss", "ss")
        if word != base and word in self._entries:
            return self._entries[word]
        number = "s"
        if word.endswith("esses"):
            word, number = word[:-2], "p"
        if not word.endswith("ess") or len(word) < 6:
            return None
        for stem in (word[:-3], word[:-3] + "er", word[:-3] + "or", word[:-4], word[:-2], word[:-3] + "ef"):
            known = self._entries.get(stem)
            if known is not None and known.kind in ("role", "person", "title") and known.gender != "F":
                return Entry(base, "F", number, "feminine form", "rule")
        return None


_PERSON_ENDINGS = (
    ("woman", "F", "s"),
    ("women", "F", "p"),
    ("mother", "F", "s"),
    ("mothers", "F", "p"),
    ("daughter", "F", "s"),
    ("daughters", "F", "p"),
    ("sister", "F", "s"),
    ("sisters", "F", "p"),
    ("father", "M", "s"),
    ("fathers", "M", "p"),
    ("brother", "M", "s"),
    ("brothers", "M", "p"),
    ("person", "N", "s"),
    ("people", "N", "p"),
    ("persons", "N", "p"),
    ("man", "M", "s"),
    ("men", "M", "p"),
)


def _phrases_by_first_word(entries: Iterable[Entry]) -> dict[str, tuple[Phrase, ...]]:
    found: dict[str, list[Phrase]] = {}
    for entry in entries:
        tokens = [match[0] for match in TOKEN.finditer(entry.word)]
        words = tuple(fold(token) for token in tokens)
        capitals = tuple(token[:1].isupper() for token in tokens)
        found.setdefault(words[0], []).append(Phrase(words, capitals, entry.gender, entry.kind))
    # The longest phrase wins, so that "king charles spaniel" is read before "king charles".
    return {word: tuple(sorted(phrases, key=lambda phrase: -len(phrase.words))) for word, phrases in found.items()}
