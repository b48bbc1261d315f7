"""Which column of a researcher's table holds what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from saebias.corpus.records import VISUAL_GENDERS
from saebias.corpus.table_formats import missing_name
from saebias.errors import InputError


@dataclass(frozen=True)
class ColumnMap:
    """Which column of the table holds what. An optional one left at None is taken from a column of its own name where there is one."""

    image: str = "image"
    """Path of the picture, relative to the table's folder (or to image_root)."""
    caption_en: str | tuple[str, ...] | None = "caption_en"
    """One column, or several; a cell holds one caption or a JSON list. None: the corpus has no English."""
    caption_ar: str | tuple[str, ...] | None = "caption_ar"
    sample_id: str | None = None
    """Without one, ids are made from the picture's path and the captions."""
    context: str | None = None
    visual_gender: str | None = None
    cluster: str | None = None
    """Rows that share it show near-duplicate pictures."""
    concept: str | None = None
    style: str | None = None
    skin_tone: str | None = None
    object: str | None = None
    visual_gender_values: Mapping[str, str] = field(default_factory=dict)
    """Words of the table to F, M or A, such as {"0": "M", "1": "F"}; female, woman, male, man, ambiguous and the letters are known."""


@dataclass(frozen=True)
class Binding:
    """The columns to read, and at which of them each field of a ColumnMap stands; an empty list where the table has none."""

    wanted: list[str]
    places: dict[str, list[int]]

    def column(self, name: str) -> str:
        """The table's own name of the (first) column that holds field `name`, which must be bound."""
        return self.wanted[self.places[name][0]]


# Plain optional columns, by the name of the field of ColumnMap.
_OPTIONAL = ("sample_id", "context", "visual_gender", "cluster", "concept", "style", "skin_tone", "object")


def _check_map(columns: ColumnMap) -> None:
    if columns.caption_en is None and columns.caption_ar is None:
        raise InputError("no caption column is named; map caption_en, caption_ar or both")
    for word, gender in columns.visual_gender_values.items():
        if gender not in VISUAL_GENDERS:
            raise InputError(f"visual_gender_values maps {word!r} to {gender!r}; use F, M or A")


def bind(path: Path, columns: ColumnMap, present: list[str]) -> Binding:
    """Where each field of `columns` stands in a table with the columns `present`; raises InputError for one that is missing or stands twice."""
    _check_map(columns)
    wanted: list[str] = []
    places: dict[str, list[int]] = {}
    for name in (item.name for item in fields(columns) if item.name != "visual_gender_values"):
        value = getattr(columns, name)
        if value is None:
            value = (name,) if name in _OPTIONAL and name in present else ()
        places[name] = []
        for column in (value,) if isinstance(value, str) else value:
            if column not in present:
                lone = " (one column only: is it separated by another character?)" if len(present) == 1 else ""
                raise InputError(f"no column {column!r} (for {name}) in {str(path)!r}{missing_name(column, present)}{lone}")
            if present.count(column) > 1:
                raise InputError(f"column {column!r} (for {name}) stands {present.count(column)} times in {str(path)!r}; rename all but one")
            places[name].append(len(wanted))
            wanted.append(column)
    return Binding(wanted, places)
