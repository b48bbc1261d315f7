"""The rows of a CSV, TSV, JSON lines or Parquet file, one after another in constant memory, whatever is wrong with some of them."""

from __future__ import annotations

import codecs
import csv
import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from saebias.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
SUFFIXES = (*DELIMITERS, *JSON_LINES, *PARQUET)

# A JSON list of long captions passes the csv module's 128 KiB; a quote that is never closed still stops here.
CSV_FIELD_CHARACTERS = 1 << 24
# Rows of JSON lines that are looked at to learn which keys there are.
JSON_ROWS_FOR_KEYS = 1000
PARQUET_BATCH_ROWS = 8192
NAMES_SHOWN = 20


@dataclass(frozen=True)
class RowFault:
    """Why one row cannot be read at all."""

    reason: str
    column: str | None = None
    value: str | None = None


NumberedRow = tuple[int, "list[object] | RowFault"]


def column_names(path: Path, delimiter: str | None = None) -> list[str]:
    """The columns of a table (of JSON lines: every key of the first 1,000 rows). Raises InputError for a file that is no such table."""
    kind = _kind(path)
    if kind == "parquet":
        with _open_parquet(path) as file:
            return file.schema_arrow.names
    _refuse_other_encodings(path)
    if kind == "json":
        return _json_keys(path)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return _csv_header(path, csv.reader(file, delimiter=delimiter or DELIMITERS[path.suffix.lower()], strict=True))


def table_rows(path: Path, wanted: Sequence[str], delimiter: str | None = None) -> Iterator[NumberedRow]:
    """(row number, values of the `wanted` columns in that order), or a RowFault in place of the values of a row that cannot be read.

    Bytes that are not UTF-8 come as lone surrogates. Raises InputError where reading cannot go on.
    """
    kind = _kind(path)
    if kind == "parquet":
        return _parquet_rows(path, wanted)
    if kind == "json":
        return _json_rows(path, wanted)
    return _csv_rows(path, wanted, delimiter or DELIMITERS[path.suffix.lower()])


def missing_name(wanted: str, present: Sequence[str]) -> str:
    """The half of an error line that helps after "no X named ...": the nearest name, then those present (at most 20)."""
    folded = {name.casefold().strip(): name for name in present}
    near = difflib.get_close_matches(wanted.casefold().strip(), list(folded), n=1)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ";"
    more = f" and {len(present) - NAMES_SHOWN} more" if len(present) > NAMES_SHOWN else ""
    return f"{hint} present: {', '.join(map(repr, present[:NAMES_SHOWN])) or 'none'}{more}"


def _kind(path: Path) -> str:
    if not path.exists():
        folder = path.parent
        if not folder.is_dir():
            raise InputError(f"no folder {str(folder)!r} to read {path.name!r} from; give the path of the table")
        tables = sorted(other.name for other in folder.iterdir() if other.suffix.lower() in SUFFIXES)
        raise InputError(f"no table {path.name!r} in {str(folder)!r}{missing_name(path.name, tables)}")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the path of a table ({', '.join(SUFFIXES)})")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{str(path)!r} ends in {suffix!r}; tables end in {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise InputError(f"{str(path)!r} is an empty file; it needs a row per sample")
    return "parquet" if suffix in PARQUET else "json" if suffix in JSON_LINES else "csv"


def _refuse_other_encodings(path: Path) -> None:
    with path.open("rb") as file:
        first_line = file.readline(512)
    if first_line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in first_line:
        raise InputError(f"{str(path)!r} is UTF-16 or binary, not UTF-8 text; save it as UTF-8 (spreadsheets call it 'CSV UTF-8')")


def _csv_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InputError(f"the header of {str(path)!r} is not CSV ({error}); quote fields with one pair of double quotes") from None
    if not any(header):
        raise InputError(f"{str(path)!r} has an empty first line; it needs column names there")
    if not all(_is_utf8(name) for name in header):
        raise InputError(f"the header of {str(path)!r} is not UTF-8; save the table as UTF-8")
    return header


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv_rows(path: Path, wanted: Sequence[str], delimiter: str) -> Iterator[NumberedRow]:
    csv.field_size_limit(max(csv.field_size_limit(), CSV_FIELD_CHARACTERS))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = _csv_header(path, reader)
        places = [header.index(name) for name in wanted]
        row_number = 0
        while True:
            first_line = reader.line_num + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                if "unexpected end" in str(error) or "field limit" in str(error):
                    raise InputError(f"{str(path)!r} opens a quote on line {first_line} and never closes it; close it, or double the quotes inside") from None
                row_number += 1
                yield row_number, RowFault(f"not CSV ({error})")
                continue
            if fields is None:
                return
            if not fields:
                # A blank line.
                continue
            row_number += 1
            if len(fields) != len(header):
                yield row_number, RowFault(f"has {len(fields)} fields where the header has {len(header)}")
            else:
                yield row_number, [fields[place] for place in places]


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, object] | RowFault]]:
    with path.open("rb") as file:
        for row_number, line in enumerate(file, start=1):
            text = line.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape").strip()
            if not text:
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                if row_number == 1 and text.startswith("["):
                    raise InputError(f"{str(path)!r} is one JSON list; write one object per line instead") from None
                yield row_number, RowFault(f"not JSON ({error})", value=text)
                continue
            if isinstance(value, list) and row_number == 1:
                raise InputError(f"{str(path)!r} is one JSON list; write one object per line instead")
            yield row_number, value if isinstance(value, dict) else RowFault("not a JSON object", value=text)


def _json_keys(path: Path) -> list[str]:
    keys: dict[str, None] = {}
    fault = None
    n_rows = 0
    for row_number, row in _json_lines(path):
        if isinstance(row, RowFault):
            fault = fault or f"line {row_number} is {row.reason}"
            continue
        keys.update(dict.fromkeys(row))
        n_rows += 1
        if n_rows == JSON_ROWS_FOR_KEYS:
            break
    if not n_rows and fault:
        raise InputError(f"{str(path)!r} has no line that is a JSON object: {fault}")
    return list(keys)


def _json_rows(path: Path, wanted: Sequence[str]) -> Iterator[NumberedRow]:
    for row_number, row in _json_lines(path):
        # A key that is not there and a null are the same thing in JSON lines.
        yield row_number, row if isinstance(row, RowFault) else [row.get(name) for name in wanted]


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{str(path)!r} cannot be read as Parquet ({_first_line(error)}); write it anew") from None


def _parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[NumberedRow]:
    with _open_parquet(path) as file:
        for name in wanted:
            kind = file.schema_arrow.field(name).type
            if pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                raise InputError(f"column {name!r} of {str(path)!r} holds {kind}, not text; pictures embedded in a table must be saved as files first")
        row_number = 0
        try:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=list(dict.fromkeys(wanted))):
                columns = [_python_values(batch.column(name)) for name in wanted]
                for values in zip(*columns, strict=True):
                    row_number += 1
                    fault = next((value for value in values if isinstance(value, RowFault)), None)
                    yield row_number, fault or list(values)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{str(path)!r} is damaged after row {row_number} ({_first_line(error)}); write it anew") from None


def _python_values(column: pa.Array) -> list[object]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_python_value(value) for value in column]


def _python_value(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return RowFault("bytes that are not UTF-8", value=error.object.decode(errors="backslashreplace"))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
