"""Rows of an answer as CSV, JSON or Parquet bytes."""

from __future__ import annotations

import codecs
import csv
import json
import math
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = ("table", "csv", "json", "parquet")


def plain_rows(rows: pa.Table) -> list[tuple[Any, ...]]:
    """The rows as tuples of plain values: columns of one name stay two columns."""
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def _distinct(names: list[str]) -> list[str]:
    """Column names, the second of a name with _2 behind it: a JSON object holds each name once."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found


def _finite(value: Any) -> Any:
    # JSON has no NaN and no infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_rows(rows: pa.Table, format_: str, stream: BinaryIO) -> None:
    """Write rows to a binary stream: CSV with a header line, a JSON list of objects (UTF-8), or Parquet."""
    if format_ == "parquet":
        pq.write_table(rows, stream)
        return
    # A text wrapper would close the stream behind our back when its reader goes away.
    text = codecs.getwriter("utf-8")(stream)
    if format_ == "json":
        names = _distinct(rows.column_names)
        json.dump([dict(zip(names, map(_finite, row), strict=True)) for row in plain_rows(rows)], text, ensure_ascii=False, indent=1, default=str)
        text.write("\n")
    else:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows.column_names)
        writer.writerows(plain_rows(rows))
    stream.flush()
