"""What stands where in an Arabic caption: clauses, and the persons and things that a verb or a pronoun may agree with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from re import Match
from typing import NamedTuple

from saebias.corpus.arabic_forms import Word
from saebias.corpus.arabic_nouns import PERSON_KINDS, THING_KINDS, Noun
from saebias.corpus.arabic_verbs import Verb
from saebias.corpus.labels import Evidence

_SENTENCE_END = frozenset('.!?؟؛;:\n"“”«»(')
_CLAUSE_END = frozenset("،,)-–—…")
_FEMININE_THINGS = frozenset(("thing_f", "thing_plural", "institution", "animal_plural"))
COPULAS = frozenset(["كان", "كانت", "يكون", "تكون", "اصبح", "اصبحت", "يصبح", "تصبح", "ليس", "ليست", "ظل", "ظلت", "صار", "صارت", "بات", "باتت"])

# أشجار, نوافذ, شوارع, تقاليد, تفاصيل, رسائل, جبال-like shapes of four letters are left out: too many singulars have them.
_BROKEN_PLURAL = re.compile(r"ا[^ا][^ا]ا[^اةي]|[تمف][^اوي]ا[^اي]ي[^اةي]|[مفشجحتنع][واسصتدعجنبطقرحخ]ا[^اوي][^اةي]|[^ا][^ا]ائ[^اةي]")

_MEMORY = 64
# Persons whose gender stands in what agrees with them: a proper name, عجوز.
_OPEN = frozenset(("name", "open", "person noun of open gender"))
# مرتبطة, رومانية: what is said of somebody rather than who it is.
_PREDICATE = re.compile("م.+ة|.+ية|.ا..ة|..ي.ة")
_REFERS_TO_A_FACT = frozenset(("هذا", "وهذا", "ذلك", "وذلك", "ما", "مما"))


class Mention(NamedTuple):
    """A person or a thing that a verb or a pronoun may agree with."""

    place: int
    """Its word; -1 for a person who is not named ("she obtained a prize")."""
    person: bool
    gender: str
    """F, M or N for persons; for things F where agreement with them is feminine, - otherwise."""
    evidence: Evidence | None
    plural: bool = False


class Subject(NamedTuple):
    """What a verb agrees with: kind is person, thing, neutral (شخص and the like) or unsure."""

    kind: str
    mention: Mention | None = None


THING = Subject("thing")
UNSURE = Subject("unsure")
UNNAMED = Subject("person")


def is_neutral(mention: Mention) -> bool:
    """Whether a person mention is one whose grammar says nothing (شخص), as opposed to a proper name."""
    return mention.gender == "N" and mention.evidence is not None and mention.evidence.rule not in _OPEN


def feminine_thing(word: Word) -> bool:
    """Whether a noun that is no person asks for feminine agreement."""
    noun = word.noun
    assert noun is not None
    if noun.gender == "F" or noun.kind in _FEMININE_THINGS or noun.lemma.endswith("ة"):
        return True
    return noun.kind == "guess" and _BROKEN_PLURAL.fullmatch(noun.lemma) is not None


class Sentence:
    """The words of a caption with what was found so far."""

    def __init__(self, text: str, matches: list[Match[str]], words: list[Word]) -> None:
        self.text = text
        self.matches = matches
        self.words = words
        self.mentions: list[Mention] = []
        self.at: dict[int, Mention] = {}
        self.verbs: set[int] = set()
        self.starts, self.clauses = self._boundaries()

    def _boundaries(self) -> tuple[set[int], set[int]]:
        """The words that begin a sentence, and those that begin a clause (a sentence, or what follows a comma or a bracket)."""
        sentences, clauses = {0}, {0}
        for place in range(1, len(self.words)):
            between = self.text[self.matches[place - 1].end() : self.matches[place].start()]
            if between == " ":
                continue
            if not _SENTENCE_END.isdisjoint(between):
                sentences.add(place)
                clauses.add(place)
            elif not _CLAUSE_END.isdisjoint(between):
                clauses.add(place)
        return sentences, clauses

    def before(self, place: int) -> Word | None:
        """The word before in the same sentence."""
        return self.words[place - 1] if place > 0 and place not in self.starts else None

    def after(self, place: int) -> Word | None:
        """The word after in the same sentence."""
        return self.words[place + 1] if place + 1 < len(self.words) and place + 1 not in self.starts else None

    def add(self, mention: Mention) -> None:
        """Remember a person or thing."""
        self.mentions.append(mention)
        if mention.place >= 0:
            self.at[mention.place] = mention

    def recent(self) -> Iterator[Mention]:
        """Whom the text may still mean, the last one named first; who was named long ago is not meant any more."""
        return islice(reversed(self.mentions), _MEMORY)

    def evidence(self, place: int, rule: str, gender: str, explicit: bool, ambiguous: bool, of: Evidence | None) -> Evidence:
        """Evidence at a word, bound to the mention `of`, or to a person without a name."""
        match = self.matches[place]
        name, start = ("", -1) if of is None else (of.surface, of.start)
        return Evidence(match[0], match.start(), match.end(), rule, gender, name, start, explicit, ambiguous)

    def own_evidence(self, place: int, rule: str, noun: Noun) -> Evidence:
        """Evidence of a noun that is itself the mention."""
        match = self.matches[place]
        return Evidence(match[0], match.start(), match.end(), rule, noun.gender, match[0], match.start(), noun.explicit, noun.ambiguous)

    def previous_mention(self, place: int) -> Mention | None:
        """The noun directly before a word, looking through other adjectives."""
        back = place - 1
        while back >= 0 and back + 1 not in self.starts:
            found = self.at.get(back)
            if found is not None:
                return found
            noun = self.words[back].noun
            if noun is None or noun.kind not in ("state", "adjective") or back in self.verbs:
                return None
            back -= 1
        return None

    def governed(self, place: int) -> bool:
        """Whether a noun belongs to a prepositional phrase: it or a noun it is chained to follows a preposition."""
        while True:
            word = self.words[place]
            if word.preposition:
                return True
            if place in self.starts or word.conjunction:
                return False
            before = self.words[place - 1]
            if before.function == "preposition":
                return True
            if before.function or before.noun is None or place - 1 in self.verbs or before.pronoun:
                return False
            place -= 1

    def noun_before(self, place: int, gender: str, plural: bool) -> Mention | None:
        """The noun that a verb right after it agrees with, through adjectives, adverbs and prepositional phrases."""
        back = place - 1
        if place in self.clauses:
            return None
        while back >= max(0, place - 6) and back + 1 not in self.starts:
            word = self.words[back]
            if word.text in _REFERS_TO_A_FACT and gender == "M" and back == place - 1:
                return Mention(-1, False, "-", None)
            if word.function == "relative" or (word.function == "clause" and word.text != "ان"):
                return None
            if back in self.verbs:
                if word.text not in COPULAS:
                    return None
            elif self._may_lead(back, gender, plural):
                return self.at[back]
            back -= 1
        return None

    def _may_lead(self, place: int, gender: str, plural: bool) -> bool:
        found = self.at.get(place)
        if found is None or self.governed(place):
            return False
        if found.person:
            # People "do" in the feminine singular too: الناس ترقص.
            return found.gender in (gender, "N") and (plural or not found.plural or (found.gender == "N" and gender == "F"))
        word = self.words[place]
        if word.noun is not None and word.noun.kind == "animal_plural":
            return True
        if found.gender == gender or gender == "F":
            return found.gender == gender
        if place - 1 in self.at and place not in self.starts:
            # The second noun of a chain is not the subject: حقيبة ظهر.
            return False
        # An indefinite unknown word may be a name, a known thing is not.
        return found.gender == "-" and (word.article or (word.noun is not None and word.noun.kind in THING_KINDS))

    def subject_ahead(self, place: int, verb: Verb, gender: str) -> Subject | None:
        """The noun right after a verb, where it can be the subject."""
        ahead = self._past_a_phrase(place + 1, verb)
        bound_to_subject = not verb.human or verb.intransitive
        while ahead < len(self.words) and self.words[ahead].function in ("adverb", "verb_particle"):
            if gender == "F" and bound_to_subject and self.words[ahead].text.endswith(("ة", "ات")):
                return THING
            ahead += 1
        if ahead >= len(self.words) or not self.starts.isdisjoint(range(place + 1, ahead + 1)):
            return None
        word = self.words[ahead]
        if word.function == "demonstrative" and gender == "F" and not word.conjunction:
            named = self.after(ahead)
            return None if named is None or (named.noun is not None and named.noun.kind in PERSON_KINDS) else THING
        if word.function == "latin":
            return UNNAMED
        if word.preposition and word.noun is not None and word.noun.kind == "guess" and not word.article and bound_to_subject and gender == "F":
            # The letter that looks like a preposition may belong to an unknown thing.
            return THING
        if word.noun is None or word.preposition or word.function or (word.conjunction and not verb.human):
            return None
        if word.noun.kind in PERSON_KINDS:
            return self._person_ahead(ahead, word.noun, verb, gender)
        if self.words[place].text.removeprefix("و") in COPULAS and not word.article and word.noun.kind == "guess" and _PREDICATE.fullmatch(word.noun.lemma):
            return None
        return self._thing_ahead(word, word.noun, verb, gender)

    def _past_a_phrase(self, ahead: int, verb: Verb) -> int:
        """Where the subject may stand after "in the picture" in "there stands in the picture a clock": the noun behind it, else `ahead`."""
        if verb.past or not verb.intransitive or not self.clauses.isdisjoint(range(ahead, ahead + 3)):
            return ahead
        words = self.words[ahead : ahead + 3]
        if len(words) == 3 and words[0].function == "preposition" and words[1].noun is not None:
            noun = words[2]
        elif len(words) >= 2 and words[0].preposition and words[0].noun is not None:
            noun = words[1]
        else:
            return ahead
        behind = ahead + words.index(noun)
        subject = noun.noun is not None and not noun.article and not noun.preposition and not noun.conjunction and noun.function == "" and not noun.pronoun
        known = subject and noun.noun is not None and noun.noun.kind not in ("state", "adjective", "role") and not noun.noun.lemma.endswith("ية")
        return behind if known and (noun.noun is not None and (noun.noun.kind != "guess" or noun.noun.gender == "F")) else ahead

    def _person_ahead(self, ahead: int, noun: Noun, verb: Verb, gender: str) -> Subject | None:
        if noun.kind in ("state", "adjective"):
            return None
        if noun.kind == "role" and noun.ambiguous and gender == noun.gender == "F":
            # مساعدة is help before it is a helper.
            return UNSURE if verb.human and not verb.intransitive else THING
        mention = Mention(ahead, True, noun.gender, self.own_evidence(ahead, noun.kind, noun))
        if noun.kind in ("name", "open"):
            return Subject("person", mention)
        if noun.gender == "N" or (noun.kind == "role_plural" and gender == "F" and not verb.plural):
            # A plural of people may take a verb in the feminine singular: تظهر الحشود, جاءت العمال.
            return Subject("neutral", mention) if not verb.human or verb.intransitive or noun.number == "s" else None
        return Subject("person", mention) if noun.gender == gender else None

    def _thing_ahead(self, word: Word, noun: Noun, verb: Verb, gender: str) -> Subject | None:
        feminine = feminine_thing(word)
        if gender == "F" and feminine:
            if noun.kind in ("institution", "animal_plural", "animal") or not verb.human or verb.intransitive:
                return THING
            # "She carries a bag" in a caption; "the doors opened" and "a factory opened" elsewhere.
            return UNNAMED if not verb.past and not word.article else UNSURE
        if gender == "F" and noun.kind == "guess" and not word.article:
            return UNNAMED
        if gender == "M" and not feminine and verb.human and not verb.intransitive:
            # "He studied law", or "an illness led to": a known thing without an article may be either.
            return UNSURE if noun.kind != "guess" and not word.article and not word.pronoun else None
        if gender == "M" and not feminine and word.pronoun and noun.kind == "guess":
            return UNSURE
        if gender == "M" and not feminine:
            if noun.kind != "guess":
                return THING
            return UNSURE if word.article else None
        return None

    def subject_behind(self, verb: Verb, gender: str) -> Subject:
        """Nothing next to the verb agrees: the nearest one named before does, or a person who goes without a name."""
        for mention in self.recent():
            if mention.person and mention.gender == gender:
                return Subject("person", mention)
            if mention.person and is_neutral(mention) and mention.plural == verb.plural:
                return Subject("neutral", mention)
            if not mention.person and mention.gender == gender == "F" and not verb.human and not self.governed(mention.place):
                return THING
        return UNNAMED
