"""Captions: the words of a scene, the exact distribution they are drawn from, and the closed set that discloses gender.

English puts the gender before the profession ("a woman cook beside a guitar"), as the CLDR names do. Arabic discloses it in the ending of the profession
(طباخة / طباخ), and the verb agrees (تقف / يقف). An Arabic masculine caption is masculine by grammar alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saebias.captioner.scenes import Scene
from saebias.captioner.spec import CaptionerSpec, Context
from saebias.corpus.emoji import names_by_sequence
from saebias.identifiers import LANGUAGES

GENDER_WORDS = {"F": "woman", "M": "man"}
VERBS = {"F": "تقف", "M": "يقف"}


@dataclass(frozen=True)
class CaptionVariant:
    """One caption that a scene can get, with its probability and the gender that it says (F, M or N)."""

    text: str
    gender: str
    probability: float


@dataclass(frozen=True)
class Continuation:
    """The beginning of a caption, up to the first word after the phrase that discloses its gender (F, M or N)."""

    context: str
    language: str
    gender: str
    text: str


def with_article(noun: str) -> str:
    """`noun` after its English indefinite article."""
    return f"an {noun}" if noun[0] in "aeio" or noun.startswith("um") else f"a {noun}"


def person_phrase(context: Context, gender: str, language: str) -> str:
    """How a caption names the person: "a woman cook", "a cook" (N), "طباخة"."""
    if language == "ar":
        return {"F": context.ar_F, "M": context.ar_M}[gender]
    return with_article(context.name) if gender == "N" else f"a {GENDER_WORDS[gender]} {context.name}"


def caption_text(context: Context, gender: str, thing: str, language: str, spec: CaptionerSpec) -> str:
    """The caption for a person of `context` said to be of `gender` beside object `thing` (its English name)."""
    person = person_phrase(context, gender, language)
    if language == "en":
        return f"{person} beside {with_article(thing)}"
    return f"{person} {VERBS[gender]} بجانب {names_by_sequence()[dict(spec.objects)[thing]][1]}"


def caption_variants(context: Context, gender: str, thing: str, language: str, spec: CaptionerSpec) -> list[CaptionVariant]:
    """Every caption that a scene with visual gender F, M or A can get in `language`; the probabilities are the plant and sum to 1."""
    if gender == "A":
        neutral, p = context.neutral(language), context.p(language)
        shares = {"F": (1 - neutral) * p, "M": (1 - neutral) * (1 - p), "N": neutral}
    else:
        shares = {"F": spec.error_rate, "M": spec.error_rate, "N": 0.0, gender: 1 - spec.error_rate}
    return [CaptionVariant(caption_text(context, said, thing, language, spec), said, share) for said, share in shares.items() if share > 0]


def scene_captions(scene: Scene, spec: CaptionerSpec, rng: np.random.Generator) -> dict[str, str]:
    """One caption per language for `scene`, each drawn from its planted distribution."""
    captions = {}
    for language in LANGUAGES:
        variants = caption_variants(spec.context(scene.context), scene.gender, scene.object, language, spec)
        captions[language] = variants[rng.choice(len(variants), p=[variant.probability for variant in variants])].text
    return captions


def continuations(spec: CaptionerSpec) -> list[Continuation]:
    """The closed set that discloses gender: per context F, M and N in English, F and M in Arabic (whose nouns always say one).

    Each text runs up to the first word after the disclosing phrase, so that F and M are never prefixes of one another.
    """
    rows = []
    for context in spec.contexts:
        rows += [Continuation(context.name, "en", gender, person_phrase(context, gender, "en").split(" beside")[0]) for gender in ("F", "M", "N")]
        rows += [Continuation(context.name, "ar", gender, text) for gender in ("F", "M") for text in _arabic_beginnings(context, gender)]
    return rows


def _arabic_beginnings(context: Context, gender: str) -> list[str]:
    """The noun and the word after it; for a phrase of several words (عامل بناء) also its first noun with the verb at once (عامل يقف).

    The second is what an intervened model says when it forgets the phrase's end: still that gender, so the closed set must not lose it.
    """
    phrase = person_phrase(context, gender, "ar")
    beginnings = [f"{phrase} {VERBS[gender]}", f"{phrase.split(' ')[0]} {VERBS[gender]}"]
    return list(dict.fromkeys(_up_to_next_word(text) for text in beginnings))


def _up_to_next_word(phrase: str) -> str:
    # The first Arabic word carries the ending; the one after it shows that the masculine noun has ended.
    return " ".join(phrase.split(" ")[:2])
