"""One Arabic word said of the other gender, or of a person without gender: its noun, verb and attached pronoun, clitics kept."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Literal

from saebias.corpus.arabic import PRONOUNS, VERB_PREFIXES, normal, plain_alef, stems
from saebias.corpus.arabic_forms import ArabicForms
from saebias.corpus.label_lexicon import gender_pairs, lexicon
from saebias.corpus.labels import Evidence

Target = Literal["F", "M", "N"]
_MARKS = re.compile("[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad]")
_PRONOUN_RULES = ("attached pronoun", "pronoun")
_FLIP = {"ها": "ه", "ه": "ها", "هن": "هم", "هم": "هن"}


@cache
def _forms() -> ArabicForms:
    return ArabicForms()


@cache
def _pairs() -> dict[tuple[str, Target], str]:
    """(normalised word, target) -> form as written."""
    table: dict[tuple[str, Target], str] = {}
    for feminine, masculine, neutral in gender_pairs("ar"):
        for word in (feminine, masculine):
            for target, form in (("F", feminine), ("M", masculine), ("N", neutral)):
                table.setdefault((normal(word), target), form)  # type: ignore[arg-type]
    return table


@cache
def _defective() -> dict[str, str]:
    """Normalised stem without its last letter -> the last letter of the masculine past: مش -> ى."""
    return {plain_alef(normal(entry.word))[:-1]: entry.word[-1] for entry in lexicon("ar_verbs") if entry.kind == "past_defective"}


def arabic_word(written: str, items: list[Evidence], target: Target | None) -> str:
    """`written` with the gender of each mark in `items` changed to `target`, or to the other one where target is None."""
    word = _MARKS.sub("", unicodedata.normalize("NFKC", written))
    changed = word
    for item in items:
        goal: Target = target or ("M" if item.gender == "F" else "F")
        if item.rule in _PRONOUN_RULES:
            changed = _pronoun(changed, goal)
        elif item.rule == "verb agreement":
            changed = _verb(changed, item.gender, goal)
        elif item.rule == "generic plural":
            continue
        else:
            changed = _noun(changed, goal)
    return written if changed == word else changed


def _pronoun(word: str, goal: Target) -> str:
    whole = _whole(word, goal)
    if whole is not None:
        return whole
    for pronoun in ("هن", "ها", "هم", "ه"):
        if word.endswith(pronoun) and len(word) > len(pronoun):
            feminine = PRONOUNS[pronoun] in ("F", "FP")
            if feminine == (goal == "F") or pronoun == "هم":
                return word
            return word[: -len(pronoun)] + _FLIP[pronoun]
    return word


def _whole(word: str, goal: Target) -> str | None:
    """The pair of a word that is in the table, with its conjunction kept."""
    for prefix in ("", "و", "ف"):
        if word.startswith(prefix):
            rest = normal(word[len(prefix) :])
            if goal == "F" and rest in ("الرجل", "للرجل", "بالرجل"):
                return prefix + rest.replace("الرجل", "المرأة").replace("للرجل", "للمرأة")
            form = _pairs().get((rest, goal))
            if form is not None:
                return prefix + form
    return None


def _verb(word: str, gender: str, goal: Target) -> str:
    forms = _forms()
    if gender == goal or (gender == "M" and goal == "N"):
        return word
    for letters, _ in VERB_PREFIXES:
        if not word.startswith(letters):
            continue
        rest = word[len(letters) :]
        for pronoun in ("", *PRONOUNS):
            if pronoun and not (rest.endswith(pronoun) and len(rest) - len(pronoun) >= 3):
                continue
            core = rest.removesuffix(pronoun) if pronoun else rest
            changed = _past(core, gender, goal, forms) or _present(core, goal, forms)
            if changed is not None:
                return letters + changed + pronoun
    if goal != "F" and word.endswith("ت") and len(word) > 3:
        return word[:-1]
    return word


def _past(core: str, gender: str, goal: Target, forms: ArabicForms) -> str | None:
    verb = forms.past.get(plain_alef(normal(core)))
    # تحمل was read as "she carries" where the mark is feminine, although "he endured" is written alike.
    if verb is None or verb.gender[0] != gender:
        return None
    feminine = goal == "F"
    if feminine:
        if core.endswith("وا"):
            return core[:-2] + "ن"
        stem = core[:-1] if plain_alef(normal(core))[:-1] in _defective() and core[-1] in "ىاي" else core
        return stem + "ت"
    if core.endswith("تا"):
        return core[:-2] + "ا"
    if verb.gender == "FP":
        return core[:-1] + "وا"
    return core[:-1] + _defective().get(plain_alef(normal(core[:-1])), "")


def _present(core: str, goal: Target, forms: ArabicForms) -> str | None:
    if len(core) < 3 or core[0] not in "يت":
        return None
    rest = core[1:]
    plain = plain_alef(normal(rest))
    if plain.endswith("ن") and core[0] == "ي" and plain[:-1] in forms.imperfect and plain not in forms.imperfect:
        return core if goal == "F" else core[:-1].removesuffix("ي") + "ون"
    if plain.endswith(("ون", "وا")) and core[0] == "ي" and plain not in forms.imperfect:
        if goal != "F":
            return core
        # يرتدون is يرتدين of women: the ي of the stem comes back.
        return core[:-2] + ("ن" if plain[:-2] in forms.imperfect else "ين")
    if plain not in forms.imperfect and plain.removesuffix("ان") not in forms.imperfect and plain.removesuffix("ا") not in forms.imperfect:
        return None
    return ("ت" if goal == "F" else "ي") + rest


def _noun(word: str, goal: Target) -> str:
    """The noun or adjective in the other gender: from the table, else ة, ات and تان put on or taken off."""
    whole = _whole(word, goal)
    if whole is not None:
        return whole
    forms = _forms()
    text = normal(word)
    if len(text) != len(word):
        return word
    for stem, _, _, _, pronoun in stems(text):
        noun = forms.nouns.get(stem) or (forms.nouns.get(stem[:-1] + "ة") if pronoun and stem.endswith("ت") else None)
        if noun is None:
            continue
        start = len(text) - len(pronoun) - len(stem)
        raw = word[start : len(word) - len(pronoun)]
        listed = stem[:-1] + "ة" if pronoun and stem.endswith("ت") else stem
        form = _pairs().get((stem, goal)) or _pairs().get((listed, goal)) or _pairs().get((stem.removesuffix("ا"), goal))
        if form is not None and pronoun:
            # "Her father": أب and أخ take a long vowel before a pronoun, ة becomes ت.
            changed = form[:-1] + "ت" if form.endswith("ة") else form + "و" if form in ("أب", "أخ") else form
        elif form is not None:
            changed = form
        elif noun.lemma.endswith("ي") and raw == noun.lemma[:-1] and goal == "F":
            changed = raw + "ية"
        else:
            changed = _regular(raw, noun.gender, noun.number, goal, bool(pronoun))
        return word[:start] + changed + (word[len(word) - len(pronoun) :] if pronoun else "")
    return word


def _regular(raw: str, gender: str, number: str, goal: Target, with_pronoun: bool) -> str:
    if (gender == "F") == (goal == "F") or gender == "N":
        return raw
    if goal != "F":
        for ending, other in (("تان", "ان"), ("تين", "ين"), ("ات", "ين"), ("ة", ""), ("ه", ""), ("ت", "")):
            if raw.endswith(ending):
                return raw[: -len(ending)] + other
        return raw
    if number == "d":
        return raw[:-2] + ("تان" if raw.endswith("ان") else "تين")
    if number == "p":
        return raw[:-2] + "ات" if raw.endswith(("ون", "ين")) else raw
    if raw.endswith("ة"):
        # خليفة is masculine already in ة and has no other form.
        return raw
    base = raw[:-1] if raw.endswith("ا") else raw
    return base + ("ت" if with_pronoun else "ة")
