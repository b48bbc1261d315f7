"""Person nouns and adjectives in an Arabic caption: which of them name a person here, and what else they may be."""

from __future__ import annotations

from re import Match

from saebias.corpus.arabic_forms import Word
from saebias.corpus.arabic_nouns import PERSON_KINDS, THING_KINDS, Noun
from saebias.corpus.arabic_sentence import Mention, Sentence, feminine_thing
from saebias.corpus.label_lexicon import words_of
from saebias.corpus.labels import Evidence

_NOUNS_IN_MIM = words_of("ar_contexts", "profession in م")
_MAKES_A_ROLE = words_of("ar_contexts", "makes a role")
_MACHINES = words_of("ar_contexts", "machine")
_RULES = {
    "person": "person noun",
    "kin": "kin noun",
    "role": "role noun",
    "role_plural": "generic plural",
    "neutral": "neutral person noun",
    "open": "person noun of open gender",
    "name": "name",
}


class PersonReading(Sentence):
    """A caption whose nouns are read one after the other; verbs and pronouns are left to whoever extends it."""

    def __init__(self, text: str, matches: list[Match[str]], words: list[Word]) -> None:
        super().__init__(text, matches, words)
        self.found: list[Evidence] = []
        self.rejected: list[Evidence] = []
        self.last_verb: tuple[str, bool] | None = None

    def _noun(self, place: int, word: Word, noun: Noun) -> None:
        if noun.kind in ("state", "adjective", "bare_feminine"):
            self._adjective(place, word, noun)
        elif noun.kind in PERSON_KINDS:
            self._person(place, word, noun)
        else:
            self.add(Mention(place, False, "F" if feminine_thing(word) else "-", None, noun.number == "p" or noun.kind.endswith("plural")))

    def _person(self, place: int, word: Word, noun: Noun) -> None:
        problem = self._not_a_person(place, word, noun)
        if problem is not None:
            self._reject(place, problem, noun.gender)
            self.add(Mention(place, False, "F" if noun.gender == "F" else "-", None))
            return
        head = self.previous_mention(place)
        if noun.lemma == "ذكر" and head is not None and head.person:
            noun = noun._replace(ambiguous=False)
        item = self.own_evidence(place, _RULES[noun.kind], noun)
        self.add(Mention(place, True, noun.gender, item, noun.number != "s"))
        if noun.kind != "name":
            self.found.append(item)

    def _not_a_person(self, place: int, word: Word, noun: Noun) -> str | None:
        """The rule by which a noun for a person is something else here, or None."""
        before, after = self.before(place), self.after(place)
        named = before.noun if before is not None and place - 1 not in self.verbs else None
        if noun.lemma == "أم":
            return mother_or_other(word, before, after, named)
        if named is not None and named.lemma in ("زوج", "زوجة") and noun.lemma == "أب" and before is not None and not before.pronoun:
            return "fixed phrase: step-parent"
        if noun.kind == "role" and noun.lemma == "عالم" and noun.gender == "M" and noun.number == "s" and (word.article or word.preposition):
            return "not a person: world"
        scholar = word.article and after is not None and after.noun is not None and after.noun.kind in ("name", "guess", "kin") and not after.article
        if noun.lemma == "علامة" and not scholar:
            return "not a person: sign"
        if (
            noun.lemma in ("كاتب", "كاتبة")
            and noun.gender == "F"
            and before is not None
            and before.text.removeprefix("و").removeprefix("ف").removeprefix("ال") in _MACHINES
        ):
            return "not a person: machine"
        if noun.kind == "role" and noun.ambiguous and noun.gender == "F" and not self._said_of_a_person(place, word):
            return "not a person: a thing as a rule"
        if noun.kind != "role" or before is None or word.preposition:
            return None
        if named is not None and not word.conjunction:
            return self._role_after_noun(place, word, noun, before, named)
        if noun.ambiguous and noun.gender == "F" and (before.function == "preposition" or (word.article and named is not None)):
            return "not a person: after a preposition"
        return None

    def _said_of_a_person(self, place: int, word: Word) -> bool:
        """Whether a word such as مساعدة (helper, help) stands where only a person can: after "as" or a woman, before what a woman does, or alone."""
        if len(self.words) == 1 or word.text.removeprefix("و").startswith("ك"):
            return True
        head, after = self.previous_mention(place), self.after(place)
        if head is not None and head.person and head.gender == "F":
            return True
        if place - 1 in self.verbs and self.last_verb == ("F", True):
            return True
        if after is None or (place + 1) in self.clauses:
            return False
        acts = after.verb is not None and after.noun is None and after.verb.gender[0] == "F" and after.verb.human
        return acts or (after.noun is not None and after.noun.kind == "state" and after.noun.gender == "F") or after.text in _MAKES_A_ROLE

    def _role_after_noun(self, place: int, word: Word, noun: Noun, before: Word, named: Noun) -> str | None:
        """A role noun that follows a noun may be its adjective: سيارة مدرعة, الطبقة العاملة, شخص محقق."""
        head = self.previous_mention(place)
        if head is not None and head.person:
            neutral = head.gender == "N" and noun.gender == "M" and named.kind == "neutral" and before.article == word.article
            return "agreement with a neutral person" if neutral else None
        same = word.article == before.article
        adjectival = word.article or noun.lemma.endswith("ي") or (noun.lemma.startswith("م") and noun.lemma not in _NOUNS_IN_MIM)
        if noun.gender == "F" and head is not None and head.gender == "F" and same and not before.pronoun and adjectival:
            return "agreement with a thing"
        if noun.ambiguous and named.kind in THING_KINDS | {"guess"} and (same or not before.article):
            return "not a person: after a thing"
        return None

    def _adjective(self, place: int, word: Word, noun: Noun) -> None:
        """An adjective or participle: bound to the noun it follows; a participle alone stands for a person."""
        head = self.previous_mention(place)
        pregnant = noun.lemma == "حامل"
        if head is not None and head.person and head.gender == "M" and noun.gender == "F":
            # قوة المشاة الإيطالية: it belongs to a noun further back.
            self._reject(place, "agreement with a thing", "F")
            return
        if head is not None and head.person and head.gender != "N":
            if noun.kind != "bare_feminine" or head.gender == "F":
                gender = head.gender if pregnant else noun.gender
                self.found.append(self.evidence(place, "adjective", gender, gender == "F", noun.ambiguous, head.evidence))
            return
        if head is not None:
            if noun.gender == "F" or noun.kind == "state":
                self._reject(place, "agreement with a neutral person" if head.person else "agreement with a thing", noun.gender)
            return
        before = self.before(place)
        if noun.kind != "state":
            return
        gender = self.last_verb[0] if pregnant and self.last_verb is not None else noun.gender
        if before is None or word.preposition or before.function in ("clause", "preposition") or place - 1 in self.verbs:
            item = self.own_evidence(place, "participle standing for a person", noun._replace(gender=gender, explicit=gender == "F"))
            self.found.append(item)
            self.add(Mention(place, True, gender, item))

    def _reject(self, place: int, rule: str, gender: str) -> None:
        match = self.matches[place]
        self.rejected.append(Evidence(match[0], match.start(), match.end(), rule, gender, match[0], match.start(), False, False))


def mother_or_other(word: Word, before: Word | None, after: Word | None, named: Noun | None) -> str | None:
    """Whether أم is "or", a step-parent's wife or husband, or the "mother" of an institution rather than a mother."""
    if named is not None and before is not None and named.lemma in ("زوج", "زوجة") and not before.pronoun:
        return "fixed phrase: step-parent"
    if word.article and named is not None and before is not None and named.kind not in PERSON_KINDS and (before.article or before.pronoun):
        return "fixed phrase: mother institution"
    if (
        word.article
        or word.pronoun
        or word.conjunction
        or word.text != "ام"
        or before is None
        or after is None
        or before.function == "preposition"
        or after.verb is not None
    ):
        return None
    return "conjunction: or" if named is not None and after.noun is not None else None


_NOUN_RULES = frozenset(("person noun", "kin noun", "role noun", "generic plural", "participle standing for a person"))


def weighed(found: list[Evidence]) -> list[Evidence]:
    """The evidence, with the lesser side made ambiguous where only agreement with an unnamed person speaks, and for both genders.

    Agreement with a thing that no rule saw is the usual reason, and it is rarer than agreement with the person a caption is about.
    """
    certain = [item for item in found if not item.ambiguous and item.gender in "FM"]
    if any(item.gender == "F" and item.rule in _NOUN_RULES for item in certain) or any(item.gender == "M" and item.explicit for item in certain):
        return found
    feminine = sum(item.gender == "F" for item in certain)
    masculine = sum(item.gender == "M" and item.mention_start < 0 for item in certain)
    if not feminine or not masculine:
        return found
    lesser = "F" if masculine > feminine else "M"
    return [item._replace(ambiguous=True) if item.gender == lesser else item for item in found]
