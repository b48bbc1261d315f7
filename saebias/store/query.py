"""Answers one SELECT, read-only and with no way to other files or the network."""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from saebias.errors import InputError, StoreError
from saebias.paths import sql_folder
from saebias.report import Reporter, SilentReporter
from saebias.store.catalogue import CATALOGUE, catalogue_path, fold, fold_in_memory, is_damage, run_folders
from saebias.store.files import ReadOnlyFolder, translated_disk_errors


class DamagedCatalogue(StoreError):
    """A block of the catalogue cannot be read."""


@dataclass(frozen=True)
class NamedQuery:
    """A SELECT in sql/queries with its help and the defaults of its parameters."""

    name: str
    help: str
    parameters: dict[str, str | None]
    sql: str


def named_queries() -> dict[str, NamedQuery]:
    """All named queries by name. First comment: help; a comment `-- params: top=20, language=` gives defaults (empty: null)."""
    found = {}
    for path in sorted((sql_folder() / "queries").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        comments = [line[2:].strip() for line in text.splitlines() if line.startswith("--")]
        parameters: dict[str, str | None] = {}
        for line in comments:
            if line.startswith("params:"):
                for item in line.removeprefix("params:").split(","):
                    key, _, value = item.strip().partition("=")
                    parameters[key] = value or None
        found[path.stem] = NamedQuery(path.stem, comments[0], parameters, text)
    return found


def resolve(text: str, given: Mapping[str, str]) -> tuple[str, dict[str, str | None]]:
    """(SQL, parameters) of a named query or of SQL text; raises InputError for an unknown name or parameter."""
    queries = named_queries()
    name = text.strip()
    if name in queries:
        query = queries[name]
        unknown = [key for key in given if key not in query.parameters]
        if unknown:
            raise InputError(f"query {name} has no parameter {unknown[0]}; it has {', '.join(query.parameters) or 'none'}")
        return query.sql, {**query.parameters, **given}
    if re.fullmatch(r"[\w-]+", name):
        near = difflib.get_close_matches(name, queries, n=1)
        hint = f"did you mean {near[0]}?" if near else "`saebias query` lists them"
        raise InputError(f"there is no named query {name}; {hint}")
    return text, dict(given)


def run_query(artifacts: Path, sql: str, parameters: Mapping[str, str | None] | None = None, *, reporter: Reporter | None = None) -> pa.Table:
    """The rows of exactly one SELECT over the catalogue.

    When another program holds the file, or the folder cannot be written and has none, a catalogue is built from the parts elsewhere and answers instead;
    a damaged one is built again from the parts, which `reporter` is told.
    Raises InputError for anything that is not one SELECT or that reaches for files, StoreError when nothing was measured yet.
    """
    reporter = reporter or SilentReporter()
    try:
        with _opened(artifacts, reporter) as connection:
            return answer(connection, sql, parameters)
    except DamagedCatalogue as error:
        reporter.warn(f"{error}; building it again from the parts")
        _remove(catalogue_path(artifacts))
        with _opened(artifacts, reporter) as connection:
            return answer(connection, sql, parameters)


def answer(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, str | None] | None = None) -> pa.Table:
    """The rows of exactly one SELECT on an open connection, which from now on can reach nothing but its database."""
    statement = single_select(sql)
    connection.execute("set timezone = 'UTC'")
    connection.execute("set enable_external_access = false")
    try:
        named = {key: value for key, value in (parameters or {}).items() if key in statement.named_parameters}
        return connection.sql(statement, params=named).to_arrow_table()
    except duckdb.PermissionException as error:
        raise InputError(f"a query may not touch files or the network: {_one_line(error)}") from None
    except duckdb.Error as error:
        if is_damage(error):
            raise DamagedCatalogue(f"the catalogue is damaged ({_one_line(error)[:120]})") from None
        raise InputError(f"the query failed: {_one_line(error)}") from None
    except RuntimeError as error:
        # DuckDB's word for Ctrl-C.
        raise KeyboardInterrupt from error


@contextmanager
def catalogue_of(artifacts: Path, current: Mapping[str, str]) -> Generator[Callable[..., pa.Table]]:
    """A function (sql or the name of a query, **parameters) -> rows, over a catalogue of its own in which the views show the runs `current`."""
    with tempfile.TemporaryDirectory(prefix="saebias-catalogue-") as folder:
        path = fold(artifacts, current=current, target=Path(folder) / CATALOGUE)
        with duckdb.connect(str(path), read_only=True) as connection:
            yield lambda text, **parameters: answer(connection, *resolve(text, parameters))


def single_select(sql: str) -> duckdb.Statement:
    """The parsed statement, if it is exactly one SELECT; raises InputError otherwise."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise InputError(f"this is not SQL that DuckDB understands: {_one_line(error)}") from None
    if len(statements) != 1:
        raise InputError(f"a query is exactly one SELECT; this holds {len(statements)} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise InputError(f"a query is exactly one SELECT; this is {statements[0].type.name.replace('_', ' ')}, and the catalogue is read-only")
    return statements[0]


@contextmanager
def _opened(artifacts: Path, reporter: Reporter) -> Generator[duckdb.DuckDBPyConnection]:
    if not run_folders(artifacts):
        raise StoreError(f"{artifacts}: nothing was measured here yet; run `saebias run-all` first, or name the folder with --set runtime.artifacts=DIR")
    with ExitStack() as stack:
        yield stack.enter_context(_connect(artifacts, stack, reporter))


def _connect(artifacts: Path, stack: ExitStack, reporter: Reporter) -> duckdb.DuckDBPyConnection:
    path = catalogue_path(artifacts)
    if not path.exists():
        return _connect_new(artifacts, reporter)
    try:
        return duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        reason = _one_line(error)
    if "could not set lock" in reason.lower():
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="saebias-query-"))
        return duckdb.connect(str(fold(artifacts, target=Path(folder) / path.name)), read_only=True)
    # Not a catalogue that DuckDB can open: it holds nothing that the parts do not.
    reporter.warn(f"{path}: the catalogue is damaged ({reason[:120]}); building it again from the parts")
    _remove(path)
    return _connect_new(artifacts, reporter)


def _connect_new(artifacts: Path, reporter: Reporter) -> duckdb.DuckDBPyConnection:
    """A catalogue where there is none: written beside the parts, or in memory where the folder cannot be written."""
    try:
        return duckdb.connect(str(fold(artifacts)), read_only=True)
    except ReadOnlyFolder:
        reporter.warn(f"{artifacts}: cannot be written, so this answer is read from the parts and no catalogue is kept")
        return fold_in_memory(artifacts)


def _remove(path: Path) -> None:
    # In a folder that cannot be written, what answers next is built in memory.
    with translated_disk_errors(path):
        path.unlink(missing_ok=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
