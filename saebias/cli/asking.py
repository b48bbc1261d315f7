"""`saebias query`: lists, runs and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from saebias.config.load import load_config
from saebias.errors import InputError
from saebias.paths import sql_folder
from saebias.store.files import replacing
from saebias.store.query import named_queries, resolve, run_query
from saebias.store.render import FORMATS, plain_rows, write_rows


def ask(text: str | None, params: Sequence[str], format_: str, out: Path | None, check: bool, config: Path | None, overrides: Sequence[str]) -> int:
    """Answer a query (or list the named ones) and return the exit code."""
    if format_ not in FORMATS:
        raise InputError(f"--format {format_}: choose one of {', '.join(FORMATS)}")
    artifacts = load_config(config, overrides).runtime.artifacts
    if check:
        return _run_checks(artifacts)
    if text is None:
        _list_queries()
        return 0
    given = dict(_pair(item) for item in params)
    try:
        rows = run_query(artifacts, *resolve(text, given))
    except KeyboardInterrupt:
        print("saebias: stopped", file=sys.stderr)
        return 130
    if format_ == "table" and out is None:
        _print_table(rows)
    elif out is not None:
        with replacing(out) as temporary, temporary.open("wb") as stream:
            write_rows(rows, "csv" if format_ == "table" else format_, stream)
    else:
        write_rows(rows, format_, sys.stdout.buffer)
    return 0


def _pair(item: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not equals:
        raise InputError(f"--param {item}: write it as KEY=VALUE, such as --param top=5")
    return key, value


def _list_queries() -> None:
    table = Table(title="Named queries: saebias query NAME [--param KEY=VALUE]", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what it answers")
    table.add_column("parameters")
    for query in named_queries().values():
        table.add_row(query.name, query.help, ", ".join(f"{key}={value or 'all'}" for key, value in query.parameters.items()))
    _console().print(table)


def _run_checks(artifacts: Path) -> int:
    found = 0
    for path in sorted((sql_folder() / "checks").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        rows = run_query(artifacts, text)
        help_text = text.splitlines()[0].removeprefix("--").strip()
        print(f"{'ok  ' if rows.num_rows == 0 else 'FAIL'} {path.stem}: {help_text}" + (f" ({rows.num_rows} rows)" if rows.num_rows else ""))
        found += rows.num_rows > 0
    return 1 if found else 0


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False, emoji=False)


def _print_table(rows: pa.Table) -> None:
    table = Table()
    for field in rows.schema:
        numeric = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        table.add_column(field.name, justify="right" if numeric else "left")
    for row in plain_rows(rows):
        table.add_row(*(_cell(value) for value in row))
    _console().print(table)
    print(f"{rows.num_rows} row{'' if rows.num_rows == 1 else 's'}", file=sys.stderr)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)
