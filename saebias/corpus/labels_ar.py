"""Gender labels of Arabic captions: person nouns, and agreement that is bound to a person.

Everything in Arabic has a gender, so a feminine ending says nothing by itself. Each verb, adjective and pronoun is bound to what it
agrees with: a person (evidence), a thing or an animal (rejected), a neutral person such as شخص (grammar only, rejected), or nobody
named, as in "حصلت على جائزة", where the subject is a person who was named before.
"""

from __future__ import annotations

from pathlib import Path
from re import Match

from saebias.corpus.arabic import TOKEN
from saebias.corpus.arabic_forms import ArabicForms, Word
from saebias.corpus.arabic_nouns import PERSON_KINDS, THING_KINDS
from saebias.corpus.arabic_persons import PersonReading, weighed
from saebias.corpus.arabic_sentence import THING, UNNAMED, Mention, Subject, is_neutral
from saebias.corpus.arabic_verbs import Verb
from saebias.corpus.label_lexicon import words_of
from saebias.corpus.labels import CaptionLabel, Labeller, conclude

_STRONG_HOSTS = words_of("ar_contexts", "a person's own")
_IMPERSONAL = words_of("ar_contexts", "impersonal verb")
_BEGINNINGS = words_of("ar_contexts", "beginning verb")
_PLACES_A_THING = words_of("ar_contexts", "places a thing")
_VERB_AWAITED = frozenset(("clause", "relative", "particle", "verb_particle", "adverb", "pronoun"))


def arabic_labeller(extra_lexicon: Path | None = None) -> Labeller:
    """The labelling function of Arabic captions; words of `extra_lexicon` add to and override the lexicon."""
    forms = ArabicForms(extra_lexicon)

    def label(text: str) -> CaptionLabel:
        matches = list(TOKEN.finditer(text))
        if not matches:
            return CaptionLabel("0", False, False, (), (), 0)
        return _Reading(text, matches, [forms.word(match[0]) for match in matches]).read()

    return label


class _Reading(PersonReading):
    """One caption being read from its first word to its last."""

    def __init__(self, text: str, matches: list[Match[str]], words: list[Word]) -> None:
        super().__init__(text, matches, words)
        self.relative: Mention | None = None
        self.relative_place = -9
        self.sentence = 0
        self.hearer = any(word.function == "you" for word in words)

    def read(self) -> CaptionLabel:
        """The label of the whole caption."""
        for place, word in enumerate(self.words):
            if place in self.starts:
                self.last_verb, self.relative, self.sentence = None, None, place
            if word.function == "":
                self._content(place, word)
            elif word.function == "particle":
                self._attached(place, word)
            elif word.function == "pronoun" and word.host in ("F", "M", "FP"):
                self._refer(place, word.host, None)
            elif word.function == "relative":
                self._relative(place, word.host)
        return conclude(weighed(self.found), self.rejected, len(self.words))

    def _content(self, place: int, word: Word) -> None:
        if word.verb is not None and (word.noun is None or self._is_verb_here(place, word, word.verb)) and self._may_be_verb(place, word, word.verb):
            self.verbs.add(place)
            self._verb(place, word, word.verb)
        elif word.noun is not None:
            self._noun(place, word, word.noun)
        if word.pronoun in ("F", "M", "FP"):
            self._attached(place, word)

    def _may_be_verb(self, place: int, word: Word, verb: Verb) -> bool:
        """Whether letters that can be a verb may be one here: not after a preposition; an unknown word in ت only where a verb is awaited."""
        before = self.words[place - 1] if place not in self.clauses else None
        if before is None:
            return True
        if before.function == "preposition" or (before.preposition and not before.article and before.noun is not None and not before.pronoun):
            return False
        if not verb.homograph or word.noun is not None or before.function in _VERB_AWAITED or (word.conjunction and self.last_verb == ("F", True)):
            return True
        head = self.previous_mention(place)
        # A word of no lexicon that ends in ت is a name more often than a verb, except after a woman.
        return head is not None and head.person and (head.gender == "F" or not verb.unknown)

    def _is_verb_here(self, place: int, word: Word, verb: Verb) -> bool:
        """Whether letters that are both a verb and a noun are the verb: at a clause's start, after a particle, after its subject."""
        before = self.words[place - 1] if place not in self.clauses else None
        after = self.words[place + 1] if place + 1 < len(self.words) and place + 1 not in self.clauses else None
        person = word.noun is not None and word.noun.kind in PERSON_KINDS
        if before is not None and before.text == "لا" and verb.past:
            return False
        if before is not None and before.function in ("verb_particle", "relative", "pronoun"):
            return True
        if person:
            # ولد في: he was born, rather than a boy in.
            return word.text.removeprefix("و") == "ولد" and after is not None and after.text in ("في", "عام", "سنة")
        if word.noun is not None and word.noun.kind in THING_KINDS and after is not None and (not verb.human or after.text in _PLACES_A_THING):
            return False
        if before is None or before.function == "clause" or before.text.endswith(("نه", "نها", "نهم")) or word.conjunction:
            if verb.noun_with_pronoun or after is None:
                return False
            after_verb = after.function in ("preposition", "particle", "latin", "clause", "adverb")
            return after_verb or after.article or (after.noun is not None and after.noun.kind == "guess")
        if before.verb is not None or before.noun is None:
            return False
        return before.noun.kind in PERSON_KINDS and after is not None and after.function in ("preposition", "particle")

    # ---- verbs ---------------------------------------------------------------------------------------------------

    def _verb(self, place: int, word: Word, verb: Verb) -> None:
        after = self.after(place)
        begins = word.text in _BEGINNINGS and after is not None and after.verb is not None and after.noun is None
        if verb.gender == "2" or begins or word.text in _IMPERSONAL or (word.conjunction and word.text[1:] in _IMPERSONAL):
            return
        gender = self._open_gender(verb) if verb.gender == "?" else verb.gender[0]
        subject = self._subject(place, word, verb, gender)
        self.last_verb = (gender, subject.kind != "thing")
        if subject.kind in ("thing", "neutral"):
            if gender == "F" or subject.kind == "neutral":
                self._reject(place, "agreement with a thing" if subject.kind == "thing" else "agreement with a neutral person", gender)
            return
        second_person = self.hearer and gender == "F" and not verb.past and not verb.plural
        ambiguous = subject.kind == "unsure" or verb.gender == "?" or (gender == "M" and verb.plural) or second_person
        named = subject.mention.evidence if subject.mention is not None else None
        self.found.append(self.evidence(place, "verb agreement", gender, gender == "F", ambiguous, named))
        if subject.mention is None:
            self.add(Mention(-1, True, gender, None))

    def _open_gender(self, verb: Verb) -> str:
        """F or M for letters that are "she does" and "he did" alike: by what stands before, else by what is said more often."""
        for mention in self.recent():
            if mention.person and mention.gender in "FM":
                return mention.gender
        return "F" if verb.human else "M"

    def _subject(self, place: int, word: Word, verb: Verb, gender: str) -> Subject:
        """What a verb agrees with."""
        before = self.before(place)
        if before is not None and before.function == "relative" and self.relative is not None:
            if word.pronoun in ("F", "M"):
                return UNNAMED
            return _bound(self.relative) if self.relative.person else THING
        near = self.noun_before(place, gender, verb.plural)
        if near is not None and near.person:
            return _bound(near)
        if near is not None and not (verb.human and word.pronoun):
            # "She carries a bag, uses sticks": the bag is what the verb before it was done to.
            same = verb.human and self.last_verb == (gender, True) and not self.verbs.isdisjoint(range(max(0, near.place - 3), near.place))
            return self.subject_behind(verb, gender) if same else THING
        ahead = self.subject_ahead(place, verb, gender)
        if ahead is not None:
            return ahead
        if verb.thing:
            return THING
        if word.conjunction and self.last_verb is not None and self.last_verb[0] == gender:
            return UNNAMED if self.last_verb[1] else THING
        behind = self.subject_behind(verb, gender)
        if gender == "F" and word.pronoun == "M" and behind.mention is None:
            # "It led him": the one who is meant by "him" is a man, and what led him is not named yet.
            return Subject("unsure")
        return behind

    # ---- pronouns ------------------------------------------------------------------------------------------------

    def _relative(self, place: int, gender: str) -> None:
        head = next((mention for mention in self.recent() if mention.place >= 0), None)
        self.relative, self.relative_place = head, place
        if head is not None and head.person and head.gender == gender[0]:
            self.found.append(self.evidence(place, "relative pronoun", gender[0], gender[0] == "F", gender == "MP", head.evidence))
        elif gender == "FP":
            self.found.append(self.evidence(place, "relative pronoun", "F", True, False, None))
        elif gender[0] == "F":
            self._reject(place, "agreement with a thing", "F")

    def _attached(self, place: int, word: Word) -> None:
        if word.pronoun in ("F", "M", "FP"):
            self._refer(place, word.pronoun, word.host)

    def _refer(self, place: int, gender: str, host: str | None) -> None:
        """Bind "she / he / her / him" to the nearest person or thing named before that it can stand for."""
        sex = gender[0]
        rule = "pronoun" if host is None else "attached pronoun"
        if gender == "FP":
            self.found.append(self.evidence(place, rule, "F", True, False, None))
            return
        after = self.after(place)
        of_thing = self.relative is None or not self.relative.person
        if of_thing and place - self.relative_place <= (1 if host == "verb" else 4 if host == "" else 0) and self.words[self.relative_place].host[0] == sex:
            # "Which she visited it": the pronoun goes back to what the clause is about.
            self._reject(place, "pronoun of a thing", sex)
            return
        strong, thing_between = host in _STRONG_HOSTS, False
        # "..., and it is a foundation": هي before a noun explains what was said before.
        explains = host is None and after is not None and after.noun is not None and after.verb is None and after.noun.kind not in PERSON_KINDS
        for mention in self.recent():
            if mention.place == place or (mention.plural and mention.person):
                continue
            if mention.person and mention.gender == sex:
                unsure = (sex == "F" and thing_between and not strong) or explains
                self.found.append(self.evidence(place, rule, sex, sex == "F", unsure, mention.evidence))
                return
            if mention.person and is_neutral(mention):
                self._reject(place, "agreement with a neutral person", sex)
                return
            near = mention.place >= self.sentence and not mention.person
            thing_between = thing_between or (near and (mention.gender == sex or (sex == "M" and mention.gender == "-")))
        if (sex == "F" and (thing_between or explains) and not strong) or (sex == "M" and self._animal_is_named()):
            self._reject(place, "pronoun of a thing", sex)
            return
        self.found.append(self.evidence(place, rule, sex, sex == "F", thing_between and not strong, None))
        self.add(Mention(-1, True, sex, None))

    def _animal_is_named(self) -> bool:
        """Whether the last one named is an animal, whom "he" and "his" would mean."""
        last = next((mention for mention in self.recent() if mention.place >= 0), None)
        noun = self.words[last.place].noun if last is not None and not last.person else None
        return noun is not None and noun.kind == "animal"


def _bound(mention: Mention) -> Subject:
    return Subject("neutral" if is_neutral(mention) else "person", mention)
