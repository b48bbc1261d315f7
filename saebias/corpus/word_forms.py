"""The words of a caption by form and by meaning: whether a word carries a feminine mark, and whether it means a woman, a man, or says nothing.

Form is how an Arabic word is written (ة, the verb's تـ or ـت, the clitic ها); meaning is what the labeller's evidence says of it. They mostly go together,
and a tool that tells them apart needs the words on which they do not: سيارة is feminine in form and no person, خليفة is a man.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from saebias.corpus.labels import CaptionLabel, Evidence

_WORD = re.compile(r"[^\W\d_][\w\u064b-\u0652\u0640']*")
_DIACRITICS = re.compile("[\u064b-\u0652\u0640]")
# An agreement with a word that names a person without gender shows that word's form and nobody's gender.
_FORM_ALONE = "agreement with a neutral person"


class Word(NamedTuple):
    """One word; `meaning` is F, M, N (says nothing), or m: masculine by grammar alone, which may mean a man or anybody."""

    surface: str
    start: int
    end: int
    is_feminine_form: bool
    meaning: str
    rule: str
    """The labeller's rule, empty for a word that is no evidence."""


def words_of(text: str, language: str, label: Callable[[str], CaptionLabel]) -> list[Word]:
    """The words of a caption in reading order; words whose evidence is ambiguous, contradictory or rejected are left out."""
    labelled = label(text)
    found = []
    for match in _WORD.finditer(text):
        evidence = [item for item in labelled.evidence if _overlaps(item, match)]
        rejected = [item for item in labelled.rejected if _overlaps(item, match)]
        surface = _DIACRITICS.sub("", match[0])
        if not evidence and not rejected:
            found.append(Word(surface, match.start(), match.end(), _marked(surface, language, None), "N", ""))
        elif not evidence and all(item.rule == _FORM_ALONE for item in rejected):
            found.append(Word(surface, match.start(), match.end(), rejected[0].gender == "F", "N", rejected[0].rule))
        elif evidence and not rejected and len({item.gender for item in evidence}) == 1 and not any(item.ambiguous for item in evidence):
            first = evidence[0]
            meaning = "m" if language == "ar" and first.gender == "M" and not first.explicit else first.gender
            found.append(Word(surface, match.start(), match.end(), _marked(surface, language, first), meaning, first.rule))
    return found


def _overlaps(item: Evidence, match: re.Match[str]) -> bool:
    return item.start < match.end() and item.end > match.start()


def _marked(surface: str, language: str, evidence: Evidence | None) -> bool:
    """Whether an Arabic word is written with a feminine mark; English words have no grammatical gender."""
    if language != "ar":
        return False
    if surface.endswith("ة"):
        return True
    if evidence is None or evidence.gender != "F":
        return False
    if evidence.rule in ("verb agreement", "attached pronoun"):
        return True
    # The sound feminine plural; in a singular noun the same letters belong to the stem.
    return surface.endswith("ات")
