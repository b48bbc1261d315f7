"""Gender labels of English captions: whole words and phrases from the lexicon, each read in its place.

A word counts unless its place says otherwise: part of a name or fixed phrase, the generic "man", an adjective on an animal,
a pronoun whose nearest possible antecedent is an animal or a ship, a room or garment "for men".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from re import Match

from saebias.corpus.english import TOKEN, EnglishForms, Form, Phrase
from saebias.corpus.label_lexicon import words_of
from saebias.corpus.labels import CaptionLabel, Evidence, Labeller, conclude

_DETERMINERS = words_of("en_contexts", "determiner")
_VERB_OBJECTS = words_of("en_contexts", "determiner of an object")
_SURNAMES = words_of("en_contexts", "may be a surname")
_BEFORE_TITLE = words_of("en_contexts", "before a title")
_VERBS = words_of("en_contexts", "also a verb")
_PLACES = words_of("en_contexts", "place")
_YOUNG = words_of("en_contexts", "young of an animal")
_PARENTAL = words_of("en_contexts", "side of the family")


def english_labeller(extra_lexicon: Path | None = None) -> Labeller:
    """The labelling function of English captions; words of `extra_lexicon` add to and override the lexicon."""
    forms = EnglishForms(extra_lexicon)

    def label(text: str) -> CaptionLabel:
        matches = list(TOKEN.finditer(text))
        tokens = [forms.form(match[0]) for match in matches]
        hits = [place for place, token in enumerate(tokens) if token.entry is not None or token.phrases]
        if not hits:
            return CaptionLabel("0", False, False, (), (), len(tokens))
        return _Reading(text, matches, tokens).read(hits)

    return label


class _Reading:
    """One caption being read from left to right; what was named so far is what a pronoun may mean."""

    def __init__(self, text: str, matches: list[Match[str]], tokens: list[Form]) -> None:
        self.text = text
        self.matches = matches
        self.tokens = tokens
        self.evidence: list[Evidence] = []
        self.rejected: list[Evidence] = []
        self.persons: list[Evidence] = []
        self.animal: str | None = None
        # In title case or all capitals a capital says nothing about names.
        self.capitals_tell = 4 * sum(token.capital for token in tokens) <= 3 * len(tokens)

    def read(self, hits: list[int]) -> CaptionLabel:
        """The label of the caption whose tokens at `hits` matter."""
        done = -1
        for place in hits:
            if place <= done:
                continue
            token = self.tokens[place]
            phrase = self._phrase_at(place) if token.phrases else None
            if phrase is not None:
                done = place + len(phrase.words) - 1
                self._take_phrase(place, done, phrase)
            elif token.entry is not None:
                _BY_KIND.get(token.entry.kind, _Reading._noun)(self, place)
        return conclude(self.evidence, self.rejected, len(self.tokens))

    def _phrase_at(self, place: int) -> Phrase | None:
        for phrase in self.tokens[place].phrases:
            size = len(phrase.words)
            found = self.tokens[place : place + size]
            if len(found) < size or any(token.folded != word for token, word in zip(found, phrase.words, strict=True)):
                continue
            if all(token.capital or not capital for token, capital in zip(found, phrase.capitals, strict=True)):
                return phrase
        return None

    def _take_phrase(self, first: int, last: int, phrase: Phrase) -> None:
        start, end = self.matches[first].start(), self.matches[last].end()
        rule = phrase.rule if phrase.rule.startswith("fixed phrase") else f"fixed phrase: {phrase.rule}"
        item = Evidence(self.text[start:end], start, end, rule, phrase.gender, self.text[start:end], start, phrase.gender in "FM", False)
        if phrase.gender == "-":
            self.rejected.append(item)
            # "mother nature at her best": a pronoun may mean what the phrase names.
            if phrase.words[0] in ("mother", "mama", "papa") or phrase.rule == "animal":
                self.animal = "a thing"
        else:
            self.evidence.append(item)
            self.persons.append(item)

    def _word(self, place: int) -> str:
        return self.tokens[place].folded if 0 <= place < len(self.tokens) else ""

    def _item(self, place: int, rule: str, gender: str, mention: Evidence | None = None, ambiguous: bool = False) -> Evidence:
        match = self.matches[place]
        surface, start = match[0], match.start()
        name, name_start = (surface, start) if mention is None else (mention.surface, mention.start)
        return Evidence(surface, start, match.end(), rule, gender, name, name_start, gender in "FM", ambiguous)

    def _reject(self, place: int, rule: str) -> None:
        entry = self.tokens[place].entry
        self.rejected.append(self._item(place, rule, entry.gender if entry is not None else "-"))

    def _adjacent(self, place: int) -> bool:
        """Whether only a space stands between a token and the next one."""
        return place + 1 < len(self.tokens) and self.text[self.matches[place].end() : self.matches[place + 1].start()].isspace()

    def _noun(self, place: int) -> None:
        token = self.tokens[place]
        assert token.entry is not None
        problem = self._not_a_person(place, token)
        if problem is not None:
            self._reject(place, problem)
            return
        ambiguous = (
            token.entry.kind == "role_by_contrast"
            or token.entry.note.endswith("ambiguous")
            or token.base in ("guys", "babe", "babes")
            or self._in_a_name(place)
            or self._kind_of_garment(place, token)
        )
        rule = f"{token.entry.kind} noun" if token.entry.kind in ("person", "role", "kin") else token.entry.kind.replace("_", " ")
        item = self._item(place, rule, token.entry.gender, ambiguous=ambiguous)
        self.evidence.append(item)
        self.persons.append(item)

    def _kind_of_garment(self, place: int, token: Form) -> bool:
        """ "A woman's dress" may be worn by nobody."""
        after = self.tokens[place + 1].entry if token.possessive and self._adjacent(place) else None
        return after is not None and after.kind == "thing"

    def _not_a_person(self, place: int, token: Form) -> str | None:
        """The rule by which a noun is not a person here, or None."""
        before, after = self._word(place - 1), self._word(place + 1)
        next_form = self.tokens[place + 1] if place + 1 < len(self.tokens) else None
        if (
            token.base in _VERBS
            and after in _VERB_OBJECTS
            and before not in _DETERMINERS
            and (before == "to" or token.base not in ("man", "father", "mother", "husband"))
        ):
            return "verb"
        if before == "its" and token.entry is not None and (token.entry.kind == "kin" or token.base in _YOUNG):
            return "animal's kin"
        if (
            token.base in _YOUNG
            and self.rejected
            and self.rejected[-1].rule == "pronoun of an animal"
            and self.rejected[-1].end == self.matches[place].start() - 1
        ):
            return "animal's kin"
        if token.capital and self._is_surname(place, token):
            return "name"
        if next_form is not None and next_form.entry is not None and self._adjacent(place):
            if next_form.entry.kind == "thing" and (
                token.folded.endswith(("s'", "s")) and token.entry is not None and (token.entry.number == "p" or token.folded in ("mens", "womens"))
            ):
                return "thing for them"
            if next_form.entry.kind == "animal" and token.entry is not None and not token.possessive and (token.entry.kind == "kin" or token.base == "baby"):
                return "animal's kin"
        if (
            token.capital
            and next_form is not None
            and next_form.capital
            and next_form.base in _PLACES
            and token.base in _SURNAMES | {"queens", "kings", "lords", "princess", "lady"}
        ):
            return "place name"
        return None

    def _is_surname(self, place: int, token: Form) -> bool:
        """Martin Luther King, Guy Ritchie: a capitalised word that is a name more often than a title where it stands."""
        if token.base not in _SURNAMES:
            return False
        before = self.tokens[place - 1] if place > 0 and self._adjacent(place - 1) else None
        after = self.tokens[place + 1] if self._adjacent(place) else None
        if token.base == "guy":
            return after is not None and after.capital
        if token.folded == "queens":
            return before is not None and before.folded in ("in", "new", "from")
        if (
            before is None
            or not before.capital
            or before.base in _BEFORE_TITLE
            or before.possessive
            or (before.entry is not None and before.entry.gender != "-")
        ):
            return False
        starts = place == 1 or self.text[: self.matches[place - 1].start()].rstrip().endswith((".", "!", "?"))
        return not (starts and before.base in _BEFORE_TITLE) and (after is None or after.folded != "of") and not (after is not None and after.capital)

    def _inside_a_sentence(self, place: int) -> bool:
        """Whether a token follows another word of its sentence, so that a capital there has a reason."""
        if place == 0:
            return False
        between = self.text[self.matches[place - 1].end() : self.matches[place].start()]
        return not any(mark in between for mark in '.!?:;\n"“”(')

    def _is_acronym(self, place: int) -> bool:
        """Whether a word is written in capitals only, in a caption that is not (SHE, SIR)."""
        written = self.matches[place][0]
        return len(written) > 2 and written.isupper()

    def _name_before(self, place: int) -> bool:
        """Whether somebody is named before a pronoun: a capitalised word inside the sentence that no lexicon has."""
        if not self.capitals_tell:
            return False
        return any(token.capital and token.entry is None and self._inside_a_sentence(back) for back, token in enumerate(self.tokens[:place]))

    def _in_a_name(self, place: int) -> bool:
        """Whether a noun or adjective is capitalised as part of the name of a work, a firm or a prize ("Working Girl").

        Titles before a name ("Princess Anne", "Uncle Sam") and after an article ("the Queen") are persons.
        """
        token = self.tokens[place]
        if not token.capital or not self.capitals_tell:
            return False
        assert token.entry is not None
        if self._is_acronym(place):
            return True
        before = self.tokens[place - 1] if place > 0 else None
        after = self.tokens[place + 1] if self._adjacent(place) else None
        if not self._inside_a_sentence(place):
            # A sentence may begin with the name of a work as well as with a person: only a run of capitals tells.
            return token.entry.kind == "adjective" and after is not None and after.capital
        assert before is not None
        after_name = before.capital and (token.entry.kind == "kin" or before.base not in _BEFORE_TITLE) and (place > 1 and self._inside_a_sentence(place - 1))
        if token.entry.kind in ("role", "kin", "role_by_contrast") and not after_name and (after is not None and after.capital):
            return False
        return token.entry.kind != "role" or after_name

    def _title(self, place: int) -> None:
        token = self.tokens[place]
        assert token.entry is not None
        after = self.tokens[place + 1] if place + 1 < len(self.tokens) else None
        if token.base in ("miss", "misses", "count") and not (token.capital and (after is not None and (after.capital or after.folded == "of"))):
            return
        item = self._item(place, "title", token.entry.gender, ambiguous=self._in_a_name(place) and self._is_acronym(place))
        self.evidence.append(item)
        self.persons.append(item)

    def _pronoun(self, place: int) -> None:
        token = self.tokens[place]
        assert token.entry is not None
        gender = token.entry.gender
        if token.folded in ("her", "his") and self._word(place + 1) == "majesty's":
            self._reject(place, "fixed phrase: name")
            return
        written_as_name = token.capital and self.capitals_tell and (self._inside_a_sentence(place) or self._is_acronym(place))
        for person in reversed(self.persons):
            if person.gender in (gender, "N"):
                self.evidence.append(self._item(place, "pronoun", gender, person, written_as_name))
                return
        if self.animal is not None and self._inside_a_sentence(place) and not self._name_before(place):
            self._reject(place, f"pronoun of {self.animal}")
            return
        match = self.matches[place]
        self.evidence.append(Evidence(match[0], match.start(), match.end(), "pronoun", gender, ambiguous=written_as_name))

    def _adjective(self, place: int) -> None:
        token = self.tokens[place]
        assert token.entry is not None
        for ahead in (1, 2):
            if place + ahead >= len(self.tokens) or (ahead == 2 and self.tokens[place + 1].entry is not None):
                break
            entry = self.tokens[place + ahead].entry
            if entry is not None and entry.kind in ("animal", "vessel", "thing"):
                self._reject(place, "adjective of a thing or an animal")
                return
            if entry is not None and token.folded in _PARENTAL and entry.kind == "kin":
                self._reject(place, "side of the family")
                return
        self.evidence.append(self._item(place, "adjective", token.entry.gender, ambiguous=self._in_a_name(place)))
        if token.folded in ("male", "female"):
            self.persons.append(self.evidence[-1])

    def _animal(self, place: int) -> None:
        token = self.tokens[place]
        assert token.entry is not None
        if token.capital and self._inside_a_sentence(place):
            return
        self.animal = "a ship" if token.entry.kind == "vessel" else "an animal"


def _nothing(_reading: _Reading, _place: int) -> None:
    """A word that is listed so that no rule takes it for a person."""


_BY_KIND: dict[str, Callable[[_Reading, int], None]] = {
    "pronoun": _Reading._pronoun,
    "adjective": _Reading._adjective,
    "title": _Reading._title,
    "animal": _Reading._animal,
    "vessel": _Reading._animal,
    "thing": _nothing,
    "not -man": _nothing,
    "abstract": _nothing,
}
