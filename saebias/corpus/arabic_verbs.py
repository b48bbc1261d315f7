"""Arabic verb forms: the past, the imperfect, and the gender and number that they agree in."""

from __future__ import annotations

from typing import NamedTuple

from saebias.corpus.arabic import normal, plain_alef
from saebias.corpus.label_lexicon import lexicon


class Verb(NamedTuple):
    """One verb form: the gender its ending or prefix agrees in (F, M, or ? where the writing does not tell)."""

    gender: str
    plural: bool
    past: bool
    human: bool
    """The subject is a person or an institution as a rule."""
    homograph: bool
    """The same letters are a common noun."""
    thing: bool = False
    """The subject is a thing as a rule (تشمل, تتكون)."""
    intransitive: bool = False
    """A noun right after it is its subject, not its object."""
    unknown: bool = False
    """In no lexicon: read as a verb for its ت."""
    noun_with_pronoun: bool = False
    """With an attached pronoun the same letters are a noun in ة: رحلته, "his journey" rather than "she transferred him"."""


def verb_tables() -> tuple[dict[str, Verb], dict[str, tuple[bool, str]]]:
    """Every past form, and every imperfect stem with (human subject?, note), from the lexicon."""
    past: dict[str, Verb] = {}
    imperfect: dict[str, tuple[bool, str]] = {}
    for entry in lexicon("ar_verbs"):
        word, human, homograph = normal(entry.word), entry.gender == "N", "homograph" in entry.note
        word = plain_alef(word)
        thing, still = "subject is a thing" in entry.note, "intransitive" in entry.note
        if entry.kind == "imperfect":
            imperfect[word] = (human, entry.note)
            continue
        stem = word[:-1] if entry.kind == "past_defective" else word
        forms = (
            (word, "M", False, homograph),
            (stem + "ت", "F", False, False),
            (stem + "تا", "F", True, False),
            (stem + "وا", "M", True, False),
        )
        for form, gender, plural, same in forms:
            past.setdefault(form, Verb(gender, plural, True, human, same, thing, still, False, form.endswith("ت") and "noun with" in entry.note))
        if len(word) > 2 and word.endswith("ي") and entry.kind == "past_defective":
            past.setdefault(word[:-1] + "ا", Verb("M", False, True, human, True))
        if entry.kind == "past_defective":
            # اشتريت is "I bought" or "you bought", never "she bought".
            past.setdefault(stem + "يت", Verb("2", False, True, human, False))
        if entry.kind == "past" and len(word) >= 4:
            past.setdefault(word + "ن", Verb("FP", True, True, human, True))
    return past, imperfect


def imperfect(core: str, table: dict[str, tuple[bool, str]]) -> Verb | None:
    """ي and ت before a stem, with the endings of the plural and the dual."""
    if len(core) < 3 or core[0] not in "يت":
        return None
    rest, third_masculine = core[1:], core[0] == "ي"
    gender = "M" if third_masculine else "F"
    known = table.get(rest)
    if known is not None:
        human, note = known
        return Verb(gender, False, False, human, core[0] in note.partition(";")[0], "subject is a thing" in note, "intransitive" in note)
    for ending, plural_gender in (("ون", "M"), ("وا", "M"), ("ان", gender), ("ين", "2")):
        stem = rest.removesuffix(ending)
        if stem == rest or len(stem) < 2:
            continue
        known = table.get(stem) or table.get(stem + "ي") or table.get(stem + "و")
        if known is not None:
            # "You (plural) do" begins with ت; only ي is the third person here.
            return Verb(plural_gender if third_masculine or ending == "ان" else "2", True, False, known[0], False)
    if rest.endswith("ن") and third_masculine and len(rest) >= 3 and rest[:-1] in table:
        return Verb("FP", True, False, table[rest[:-1]][0], False)
    return None
