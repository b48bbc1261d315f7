"""`saebias query`: lists, runs and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.table import Table

from saebias.cli.console import make_reporter
from saebias.cli.tables import output, print_rows, stdout_console
from saebias.config.load import load_config
from saebias.errors import InputError
from saebias.paths import sql_folder
from saebias.store.files import replacing
from saebias.store.query import named_queries, resolve, run_query
from saebias.store.render import FORMATS, plain_rows, write_rows

ENDINGS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet"}


def ask(text: str | None, params: Sequence[str], format_: str | None, out: Path | None, check: bool, config: Path | None, overrides: Sequence[str]) -> int:
    """Answer a query (or list the named ones) and return the exit code."""
    format_ = _format(format_, out)
    artifacts = load_config(config, overrides).runtime.artifacts
    if check:
        return _run_checks(artifacts)
    if text is None:
        with output():
            _list_queries()
        return 0
    given = dict(_pair(item) for item in params)
    try:
        rows = run_query(artifacts, *resolve(text, given), reporter=make_reporter(quiet=True))
    except KeyboardInterrupt:
        print("saebias: stopped", file=sys.stderr)
        return 130
    if out is not None:
        with replacing(out) as temporary, temporary.open("wb") as stream:
            write_rows(rows, format_, stream)
        return 0
    with output():
        if format_ == "table":
            _print_table(rows)
        else:
            write_rows(rows, format_, sys.stdout.buffer)
    return 0


def _format(given: str | None, out: Path | None) -> str:
    """The format that was asked for, else the one that the file's ending names, else a table (a CSV in a file)."""
    if given is not None and given not in FORMATS:
        raise InputError(f"--format {given}: choose one of {', '.join(FORMATS)}")
    if out is None:
        return given or "table"
    if given is None and out.suffix and out.suffix.lower() not in ENDINGS:
        raise InputError(f"--out {out}: its ending names no format; end it in {', '.join(ENDINGS)}, or give --format")
    return "csv" if given == "table" else given or ENDINGS.get(out.suffix.lower(), "csv")


def _pair(item: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not equals:
        raise InputError(f"--param {item}: write it as KEY=VALUE, such as --param top=5")
    return key, value


def _list_queries() -> None:
    table = Table(title="Named queries: saebias query NAME [--param KEY=VALUE]", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what it answers")
    table.add_column("parameters", overflow="fold")
    for query in named_queries().values():
        table.add_row(query.name, query.help, ", ".join(f"{key}={value or 'all'}" for key, value in query.parameters.items()))
    stdout_console().print(table)


def _run_checks(artifacts: Path) -> int:
    lines, found = [], 0
    for path in sorted((sql_folder() / "checks").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        rows = run_query(artifacts, text, reporter=make_reporter(quiet=True))
        help_text = text.splitlines()[0].removeprefix("--").strip()
        lines.append(f"{'ok  ' if rows.num_rows == 0 else 'FAIL'} {path.stem}: {help_text}" + (f" ({rows.num_rows} rows)" if rows.num_rows else ""))
        found += rows.num_rows > 0
    with output():
        print("\n".join(lines))
    return 1 if found else 0


def _print_table(rows: pa.Table) -> None:
    numeric = [pa.types.is_floating(field.type) or pa.types.is_integer(field.type) for field in rows.schema]
    print_rows(rows.column_names, numeric, [[_cell(value) for value in row] for row in plain_rows(rows)])
    print(f"{rows.num_rows} row{'' if rows.num_rows == 1 else 's'}", file=sys.stderr)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)
