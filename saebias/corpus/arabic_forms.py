"""Arabic word forms: what a written word can be by itself, from the lexicons and from the way it is built."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from saebias.corpus.arabic import PRONOUNS, VERB_PREFIXES, normal, plain_alef, stems
from saebias.corpus.arabic_nouns import Noun, guessed_noun, inflected
from saebias.corpus.arabic_verbs import Verb, imperfect, verb_tables
from saebias.corpus.label_lexicon import Entry, extra_entries, lexicon, words_of

_KEEP_FORMS = 300_000


class Word(NamedTuple):
    """What one written token can be. `noun` and `verb` may both be there: the caption decides."""

    text: str
    noun: Noun | None
    verb: Verb | None
    conjunction: bool
    preposition: bool
    article: bool
    pronoun: str
    """The attached pronoun: F, M, FP, MP, N, 1, 2 or ""."""
    host: str
    """Stem that carries the attached pronoun."""
    function: str
    """Kind of function word, or ""."""


class ArabicForms:
    """What written tokens can be, computed once per spelling."""

    def __init__(self, extra_lexicon: Path | None = None) -> None:
        entries = (*extra_entries(extra_lexicon, "ar"), *lexicon("ar_words"), *lexicon("ar_persons"))
        self.functions: dict[str, str] = {}
        self.hosts: frozenset[str] = frozenset(normal(entry.word) for entry in entries if entry.kind == "human_host")
        self.pronouns: dict[str, tuple[str, str]] = {}
        self.nouns: dict[str, Noun] = {}
        for entry in entries:
            self._add(entry)
        self.past, self.imperfect = verb_tables()
        self._words: dict[str, Word] = {}

    def _add(self, entry: Entry) -> None:
        if entry.kind in ("pronoun", "relative", "demonstrative"):
            self.pronouns.setdefault(normal(entry.word), (entry.kind, entry.gender + ("P" if entry.number == "p" else "")))
        elif entry.kind in ("preposition", "clause", "verb_particle", "adverb", "you"):
            self.functions.setdefault(normal(entry.word), entry.kind)
        elif entry.kind != "human_host":
            for form, noun in inflected(entry):
                self._put(form, noun, entry)

    def _put(self, form: str, noun: Noun, entry: Entry) -> None:
        known = self.nouns.get(form)
        # An entry's own form wins over a form made by rule, and a person noun over a role's homograph.
        if known is None or (normal(entry.word) == form and normal(known.lemma) != form):
            self.nouns[form] = noun
        other = plain_alef(form)
        # آلام without its madda would be "the mother".
        if other != form and not other.startswith("ال") and other not in self.nouns:
            self.nouns[other] = noun

    def word(self, token: str) -> Word:
        """What a token as matched by TOKEN can be."""
        found = self._words.get(token)
        if found is None:
            if len(self._words) >= _KEEP_FORMS:
                self._words.clear()
            found = self._build(normal(token))
            if found.noun is not None and found.noun.kind == "guess" and "إ" in unicodedata.normalize("NFKC", token):
                # إصدار is an act, أصدار would be things.
                found = found._replace(noun=found.noun._replace(kind="act"))
            self._words[token] = found
        return found

    def _build(self, text: str) -> Word:
        blank = Word(text, None, None, False, False, False, "", "", "")
        if not text or not "\u0620" <= text[0] <= "\u06d3":
            return blank._replace(function="latin")
        for prefix in ("", "و", "ف"):
            rest = text[len(prefix) :]
            if not text.startswith(prefix) or not rest:
                continue
            if rest not in self.pronouns and rest[:1] in ("ب", "ل", "ك") and rest[1:] in self.pronouns:
                return blank._replace(function="adverb", conjunction=bool(prefix))
            if rest in self.pronouns:
                kind, gender = self.pronouns[rest]
                return blank._replace(function=kind, host=gender, conjunction=bool(prefix))
            if rest in self.functions and (not prefix or len(rest) > 1):
                return blank._replace(function=self.functions[rest], conjunction=bool(prefix))
        particle = self._particle(text, blank)
        if particle is not None:
            return particle
        noun = self._as_noun(text, blank)
        verb, conjunction, pronoun = self._as_verb(text)
        if noun is None and verb is not None and verb.noun_with_pronoun and pronoun in ("F", "M", "MP"):
            noun = self._unknown(text, blank)
            return noun._replace(verb=verb._replace(homograph=True))
        if noun is not None:
            if verb is not None and not noun.article and not noun.preposition:
                return noun._replace(verb=verb)
            return noun
        if verb is not None:
            return blank._replace(verb=verb, conjunction=conjunction, pronoun=pronoun, host="verb" if pronoun else "")
        return self._unknown(text, blank)

    def _particle(self, text: str, blank: Word) -> Word | None:
        """A particle or preposition with an attached pronoun: انها, لكنه, عليها, لها."""
        for prefix in ("", "و", "ف"):
            rest = text[len(prefix) :]
            if not text.startswith(prefix):
                continue
            for pronoun, person in PRONOUNS.items():
                if rest.endswith(pronoun) and rest[: -len(pronoun)] in _PRONOUN_PARTICLES:
                    return blank._replace(function="particle", conjunction=bool(prefix), pronoun=person, host="")
        return None

    def _as_noun(self, text: str, blank: Word) -> Word | None:
        for stem, conjunction, preposition, article, pronoun in stems(text):
            noun, host = self.nouns.get(stem), stem
            if pronoun and stem.endswith("ت") and stem[:-1] + "ة" in self.nouns:
                host = stem[:-1] + "ة"
                noun = self.nouns[host]
            if noun is None and pronoun and stem.endswith("ا") and len(stem) > 3:
                continue
            if noun is None:
                continue
            if not _plausible(stem, noun, conjunction, preposition, article, pronoun):
                continue
            return Word(text, noun, None, conjunction, preposition, article, PRONOUNS.get(pronoun, ""), host if pronoun else "", "")
        if text.endswith("ه"):
            # People write ه for ة at the end of a word.
            variant = self._as_noun(text[:-1] + "ة", blank)
            if variant is not None and variant.noun is not None and variant.noun.gender == "F":
                return variant._replace(text=text, noun=variant.noun._replace(ambiguous=variant.noun.kind != "person"))
        return None

    def _as_verb(self, text: str) -> tuple[Verb | None, bool, str]:
        for letters, conjunction in VERB_PREFIXES:
            if not text.startswith(letters):
                continue
            rest = text[len(letters) :]
            for pronoun in ("", *PRONOUNS):
                if pronoun and not (rest.endswith(pronoun) and len(rest) - len(pronoun) >= 3):
                    continue
                if PRONOUNS.get(pronoun) in ("1", "2") and (letters.endswith("س") or text.startswith("ال") or _MASDAR.fullmatch(text)):
                    continue
                core = rest[: -len(pronoun)] if pronoun else rest
                verb = None if letters.endswith(("س", "ل", "أ", "ب")) or (letters == "ف" and len(core) < 4) else self.past.get(core)
                # فيلم is a film, not "so he gathers".
                present = None if letters == "ف" and len(core) < 4 else imperfect(core, self.imperfect)
                if verb is None:
                    verb = present
                elif present is not None and present.gender == "F" and verb.gender == "M" and core not in _LEARNED:
                    verb = present._replace(gender="?")
                if verb is not None and not (verb.homograph and letters.endswith("ب")):
                    return verb, conjunction, PRONOUNS.get(pronoun, "")
        return None, False, ""

    def _unknown(self, text: str, blank: Word) -> Word:
        """A word of no lexicon: its ending tells the gender it agrees in, its clitics who is meant."""
        for prefix, preposition in _ARTICLES:
            if text.startswith(prefix) and len(text) - len(prefix) >= 3:
                return blank._replace(noun=guessed_noun(text[len(prefix) :]), article=True, preposition=preposition, conjunction=prefix[0] in "وف")
        hosted = self._unknown_host(text, blank)
        if hosted is not None:
            return hosted
        rest = text
        if text.endswith("ت") and not text.endswith("ات") and len(text) >= 4:
            rest = text[1:] if text[0] in "وف" and len(text) > 4 else text
            return blank._replace(verb=Verb("F", False, True, False, True, unknown=True), conjunction=rest != text)
        # The nouns in ة that begin with these letters are in the lexicon: on any other word they are clitics.
        conjunction = preposition = False
        if rest.endswith(("ة", "ات")):
            if rest[0] in "وف" and len(rest) > 4:
                rest, conjunction = rest[1:], True
            if rest[0] in "بلك" and len(rest) > 4:
                rest, preposition = rest[1:], True
        return blank._replace(noun=guessed_noun(rest), conjunction=conjunction, preposition=preposition)

    def _unknown_host(self, text: str, blank: Word) -> Word | None:
        """A noun of no lexicon with an attached pronoun."""
        for pronoun, person in PRONOUNS.items():
            stem = text.removesuffix(pronoun)
            if person in ("1", "2") or stem == text or len(stem) < 3:
                continue
            for letters in ("", "و", "ب", "ل", "ك", "ف", "وب", "ول"):
                core = stem.removeprefix(letters)
                if letters and core == stem:
                    continue
                whole = core[:-1] + "ة" if core.endswith("ت") else core
                host = whole if whole in self.hosts else core
                if host in self.hosts:
                    return blank._replace(noun=guessed_noun(host), pronoun=person, host=host, preposition=letters[-1:] in ("ب", "ل", "ك"))
            if pronoun != "ه" or len(stem) >= 4 or stem.endswith("ت"):
                return blank._replace(noun=guessed_noun(stem[:-1] + "ة" if stem.endswith("ت") else stem), pronoun=person, host=stem)
        return None


_ARTICLES = (("وال", False), ("فال", False), ("بال", True), ("كال", True), ("لل", True), ("وبال", True), ("ولل", True), ("ال", False))

# "He learned" rather than "she knows" where a sentence begins with it.
_LEARNED = words_of("ar_contexts", "past form in ت")

# تدليك is "massage", not "she leads you".
_MASDAR = re.compile("ت..ي.")

_PRONOUN_PARTICLES = words_of("ar_contexts", "takes a pronoun")


def _plausible(stem: str, noun: Noun, conjunction: bool, preposition: bool, article: bool, pronoun: str) -> bool:
    """Whether a short word with clitics is meant: كم and بعد are no "like a mother" and "with a grandfather"."""
    if stem in ("ام", "اب", "اخ"):
        return not preposition
    if stem in ("اخو", "اخا", "ابو", "ابا"):
        return bool(pronoun)
    if stem in ("شباب", "ذكر") and pronoun:
        # "Her youth" and "its mention".
        return False
    if stem in ("عم", "خال", "جد"):
        return article or (pronoun in ("ه", "ها", "هم", "ي") and not preposition)
    if len(stem) <= 3 and (preposition and not article) and noun.kind not in ("person", "kin", "thing_m", "thing_f"):
        return False
    return not (len(stem) <= 2 and (preposition or pronoun))
