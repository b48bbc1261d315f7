"""Captions without their gender, and captions with the other gender: for leakage tests and counterfactual pairs.

`neutralise` gives a woman's and a man's caption the same words; in Arabic the agreement goes with it, to the masculine that شخص takes.
`swap` says the same of the other gender, agreement included. Both change only what the labeller found; what it did not find stays.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Literal

from saebias.corpus.english import TOKEN, EnglishForms, fold
from saebias.corpus.label_lexicon import gender_pairs, words_of
from saebias.corpus.labels import Evidence, label_caption
from saebias.corpus.masking_ar import arabic_word
from saebias.errors import InputError

Target = Literal["F", "M", "N"]
_VERBS = {"is": "are", "was": "were", "has": "have", "does": "do", "isn't": "aren't", "wasn't": "weren't", "hasn't": "haven't", "doesn't": "don't"}
_CONTRACTED = {"'s": "'re", "'d": "'d", "'ll": "'ll"}
# After a possessive "her" comes what is hers; after an object "her" comes one of these, or nothing.
_NOT_POSSESSED = words_of("en_contexts", "not possessed")


def neutralise(text: str, language: str) -> str:
    """The caption with every gender mark replaced by a neutral one."""
    return _rewrite(text, language, "N")


def swap(text: str, language: str) -> str:
    """The caption said of the other gender: every mark of a woman becomes a man's and the other way round."""
    return _rewrite(text, language, None)


def _rewrite(text: str, language: str, target: Target | None) -> str:
    if language not in ("en", "ar"):
        raise InputError(f"no masking for language {language!r}; captions are masked in 'en' and 'ar'")
    found = [item for item in label_caption(text, language).evidence if item.gender in "FM"]
    if language == "ar":
        found = _of_the_persons_meant(found)
    pieces: list[str] = []
    position = 0
    for start, end, items in _by_word(found):
        pieces.append(text[position:start])
        written = text[start:end]
        if language == "ar":
            pieces.append(arabic_word(written, items, target))
        else:
            goal: Target = target or ("M" if items[0].gender == "F" else "F")
            pieces.append(_english_word(written, text[end:], goal))
            if goal == "N" and items[0].rule == "pronoun" and fold(written) in ("he", "she"):
                end = _plural_verb(text, end, pieces)
        position = end
    rewritten = "".join(pieces) + text[position:]
    return _articles(text, rewritten) if language == "en" else rewritten


def _of_the_persons_meant(found: list[Evidence]) -> list[Evidence]:
    """Without grammatical masculine that stays what it is: of generic plurals (العمال), and of others beside a woman (طفلها)."""
    plurals = {item.start for item in found if item.rule == "generic plural"}
    woman = any(item.gender == "F" for item in found)
    return [item for item in found if item.mention_start not in plurals and (item.gender == "F" or item.explicit or not woman)]


def _by_word(found: list[Evidence]) -> list[tuple[int, int, list[Evidence]]]:
    """The evidence word by word: a word may carry two marks (her father: أبوها)."""
    words: dict[tuple[int, int], list[Evidence]] = {}
    for item in found:
        words.setdefault((item.start, item.end), []).append(item)
    return [(start, end, items) for (start, end), items in sorted(words.items())]


@cache
def _english_pairs() -> dict[tuple[str, Target], str]:
    """(word, target) -> form; the first line of the table that has a word decides."""
    table: dict[tuple[str, Target], str] = {}
    for feminine, masculine, neutral in gender_pairs("en"):
        for word in (feminine, masculine):
            for target, form in (("F", feminine), ("M", masculine), ("N", neutral)):
                table.setdefault((word, target), form)  # type: ignore[arg-type]
    return table


@cache
def _forms() -> EnglishForms:
    return EnglishForms()


def _english_word(written: str, rest: str, target: Target) -> str:
    folded = fold(written)
    if " " in folded:
        return " ".join(_english_word(part, "", target) for part in written.split(" "))
    ending = ""
    for cut in ("'s", "'d", "'ll", "'"):
        if folded.endswith(cut) and len(folded) > len(cut) + 1:
            folded, ending = folded[: -len(cut)], written[-len(cut) :]
            break
    if folded in ("her", "his"):
        form = _possessive_or_object(folded, rest, target)
    else:
        form = _english_pairs().get((folded, target)) or _english_compound(folded, target) or folded
        if target == "N" and folded in ("he", "she") and ending:
            ending = _CONTRACTED.get(fold(ending), ending)
    if written.isupper() and len(written) > 1:
        return form.upper() + ending
    return (form[:1].upper() + form[1:] if written[:1].isupper() else form) + ending


def _possessive_or_object(folded: str, rest: str, target: Target) -> str:
    """her is his or him, his is her or hers: by whether something possessed follows."""
    match = TOKEN.match(rest.lstrip(" "))
    possessed = match is not None and rest[:1] == " " and fold(match[0]) not in _NOT_POSSESSED
    if possessed:
        return {"F": "her", "M": "his", "N": "their"}[target]
    if folded == "his":
        return {"F": "hers", "M": "his", "N": "theirs"}[target]
    return {"F": "her", "M": "him", "N": "them"}[target]


def _english_compound(folded: str, target: Target) -> str | None:
    for feminine, masculine, neutral in (("woman", "man", "person"), ("women", "men", "people"), ("lady", "lord", "holder")):
        for ending in (feminine, masculine):
            if folded.endswith(ending) and len(folded) > len(ending) + 1:
                return folded[: -len(ending)] + {"F": feminine, "M": masculine, "N": neutral}[target]
    if "-" in folded:
        head, _, last = folded.rpartition("-")
        if last == "law" and head.endswith("-in"):
            changed = _english_pairs().get((head[:-3], target))
            return None if changed is None else f"{changed}-in-law"
        changed = _english_pairs().get((last, target))
        return None if changed is None else f"{head}-{changed}"
    if target != "F" and folded.endswith("ess"):
        entry = _forms().form(folded[:-3])
        return folded[:-3] if entry.entry is not None else None
    return None


def _plural_verb(text: str, end: int, pieces: list[str]) -> int:
    """Make the verb after "they" plural; returns where the rest of the text begins."""
    match = TOKEN.search(text, end)
    if match is None or text[end : match.start()] != " ":
        return end
    verb = fold(match[0])
    plural = _VERBS.get(verb)
    if plural is None and verb.endswith("s") and not verb.endswith(("ss", "us", "is")) and len(verb) > 3:
        plural = verb[:-3] + "y" if verb.endswith("ies") else verb[:-2] if verb.endswith(("shes", "ches", "sses", "xes", "zes", "oes")) else verb[:-1]
    if plural is None:
        return end
    pieces.append(" " + (plural.upper() if match[0].isupper() else plural))
    return match.end()


def _articles(before: str, after: str) -> str:
    """a and an set right before words that were replaced."""
    if before == after:
        return after
    words = list(TOKEN.finditer(after))
    pieces, position = [], 0
    for article, word in pairwise(words):
        if article[0].lower() not in ("a", "an") or after[article.end() : word.start()] != " ":
            continue
        right = "an" if word[0][:1].lower() in "aeiou" else "a"
        if article[0].lower() != right and word[0] not in before:
            pieces.append(after[position : article.start()] + (right.capitalize() if article[0][:1].isupper() else right))
            position = article.end()
    return "".join(pieces) + after[position:]
