"""Captions of any model from a file, one after another in constant memory; a row that cannot be labelled is named, never guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saebias.corpus.labels import language_of
from saebias.corpus.table_formats import SUFFIXES, RowFault, column_names, missing_name, table_rows
from saebias.errors import InputError
from saebias.identifiers import LANGUAGES

PLAIN = (".txt", ".text")


@dataclass(frozen=True)
class CaptionColumns:
    """Which columns hold what. `language` may be left out where all captions are of one language, the others where there is none."""

    caption: str = "caption"
    language: str | None = None
    image_id: str | None = None
    context: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class CaptionRow:
    """One caption to be labelled, or why it was set aside (`problem`, with `text` empty)."""

    row_number: int
    text: str
    language: str
    image_id: str
    """The bootstrap unit; the row's own number where the file names no image."""
    context: str | None
    reference: str | None
    problem: str | None = None


def caption_rows(path: Path, columns: CaptionColumns, language: str | None = None) -> Iterator[CaptionRow]:
    """The captions of a CSV, TSV, JSON lines, Parquet or plain text file (one caption a line), in file order.

    `language` holds for every row where there is no language column. Raises InputError for a missing file or column, or no language.
    """
    if columns.language is None and language not in LANGUAGES:
        raise InputError(f"{path}: no language for the captions ({language!r}); give a language column or --language en|ar")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file of captions ({', '.join((*SUFFIXES, *PLAIN))})")
    if path.suffix.lower() in PLAIN:
        return _plain_rows(path, language)
    return _table_rows(path, columns, language)


def _plain_rows(path: Path, language: str | None) -> Iterator[CaptionRow]:
    if language not in LANGUAGES:
        raise InputError(f"{path}: plain lines have no language column; give --language en|ar")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as broken:
                yield _set_aside(number, f"not UTF-8 at byte {broken.start}")
                continue
            yield _checked(number, text, language, None, None, None)


def _table_rows(path: Path, columns: CaptionColumns, language: str | None) -> Iterator[CaptionRow]:
    present = column_names(path)
    names = [columns.caption, columns.language, columns.image_id, columns.context, columns.reference]
    wanted = [name for name in names if name is not None]
    for name in wanted:
        if name not in present:
            raise InputError(f"{path}: no column {name!r}{missing_name(name, present)}")
    places = [wanted.index(name) if name is not None else None for name in names]
    for number, values in table_rows(path, wanted):
        if isinstance(values, RowFault):
            yield _set_aside(number, values.reason)
            continue
        text, own, image, context, reference = (None if place is None else _cell(values[place]) for place in places)
        yield _checked(number, text, own if columns.language is not None else language, image, context, reference)


def _cell(value: object) -> str | None:
    return None if value is None else str(value)


def _set_aside(number: int, problem: str) -> CaptionRow:
    return CaptionRow(number, "", "", str(number), None, None, problem)


def _checked(number: int, text: str | None, language: str | None, image: str | None, context: str | None, reference: str | None) -> CaptionRow:
    """The row, or the row set aside: no caption, broken text, an unknown language, or a caption in the script of the other language."""
    if text is None:
        return _set_aside(number, "no caption")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return _set_aside(number, "the caption is not UTF-8")
    if language not in LANGUAGES:
        return _set_aside(number, f"language {language!r} is neither en nor ar")
    written = language_of(text)
    if written is not None and written != language:
        return _set_aside(number, f"the caption is written in {written!r}, not in {language!r}")
    return CaptionRow(number, text, language, image if image is not None else str(number), context, reference)
