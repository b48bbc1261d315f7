"""What a figure takes: an Arrow table or a list of rows, checked before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from saebias.errors import InputError

Row = dict[str, Any]
Table = pa.Table | Sequence[Mapping[str, Any]]


def rows_of(table: Table, figure: str, needed: Sequence[str] = ()) -> list[Row]:
    """The rows of `table` as dictionaries; raises InputError when there is none or a column of `needed` is missing."""
    rows = table.to_pylist() if isinstance(table, pa.Table) else [dict(row) for row in table]
    present = list(table.column_names) if isinstance(table, pa.Table) else list(rows[0]) if rows else list(needed)
    absent = [column for column in needed if column not in present]
    if absent:
        raise InputError(f"figure {figure}: the table has no column {', '.join(absent)}; it has {', '.join(present)}")
    if not rows:
        raise InputError(f"figure {figure}: the table has no row to draw; run the stage that fills it first")
    return rows


def number(row: Mapping[str, Any], column: str) -> float | None:
    """The number in `column`, or None where it is missing (null or NaN)."""
    value = row[column]
    return None if value is None or math.isnan(float(value)) else float(value)


def gap(row: Mapping[str, Any], column: str) -> float:
    """The number in `column` for an artist: a missing one is NaN, which leaves a hole in a line and draws no mark."""
    value = number(row, column)
    return math.nan if value is None else value


def require_numbers(rows: Iterable[Mapping[str, Any]], column: str, figure: str) -> None:
    """Raise InputError when every number of `column` is missing: an empty picture would look like a result."""
    if all(number(row, column) is None for row in rows):
        raise InputError(f"figure {figure}: every {column} is missing; the column note of its table says why")


def distinct(rows: Iterable[Mapping[str, Any]], column: str, order: Sequence[Any] = ()) -> list[Any]:
    """The values of `column` that occur: those of `order` first and in its order, then the others as they come."""
    found = list(dict.fromkeys(row[column] for row in rows if row[column] is not None))
    return [value for value in order if value in found] + [value for value in found if value not in order]


def missing_note(rows: Iterable[Mapping[str, Any]], column: str, name_columns: Sequence[str], limit: int = 3) -> str:
    """A sentence that names what is missing, with the reason its row gives; empty when nothing is."""
    lost = [row for row in rows if number(row, column) is None]
    if not lost:
        return ""
    names = ["/".join(str(row[key]).replace("_", " ") for key in name_columns if row.get(key) is not None) for row in lost]
    reasons = list(dict.fromkeys(str(row["note"]) for row in lost if row.get("note")))
    shown = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return f"Missing: {shown}" + (f" ({'; '.join(reasons[:2])})." if reasons else ".")


def count_note(rows: Iterable[Mapping[str, Any]], units: Mapping[str, str] = MappingProxyType({"n_images": "images", "n_clusters": "clusters"})) -> str:
    """How many images in how many clusters (or other `units` by column) stand behind the numbers, as a range where it differs."""
    parts = []
    for column, unit in units.items():
        values = [int(row[column]) for row in rows if row.get(column) is not None]
        if values:
            low, high = min(values), max(values)
            parts.append(f"{low:,} {unit}" if low == high else f"{low:,} to {high:,} {unit}")
    return f"n = {' in '.join(parts)} per point." if parts else ""


def sentences(*parts: str) -> str:
    """The parts that say something, joined by a space."""
    return " ".join(part for part in parts if part)
