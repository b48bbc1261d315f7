"""Reading the lexicons: tab-separated UTF-8 files, one word a line, each with its source.

Columns: word, gender, number, kind, source, note. `gender` is F, M, N (a person, no gender) or - (no person); `number` is s, d, p or -.
A user's own file (`labels.extra_lexicon`) has the same columns plus a first column `language`; its words add to and override ours.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from saebias.errors import InputError

FOLDER = Path(__file__).parent / "lexicon"
COLUMNS = ("word", "gender", "number", "kind", "source", "note")
GENDERS = ("F", "M", "N", "-")
NUMBERS = ("s", "d", "p", "-")


class Entry(NamedTuple):
    """One word form and what it says about a person."""

    word: str
    gender: str
    number: str
    kind: str
    source: str
    note: str = ""


@cache
def lexicon(name: str) -> tuple[Entry, ...]:
    """The entries of the built-in file `name` (without .tsv), in file order."""
    return tuple(entry for _, entry in _read(FOLDER / f"{name}.tsv", ("-",)))


def words_of(name: str, kind: str) -> frozenset[str]:
    """The words of one kind in the built-in file `name`: a closed list that a rule looks at. Raises KeyError where there is none."""
    found = frozenset(entry.word for entry in lexicon(name) if entry.kind == kind)
    if not found:
        raise KeyError(f"no word of kind {kind!r} in {name}.tsv")
    return found


@cache
def gender_pairs(language: str) -> tuple[tuple[str, str, str], ...]:
    """(feminine, masculine, neutral) forms of one word each, in the order in which they are to be tried."""
    lines = (FOLDER / f"{language}_pairs.tsv").read_text(encoding="utf-8").splitlines()
    rows = [tuple(line.split("\t")) for line in lines if line and not line.startswith(("#", "feminine\t"))]
    return tuple((feminine, masculine, neutral) for feminine, masculine, neutral in rows)


def extra_entries(path: Path | None, language: str) -> tuple[Entry, ...]:
    """The entries of a user's file that are for `language`. Raises InputError naming file, line and column for what cannot be used."""
    if path is None:
        return ()
    return tuple(entry for row_language, entry in _read(path, ("en", "ar")) if row_language == language)


def _read(path: Path, languages: tuple[str, ...]) -> list[tuple[str, Entry]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as missing:
        raise InputError(f"lexicon {path} does not exist; give a tab-separated file with columns language, {', '.join(COLUMNS)}") from missing
    except UnicodeDecodeError as broken:
        raise InputError(f"lexicon {path} is not UTF-8 at byte {broken.start}; save it as UTF-8") from broken
    with_language = languages != ("-",)
    entries: list[tuple[str, Entry]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        language = cells.pop(0) if with_language else "-"
        if cells[:2] == ["word", "gender"]:
            continue
        entries.append((language, _entry(path, number, language, languages, cells)))
    return entries


def _entry(path: Path, line: int, language: str, languages: tuple[str, ...], cells: list[str]) -> Entry:
    if language not in languages:
        raise InputError(f"{path}:{line}: language {language!r} is none of {', '.join(languages)}")
    if len(cells) < 5:
        raise InputError(
            f"{path}:{line}: {len(cells)} cells after the language where {', '.join(COLUMNS)} are asked for (note may be left out); separate with tabs"
        )
    word, gender, number, kind, source, *note = cells
    if gender not in GENDERS:
        raise InputError(f"{path}:{line}: gender {gender!r} of {word!r} is none of {', '.join(GENDERS)}")
    if number not in NUMBERS:
        raise InputError(f"{path}:{line}: number {number!r} of {word!r} is none of {', '.join(NUMBERS)}")
    return Entry(word, gender, number, kind, source, note[0] if note else "")
