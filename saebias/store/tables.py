"""The tables of the catalogue as their SQL files define them, and rows made to fit them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from saebias.errors import StoreError
from saebias.paths import sql_folder


def schema_statements() -> list[str]:
    """The text of every sql/schema file, in order."""
    return [path.read_text(encoding="utf-8") for path in sorted((sql_folder() / "schema").glob("*.sql"))]


@cache
def arrow_schemas() -> Mapping[str, pa.Schema]:
    """Per table, the Arrow schema of its columns without run_id (the folder of a part says which run it is of)."""
    with duckdb.connect(":memory:") as connection:
        for statement in schema_statements():
            connection.execute(statement)
        names = [row[0] for row in connection.execute("select table_name from information_schema.tables order by 1").fetchall()]
        schemas = {}
        for name in names:
            schema = connection.sql(f'select * from "{name}"').to_arrow_table().schema
            # JSON columns come out as an extension type; in a part they are plain text.
            fields = [pa.field(f.name, pa.string() if isinstance(f.type, pa.BaseExtensionType) else f.type) for f in schema if f.name != "run_id"]
            schemas[name] = pa.schema(fields)
        return schemas


def to_arrow(table: str, rows: pa.Table | Iterable[Any]) -> pa.Table:
    """Rows (an Arrow table, mappings, or flat dataclasses) with exactly the columns and types of `table`.

    Raises StoreError naming the column that is missing, unknown, or holds a value of the wrong type.
    """
    schema = arrow_schemas()[table]
    if not isinstance(rows, pa.Table):
        rows = _from_records(table, list(rows), schema)
    _check_columns(table, set(rows.column_names), schema)
    try:
        return rows.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise StoreError(f"table {table}: a value does not fit its column: {' '.join(str(error).split())}") from None


def _from_records(table: str, records: list[Any], schema: pa.Schema) -> pa.Table:
    plain = [dataclasses.asdict(r) if dataclasses.is_dataclass(r) and not isinstance(r, type) else dict(r) for r in records]
    columns: dict[str, pa.Array] = {}
    names = {name for record in plain for name in record} or set(schema.names)
    _check_columns(table, names, schema)
    for field in schema:
        values = [record.get(field.name) for record in plain]
        try:
            columns[field.name] = pa.array(values, type=field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise StoreError(f"table {table}, column {field.name}: {' '.join(str(error).split())}") from None
    return pa.table(columns)


def _check_columns(table: str, names: set[str], schema: pa.Schema) -> None:
    unknown = sorted(names - set(schema.names))
    missing = sorted(set(schema.names) - names)
    if unknown or missing:
        problem = f"has no column {unknown[0]}" if unknown else f"needs column {missing[0]}, which the rows lack"
        raise StoreError(f"table {table} {problem}; its columns are {', '.join(schema.names)}")
