"""Gender labels of Arabic captions: person nouns, and agreement that is bound to a person.

Everything in Arabic has a gender, so a feminine ending says nothing by itself. Each verb, adjective and pronoun is bound to what it
agrees with: a person (evidence), a thing or an animal (rejected), a neutral person such as شخص (grammar only, rejected), or nobody
named, as in "حصلت على جائزة", where the subject is a person who was named before.
"""

from __future__ import annotations

from pathlib import Path
from re import Match
from typing import NamedTuple

from saebias.corpus.arabic import TOKEN
from saebias.corpus.arabic_forms import PERSON_KINDS, THING_KINDS, ArabicForms, Noun, Verb, Word
from saebias.corpus.labels import CaptionLabel, Evidence, Labeller, conclude

_SENTENCE_END = frozenset('.!?؟؛;:\n"“”«»(')
_CLAUSE_END = frozenset("،,)-–—…")
_PROFESSIONS_IN_M = frozenset(
    "معلم مدرس مهندس ممرض مصور محامي مدير مغني ممثل مذيع مدرب مزارع موظف مسعف مضيف مربي مترجم مؤلف محاسب مراهق مريض مطرب مخرج محقق مدلك ميكانيكي ملكة محاربة مستشار مرشح".split()
)
_STRONG_HOSTS = frozenset(
    "زوج زوجة طفل طفلة ابن ابنة ابنا بنات ام اب والد والدة والدي والدا اخ اخت اخوة جد جدة عم عمة خال خالة حفيد حفيدة شقيق شقيقة صهر خطيب خطيبة صديق صديقة حبيب حبيبة "
    "وجه شعر يدي يدا فم انف كتف كتفي ذراع ذراعي ركبتي ابتسامة وفاة زواج طلاق طفولة مسيرة تخرج ترشح فستان قميص معطف نظارة شفتي خد دموع حضن مذكرات سيرة مشاعر طموح موهبة بصفة ثروة استقالة تقاعد مهنة ولادة ميلاد".split()
)
_IMPERSONAL = frozenset("يوجد توجد يمكن يجب ينبغي تم يتم يبدو يلزم يجوز يعني يكفي هناك حدث يحدث بلغ يبلغ عبارة يقال قيل".split())
_COPULAS = frozenset("كان كانت يكون تكون اصبح اصبحت يصبح تصبح ليس ليست ظل ظلت صار صارت بات باتت لازال مازال".split())
_VERB_AWAITED = frozenset(("clause", "relative", "particle", "verb_particle", "adverb", "pronoun"))
_FIRST_OR_SECOND = frozenset(("1", "2"))


class _Mention(NamedTuple):
    """Something a verb or a pronoun may agree with."""

    place: int
    person: bool
    gender: str
    """F, M or N for persons; for things the gender that agreement with them takes, - where it is not written."""
    evidence: Evidence | None
    plural: bool = False


def arabic_labeller(extra_lexicon: Path | None = None) -> Labeller:
    """The labelling function of Arabic captions; words of `extra_lexicon` add to and override the lexicon."""
    forms = ArabicForms(extra_lexicon)

    def label(text: str) -> CaptionLabel:
        matches = list(TOKEN.finditer(text))
        if not matches:
            return CaptionLabel("0", False, False, (), (), 0)
        return _Reading(text, matches, [forms.word(match[0]) for match in matches]).read()

    return label


class _Reading:
    """One caption being read from its first word to its last."""

    def __init__(self, text: str, matches: list[Match[str]], words: list[Word]) -> None:
        self.text = text
        self.matches = matches
        self.words = words
        self.evidence: list[Evidence] = []
        self.rejected: list[Evidence] = []
        self.mentions: list[_Mention] = []
        self.breaks, self.clauses = self._starts()
        self.last_verb: tuple[str, bool] | None = None
        self.relative: _Mention | None = None
        self.hearer = any(word.function == "you" for word in words)

    def _starts(self) -> tuple[set[int], set[int]]:
        """The words that begin a sentence, and those that begin a clause (a sentence, or what follows a comma or a bracket)."""
        sentences, clauses = {0}, {0}
        for place in range(1, len(self.words)):
            between = self.text[self.matches[place - 1].end() : self.matches[place].start()]
            if between == " ":
                continue
            if not _SENTENCE_END.isdisjoint(between):
                sentences.add(place)
            if not _CLAUSE_END.isdisjoint(between) or place in sentences:
                clauses.add(place)
        return sentences, clauses

    def read(self) -> CaptionLabel:
        """The label of the whole caption."""
        for place, word in enumerate(self.words):
            if place in self.breaks:
                self.last_verb = None
            if word.function in ("pronoun", "relative", "demonstrative"):
                self._pronoun_word(place, word)
            elif word.function == "particle":
                self._attached(place, word)
            elif word.function == "":
                self._content(place, word)
        return conclude(self.evidence, self.rejected, len(self.words))

    # ---- what a word is here -------------------------------------------------------------------------------------

    def _content(self, place: int, word: Word) -> None:
        if word.verb is not None and (word.noun is None or self._is_verb_here(place, word)) and self._may_be_verb(place, word):
            self._verb(place, word, word.verb)
        elif word.noun is not None:
            self._noun(place, word, word.noun)
        if word.pronoun and word.pronoun not in _FIRST_OR_SECOND:
            self._attached(place, word)

    def _may_be_verb(self, place: int, word: Word) -> bool:
        """Whether letters that can only be a verb may be one here: not after a preposition; an unknown word in ت only where a verb is awaited."""
        assert word.verb is not None
        before = self.words[place - 1] if place > 0 else None
        if before is None or place in self.clauses:
            return True
        if before.function == "preposition" or (before.preposition and not before.article and before.noun is not None and not before.pronoun):
            return False
        if word.verb.homograph and word.noun is None and not word.conjunction:
            return before.function in _VERB_AWAITED or (before.noun is not None and before.noun.kind in PERSON_KINDS)
        return True

    def _is_verb_here(self, place: int, word: Word) -> bool:
        """Whether letters that are both a verb and a noun are the verb: at a clause's start, after a particle, after its subject."""
        before = self.words[place - 1] if place > 0 else None
        after = self.words[place + 1] if place + 1 < len(self.words) and place + 1 not in self.clauses else None
        if before is not None and before.function in ("verb_particle", "relative", "pronoun"):
            return True
        if before is None or place in self.clauses or before.function == "clause" or before.text.endswith(("نه", "نها", "نهم")) or word.conjunction:
            if word.verb is not None and word.verb.noun_with_pronoun:
                return False
            if after is None:
                return False
            known = word.noun is not None and word.noun.kind in PERSON_KINDS
            return after.function in ("preposition", "particle", "latin", "clause", "adverb") or (after.article and not known) or (after.noun is not None and after.noun.kind == "guess" and not known)
        if word.noun is not None and word.noun.kind in PERSON_KINDS:
            return False
        return bool(before.verb is None and before.noun is not None and before.noun.kind in PERSON_KINDS and after is not None and after.function in ("preposition", "particle"))

    # ---- nouns ---------------------------------------------------------------------------------------------------

    def _noun(self, place: int, word: Word, noun: Noun) -> None:
        if noun.kind in ("state", "adjective", "bare_feminine"):
            self._adjective(place, word, noun)
        elif noun.kind in PERSON_KINDS:
            self._person(place, word, noun)
        else:
            gender = "F" if noun.kind in ("thing_f", "thing_plural", "institution", "animal_plural") or noun.gender == "F" or noun.lemma.endswith("ة") else "-"
            if noun.kind == "guess" and noun.gender == "-" and word.article and _broken_plural(noun.lemma):
                gender = "F"
            self.mentions.append(_Mention(place, False, gender, None, noun.number == "p" or noun.kind.endswith("plural")))

    def _person(self, place: int, word: Word, noun: Noun) -> None:
        problem = self._not_a_person(place, word, noun)
        if problem is not None:
            self._reject(place, problem, noun.gender)
            self.mentions.append(_Mention(place, False, "F" if noun.gender == "F" else "-", None))
            return
        before = self._previous_mention(place)
        if (
            noun.kind == "role"
            and noun.gender == "M"
            and before is not None
            and before.person
            and before.gender == "N"
            and self.words[before.place].article == word.article
        ):
            self._reject(place, "agreement with a neutral person", "M")
            return
        rule = {
            "person": "person noun",
            "kin": "kin noun",
            "role": "role noun",
            "role_plural": "generic plural",
            "neutral": "neutral person noun",
            "name": "name",
        }[noun.kind]
        if noun.kind == "name":
            self.mentions.append(_Mention(place, True, "N", self._item(place, rule, "N", False, False)))
            return
        item = self._item(place, rule, noun.gender, noun.explicit, noun.ambiguous)
        self.evidence.append(item)
        self.mentions.append(_Mention(place, True, noun.gender, item, noun.number != "s"))

    def _not_a_person(self, place: int, word: Word, noun: Noun) -> str | None:
        """The rule by which a noun for a person is something else here, or None."""
        before = self.words[place - 1] if place > 0 and place not in self.breaks else None
        after = self.words[place + 1] if place + 1 < len(self.words) and place + 1 not in self.breaks else None
        if noun.lemma == "أم" and not word.article and not word.pronoun:
            if before is None or after is None or before.function in ("preposition",) or after.verb is not None:
                return None
            if before.noun is not None and after.noun is not None:
                return "conjunction: or"
        if before is not None and before.noun is not None and before.noun.lemma in ("زوج", "زوجة") and noun.lemma in ("أب", "أم") and not before.pronoun:
            return "fixed phrase: step-parent"
        if noun.kind == "role" and noun.gender == "F" and before is not None and before.noun is not None and before.verb is None and not word.preposition and not word.conjunction:
            thing = before.noun.kind not in PERSON_KINDS and (before.noun.gender == "F" or before.noun.kind in ("thing_f", "thing_plural", "institution") or before.noun.lemma.endswith("ة"))
            if thing and word.article and before.article:
                return "agreement with a thing"
            if thing and not word.article and not before.article and noun.lemma.startswith("م") and noun.lemma not in _PROFESSIONS_IN_M:
                return "agreement with a thing"
        if noun.ambiguous and noun.kind == "role" and before is not None and not word.preposition:
            if (
                before.noun is not None
                and before.noun.kind in THING_KINDS | {"guess"}
                and before.verb is None
                and (word.article == before.article or not before.article)
            ):
                return "not a person: after a thing"
            if before.function == "preposition" and noun.gender == "F":
                return "not a person: after a preposition"
        if (
            noun.ambiguous
            and noun.gender == "F"
            and noun.kind == "role"
            and word.article
            and (word.preposition or (before is not None and before.noun is not None))
        ):
            return "not a person: definite thing"
        if noun.lemma == "عالم" and noun.gender == "M" and noun.number == "s" and (word.article or word.preposition):
            return "not a person: world"
        return None

    def _adjective(self, place: int, word: Word, noun: Noun) -> None:
        """An adjective or participle: bound to the noun it follows; a participle alone stands for a person."""
        head = self._previous_mention(place)
        if head is not None and head.person:
            if head.gender == "N":
                self._reject(place, "agreement with a neutral person", noun.gender)
            elif noun.kind == "bare_feminine" or noun.gender == head.gender or head.gender == "F":
                gender = head.gender if noun.kind == "state" and noun.lemma == "حامل" else noun.gender
                self.evidence.append(self._item(place, "adjective", gender, gender == "F", noun.ambiguous, head.evidence))
            return
        if head is not None:
            if noun.gender == "F" or noun.kind == "state":
                self._reject(place, "agreement with a thing", noun.gender)
            return
        before = self.words[place - 1] if place > 0 and place not in self.breaks else None
        predicate = before is not None and (before.text in _COPULAS or word.preposition)
        if noun.kind == "state" and (before is None or before.function in ("clause", "preposition") or predicate or before.verb is not None):
            item = self._item(place, "participle standing for a person", noun.gender, noun.gender == "F", noun.ambiguous)
            self.evidence.append(item)
            self.mentions.append(_Mention(place, True, noun.gender, item))

    def _previous_mention(self, place: int) -> _Mention | None:
        """The noun directly before a word, looking through other adjectives."""
        back = place - 1
        if place in self.breaks:
            return None
        while back >= 0:
            found = next((mention for mention in reversed(self.mentions) if mention.place == back), None)
            if found is not None:
                return found
            word = self.words[back]
            if word.noun is None or word.noun.kind not in ("state", "adjective") or back in self.breaks:
                return None
            back -= 1
        return None

    # ---- verbs ---------------------------------------------------------------------------------------------------

    def _verb(self, place: int, word: Word, verb: Verb) -> None:
        if verb.gender == "2" or word.text in _IMPERSONAL:
            return
        gender = self._open_gender(place) if verb.gender == "?" else verb.gender
        status, mention = self._subject(place, word, verb, gender[0])
        plural = verb.plural or gender == "FP"
        self.last_verb = (gender[0], status != "thing")
        if status == "thing":
            if gender[0] == "F":
                self._reject(place, "agreement with a thing", "F")
            return
        if status == "neutral":
            self._reject(place, "agreement with a neutral person", gender[0])
            return
        ambiguous = status == "unsure" or verb.gender == "?" or (gender[0] == "M" and plural) or (self.hearer and gender == "F" and not verb.past)
        named = mention.evidence if mention is not None else None
        start = named.start if named is not None else -1
        item = self._item(place, "verb agreement", gender[0], gender[0] == "F", ambiguous, named, start)
        self.evidence.append(item)
        if named is None:
            self.mentions.append(_Mention(-1, True, gender[0], None))

    def _open_gender(self, place: int) -> str:
        """F or M for letters that are "she does" and "he did" alike: by what stands before, else by what is said more often."""
        for mention in reversed(self.mentions):
            if mention.gender in "FM":
                return mention.gender
        verb = self.words[place].verb
        return "F" if verb is not None and verb.human else "M"

    def _subject(self, place: int, word: Word, verb: Verb, gender: str) -> tuple[str, _Mention | None]:
        """What a verb agrees with: ("person", mention or None), ("thing", None), ("neutral", mention) or ("unsure", None)."""
        before = self.words[place - 1] if place > 0 and place not in self.breaks else None
        if before is not None and before.function == "relative" and self.relative is not None:
            return self._relative_subject(word)
        near = self._noun_before(place, gender, verb.plural)
        if near is not None:
            if near.person:
                return ("neutral", near) if near.gender == "N" and self._evident(near) else ("person", near)
            if not (verb.human and word.pronoun):
                return "thing", None
        ahead = self._subject_ahead(place, verb, gender)
        if ahead is not None:
            return ahead
        if word.conjunction and self.last_verb is not None and self.last_verb[0] == gender:
            return ("person", None) if self.last_verb[1] else ("thing", None)
        return self._subject_behind(verb, gender)

    def _evident(self, mention: _Mention) -> bool:
        return mention.evidence is not None and mention.evidence.rule != "name"

    def _relative_subject(self, word: Word) -> tuple[str, _Mention | None]:
        head = self.relative
        assert head is not None
        if word.pronoun in ("F", "M"):
            return "person", None
        if head.person:
            return ("neutral", head) if head.gender == "N" and self._evident(head) else ("person", head)
        return "thing", None

    def _noun_before(self, place: int, gender: str, plural: bool) -> _Mention | None:
        """The noun that stands right before a verb (through adjectives, adverbs and one prepositional phrase) and agrees with it."""
        back, steps = place - 1, 0
        while back >= 0 and steps < 5 and back + 1 not in self.breaks:
            word = self.words[back]
            if word.verb is not None and not any(mention.place == back for mention in self.mentions):
                if word.text in _COPULAS:
                    back, steps = back - 1, steps + 1
                    continue
                return None
            if word.function in ("clause", "relative"):
                return None
            found = next((mention for mention in reversed(self.mentions) if mention.place == back), None)
            governed = word.preposition or (back > 0 and self.words[back - 1].function == "preposition")
            if found is not None and not governed:
                if found.person and found.gender in (gender, "N") and (plural or not found.plural):
                    return found
                if not found.person and found.gender == gender:
                    return found
                if not found.person and gender == "M" and found.gender == "-" and self.words[back].article:
                    return found
            back, steps = back - 1, steps + 1
        return None

    def _subject_ahead(self, place: int, verb: Verb, gender: str) -> tuple[str, _Mention | None] | None:
        """The noun right after a verb, where it can be the subject."""
        ahead = place + 1
        while ahead < len(self.words) and ahead not in self.breaks and self.words[ahead].function in ("adverb", "verb_particle"):
            ahead += 1
        if ahead >= len(self.words) or ahead in self.breaks:
            return None
        word = self.words[ahead]
        noun = word.noun
        if word.function == "demonstrative" and gender == "F" and not word.conjunction:
            person = ahead + 1 < len(self.words) and self.words[ahead + 1].noun is not None and self.words[ahead + 1].noun.kind in PERSON_KINDS
            return None if person else ("thing", None)
        if noun is None or word.preposition or word.function:
            return None
        if noun.kind in PERSON_KINDS:
            return self._person_ahead(ahead, word, noun, verb, gender)
        feminine = (
            noun.gender == "F" or noun.kind in ("thing_f", "thing_plural", "institution", "animal_plural") or (word.article and _broken_plural(noun.lemma))
        )
        if gender == "F" and feminine:
            if noun.kind in ("institution", "animal_plural", "animal"):
                return "thing", None
            if verb.human:
                return ("person" if not word.article else "unsure"), None
            return "thing", None
        if gender == "M" and not feminine and noun.kind != "guess":
            return None if verb.human else ("thing", None)
        if gender == "M" and not feminine and word.article and not verb.human:
            return "unsure", None
        return None

    def _person_ahead(self, ahead: int, word: Word, noun: Noun, verb: Verb, gender: str) -> tuple[str, _Mention | None] | None:
        if noun.kind in ("state", "adjective"):
            return None
        named = self._item(ahead, noun.kind, noun.gender, noun.explicit, noun.ambiguous)
        if noun.kind == "name":
            return "person", _Mention(ahead, True, "N", named)
        if noun.gender == "N":
            return ("neutral", _Mention(ahead, True, "N", named)) if not verb.human or noun.number == "s" else None
        if noun.gender == gender:
            return "person", _Mention(ahead, True, noun.gender, named)
        return None

    def _subject_behind(self, verb: Verb, gender: str) -> tuple[str, _Mention | None]:
        """Nothing next to the verb agrees: the nearest thing named before does, or a person who goes without a name."""
        sentence = [mention for mention in self.mentions]
        for mention in reversed(sentence):
            if mention.person and mention.gender == gender:
                return "person", mention
            if not mention.person and mention.gender == gender == "F":
                governed = self.words[mention.place].preposition or (mention.place > 0 and self.words[mention.place - 1].function == "preposition")
                if not governed and not verb.human:
                    return "thing", None
        return "person", None

    # ---- pronouns ------------------------------------------------------------------------------------------------

    def _pronoun_word(self, place: int, word: Word) -> None:
        gender = word.host
        if word.function == "demonstrative":
            return
        head = next((mention for mention in reversed(self.mentions) if mention.place >= 0), None)
        if word.function == "relative":
            self.relative = head
            if head is not None and head.person and head.gender == gender[0]:
                self.evidence.append(self._item(place, "relative pronoun", gender[0], gender[0] == "F", gender == "MP", head.evidence))
            elif gender == "FP":
                self.evidence.append(self._item(place, "relative pronoun", "F", True, False))
            elif gender[0] == "F":
                self._reject(place, "agreement with a thing", "F")
            return
        if gender in ("MP", "N"):
            return
        self._refer(place, gender, None)

    def _attached(self, place: int, word: Word) -> None:
        if word.pronoun in ("F", "M", "FP"):
            self._refer(place, word.pronoun, word.host or None)

    def _refer(self, place: int, gender: str, host: str | None) -> None:
        """Bind "she / he / her / him" to the nearest person or thing named before that it can stand for."""
        sex = gender[0]
        rule = "attached pronoun" if host is not None or self.words[place].function == "particle" else "pronoun"
        if gender == "FP":
            self.evidence.append(self._item(place, rule, "F", True, False))
            return
        strong = host in _STRONG_HOSTS
        thing_between = False
        if host == "verb" and place > 0 and self.words[place - 1].function == "relative" and self.relative is not None and not self.relative.person:
            self._reject(place, "pronoun of a thing", sex)
            return
        for mention in reversed(self.mentions):
            if mention.place == place:
                continue
            if mention.person and mention.gender == sex and not mention.plural:
                self.evidence.append(self._item(place, rule, sex, sex == "F", thing_between and sex == "F" and not strong, mention.evidence))
                return
            if mention.person and mention.gender == "N" and self._evident(mention) and not mention.plural:
                self._reject(place, "agreement with a neutral person", sex)
                return
            if not mention.person and (mention.gender == sex or (sex == "M" and mention.gender == "-")):
                thing_between = True
        if thing_between and not strong:
            if sex == "F":
                self._reject(place, "pronoun of a thing", "F")
                return
            self.evidence.append(self._item(place, rule, "M", False, True))
            return
        self.evidence.append(self._item(place, rule, sex, sex == "F", False, None, -1))
        self.mentions.append(_Mention(-1, True, sex, None))

    # ---- evidence ------------------------------------------------------------------------------------------------

    def _item(self, place: int, rule: str, gender: str, explicit: bool, ambiguous: bool, named: Evidence | None = None, start: int | None = None) -> Evidence:
        match = self.matches[place]
        if named is not None:
            return Evidence(match[0], match.start(), match.end(), rule, gender, named.surface, named.start, explicit, ambiguous)
        if start is not None or rule in ("attached pronoun", "pronoun", "relative pronoun", "verb agreement"):
            return Evidence(match[0], match.start(), match.end(), rule, gender, "", -1, explicit, ambiguous)
        return Evidence(match[0], match.start(), match.end(), rule, gender, match[0], match.start(), explicit, ambiguous)

    def _reject(self, place: int, rule: str, gender: str) -> None:
        match = self.matches[place]
        self.rejected.append(Evidence(match[0], match.start(), match.end(), rule, gender, match[0], match.start(), False, False))


def _broken_plural(stem: str) -> bool:
    """Whether a noun has the shape of a broken plural, which agrees in the feminine singular where it names things: أشجار, نوافذ, شوارع."""
    if len(stem) == 5 and stem[0] == "ا" and stem[3] == "ا":
        return True
    return (
        len(stem) in (5, 6)
        and stem[2] == "ا"
        and stem[0] in "مشنحفجرسقكعبتطصضدخل"
        and stem[-1] not in "ةيىا"
        and stem[1] in "واسصتدعلجرنبكطفقحذ"
        and len(stem) == 5
        and stem[1] != "ا"
    )
