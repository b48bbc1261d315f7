"""Rows of an answer as CSV, JSON or Parquet bytes."""

from __future__ import annotations

import csv
import io
import json
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = ("table", "csv", "json", "parquet")


def write_rows(rows: pa.Table, format_: str, stream: BinaryIO) -> None:
    """Write rows to a binary stream: CSV with a header line, a JSON list of objects (UTF-8), or Parquet."""
    if format_ == "parquet":
        pq.write_table(rows, stream)
        return
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    if format_ == "json":
        json.dump(rows.to_pylist(), text, ensure_ascii=False, indent=1, default=str)
        text.write("\n")
    else:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows.column_names)
        writer.writerows(row.values() for row in rows.to_pylist())
    text.flush()
    text.detach()
