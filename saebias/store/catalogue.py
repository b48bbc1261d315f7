"""Folds the parts of all runs into one DuckDB file. The file can be deleted at any time: it is built again from the parts."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from saebias.config.fingerprint import digest
from saebias.errors import StoreError
from saebias.paths import sql_folder
from saebias.report import Reporter, SilentReporter
from saebias.store.files import alone_at, read_json_object, sweep_temporary, translated_disk_errors, write_text
from saebias.store.parts import manifests, part_paths
from saebias.store.tables import arrow_schemas, schema_statements

CATALOGUE = "saebias.duckdb"
_BOOKKEEPING = """
create table folded (run_id varchar primary key, state varchar not null);
create table built_with (schema_digest varchar not null);
"""
_RUN_TABLES = ("runs", "log_events", "units")


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB could not read a block of its own file; it says so by different classes, the plain one among them."""
    classes = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)
    return isinstance(error, classes) or "corrupt" in str(error).lower()


def catalogue_path(artifacts: Path) -> Path:
    """Where the catalogue of an artifacts folder lies."""
    return artifacts / CATALOGUE


def run_folders(artifacts: Path) -> list[Path]:
    """Folders of all runs that have a record, by run id."""
    return sorted(path.parent for path in artifacts.glob("**/run.json") if path.parent.parent != artifacts)


def fold(artifacts: Path, *, current: Mapping[str, str] | None = None, reporter: Reporter | None = None, target: Path | None = None) -> Path:
    """Bring the catalogue up to date with the parts on disk and return its path.

    Built beside and moved over the old one, so that an open reader keeps its snapshot and a reader never blocks a run.
    `current` (stage -> run id) says which runs the views show from now on; stages that it does not name keep theirs.
    `target` builds another file from nothing, in which `current` alone counts.
    Raises StoreError for a part that does not fit its table, naming the file.
    """
    reporter = reporter or SilentReporter()
    final = target or catalogue_path(artifacts)
    with translated_disk_errors(final):
        artifacts.mkdir(parents=True, exist_ok=True)
        # Waits: folding takes a second, and each process must see the other's runs.
        with alone_at((artifacts if target is None else final.parent) / ".fold.lock"):
            if current is not None and target is None:
                current = {**_remembered(artifacts), **current}
                write_text(artifacts / "current.json", json.dumps(current, indent=1))
            # The lock is ours: what others left half-built or half-written here, they were killed at.
            sweep_temporary(final.parent, (f".{final.name}.*", ".*.tmp"))
            building = final.with_name(f".{final.name}.{os.getpid()}.{uuid.uuid4().hex[:6]}")
            shown = _remembered(artifacts) if current is None else current
            try:
                _copy_if_usable(final, building)
                try:
                    _fold_file(building, artifacts, shown, reporter)
                except duckdb.Error as error:
                    if not (final.exists() and is_damage(error)):
                        raise
                    reporter.warn(f"{final}: the catalogue is damaged ({_one_line(error)[:120]}); building it again from the parts")
                    building.unlink()
                    _fold_file(building, artifacts, shown, reporter)
                building.replace(final)
            except duckdb.Error as error:
                raise StoreError(f"{final}: the catalogue cannot be written ({_one_line(error)[:120]}); finished units are intact") from None
            finally:
                for leftover in (building, building.with_name(building.name + ".wal")):
                    leftover.unlink(missing_ok=True)
    return final


def _schema_digest() -> str:
    views = [path.read_text(encoding="utf-8") for path in sorted((sql_folder() / "views").glob("*.sql"))]
    return digest(schema_statements(), views, _BOOKKEEPING)


def _copy_if_usable(old: Path, new: Path) -> None:
    """Start from a copy of the last catalogue when it was built with the same tables; else from nothing."""
    if not old.exists() or old.with_name(old.name + ".wal").exists():
        # A write-ahead log means that another program writes into it: what it wrote is not ours to keep.
        return
    shutil.copyfile(old, new)
    try:
        with duckdb.connect(str(new)) as connection:
            row = connection.execute("select schema_digest from built_with").fetchone()
        usable = row is not None and row[0] == _schema_digest()
    except duckdb.Error:
        usable = False
    if not usable:
        new.unlink()


def fold_in_memory(artifacts: Path) -> duckdb.DuckDBPyConnection:
    """A catalogue of the parts on disk that is written nowhere: for a folder that cannot be written."""
    connection = duckdb.connect(":memory:")
    _fold_into(connection, artifacts, _remembered(artifacts), SilentReporter(), fresh=True)
    return connection


def _fold_file(path: Path, artifacts: Path, current: Mapping[str, str], reporter: Reporter) -> None:
    fresh = not path.exists()
    with duckdb.connect(str(path)) as connection:
        _fold_into(connection, artifacts, current, reporter, fresh=fresh)


def _fold_into(connection: duckdb.DuckDBPyConnection, artifacts: Path, current: Mapping[str, str], reporter: Reporter, *, fresh: bool) -> None:
    connection.execute("set timezone = 'UTC'")
    if fresh:
        _create(connection)
    folded = dict(connection.execute("select run_id, state from folded").fetchall())
    for folder in run_folders(artifacts):
        record = _record(folder)
        if record is None:
            continue
        state = digest(record, manifests(folder), length=24)
        if folded.pop(record["run_id"], None) != state:
            _fold_run(connection, folder, record, state, current, reporter)
    for run_id in folded:
        _delete_run(connection, run_id)
        reporter.info(f"catalogue: run {run_id} is no longer on disk and was taken out")
    _set_current(connection, current)


def _fold_run(connection: duckdb.DuckDBPyConnection, folder: Path, record: dict[str, Any], state: str, current: Mapping[str, str], reporter: Reporter) -> None:
    """One run in one transaction. A damaged run that nobody asks about now is put aside with a warning: it must not hide the others."""
    connection.execute("begin")
    try:
        _insert_run(connection, folder, record)
        connection.execute("insert or replace into folded values (?, ?)", [record["run_id"], state])
        connection.execute("commit")
    except StoreError as error:
        connection.execute("rollback")
        if record["run_id"] in current.values():
            raise
        _delete_run(connection, record["run_id"])
        reporter.warn(f"catalogue: run {record['run_id']} is left out: {error}")


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    for statement in [*schema_statements(), _BOOKKEEPING]:
        connection.execute(statement)
    for path in sorted((sql_folder() / "views").glob("*.sql")):
        try:
            connection.execute(path.read_text(encoding="utf-8"))
        except duckdb.Error as error:
            raise StoreError(f"{path}: this view does not fit the tables: {_one_line(error)}") from None
    connection.execute("insert into built_with values (?)", [_schema_digest()])


RECORD_KEYS = ("run_id", "stage", "fingerprint", "status", "units", "seconds", "parents_finished")


def _record(folder: Path) -> dict[str, Any] | None:
    return read_json_object(folder / "run.json", RECORD_KEYS)


def _delete_run(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    for table in arrow_schemas():
        if table != "current_runs":
            connection.execute(f'delete from "{table}" where run_id = ?', [run_id])
    connection.execute("delete from folded where run_id = ?", [run_id])


def _insert_run(connection: duckdb.DuckDBPyConnection, folder: Path, record: dict[str, Any]) -> None:
    run_id = record["run_id"]
    _delete_run(connection, run_id)
    row = {name: record[name] for name in ("run_id", *arrow_schemas()["runs"].names)}
    row["status"] = "failed" if row["status"] == "stopped" else row["status"]
    row["config"] = json.dumps(row["config"], ensure_ascii=False)
    names = ", ".join(row)
    connection.execute(f"insert into runs ({names}) values ({', '.join('?' for _ in row)})", list(row.values()))
    for manifest in manifests(folder):
        size = sum(entry["size"] for entry in manifest["files"].values())
        values = [run_id, manifest["unit"], manifest["seconds"], manifest["finished"], len(manifest["files"]), size]
        connection.execute("insert into units values (?, ?, ?, to_timestamp(?), ?, ?)", values)
    for table in arrow_schemas():
        if table not in (*_RUN_TABLES, "current_runs"):
            for part in part_paths(folder, table):
                _insert_part(connection, table, part, run_id)
    _insert_log(connection, folder, run_id)


def _insert_part(connection: duckdb.DuckDBPyConnection, table: str, part: Path, run_id: str) -> None:
    try:
        connection.execute(f'insert into "{table}" by name select ? as run_id, * from read_parquet(?)', [run_id, str(part)])
    except duckdb.Error as error:
        raise StoreError(f"{part}: does not fit table {table}: {_one_line(error)}; delete this part and run its stage again") from None


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The events of a run's logs (its workers' too), oldest first; a line that was torn by a power cut is passed over."""
    events = []
    for path in sorted((folder / "log").glob("*.log*"), reverse=True):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and {"at", "level", "event"} <= set(event):
                events.append(event)
    return sorted(events, key=lambda event: str(event["at"]))


def _insert_log(connection: duckdb.DuckDBPyConnection, folder: Path, run_id: str) -> None:
    rows = [
        (
            run_id,
            event["at"],
            event["level"],
            event["event"],
            json.dumps({k: v for k, v in event.items() if k not in ("at", "level", "event")}, ensure_ascii=False),
        )
        for event in read_log(folder)
    ]
    if rows:
        connection.executemany("insert into log_events values (?, ?, ?, ?, ?)", rows)


def _set_current(connection: duckdb.DuckDBPyConnection, current: Mapping[str, str]) -> None:
    connection.execute("delete from current_runs")
    known = {row[0] for row in connection.execute("select run_id from runs where status = 'done'").fetchall()}
    for stage, run_id in current.items():
        if run_id in known:
            connection.execute("insert into current_runs values (?, ?)", [stage, run_id])


def _remembered(artifacts: Path) -> dict[str, str]:
    found = read_json_object(artifacts / "current.json") or {}
    return {stage: run_id for stage, run_id in found.items() if isinstance(run_id, str)}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
