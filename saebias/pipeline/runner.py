"""Runs planned stages: skips what is up to date, resumes what was broken off, records what happened."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saebias import __version__
from saebias.config.schema import Config
from saebias.errors import MissingParent
from saebias.pipeline.locks import exclusive
from saebias.pipeline.logs import LoggingReporter, ProgressState, run_log
from saebias.pipeline.monitor import watching
from saebias.pipeline.planning import PlannedStage, ancestors, ends_of, plan, read_run, state_of
from saebias.pipeline.stage import Stage, StageContext
from saebias.report import Reporter
from saebias.store.catalogue import fold
from saebias.store.files import write_text
from saebias.store.parts import manifests


def run_stages(cfg: Config, stages: Sequence[Stage], wanted: Sequence[str], reporter: Reporter, *, force: bool = False) -> list[PlannedStage]:
    """Run the wanted stages in order, skipping those that are up to date; then bring the catalogue up to date.

    `force` does the wanted stages again from nothing. Raises MissingParent naming the command to type when an input
    stage was never run, StoreError when another process is at the same run, and whatever error the stage itself meets.
    """
    planned = plan(cfg, stages, wanted)
    wanted = [name for name in planned if name in wanted]
    _check_parents(planned, wanted)
    ran = []
    try:
        for number, name in enumerate(wanted, start=1):
            # Looked at again now: a parent may just have been run again.
            item = refreshed(planned, name)
            if item.state == "done" and not force:
                reporter.info(f"[{number}/{len(wanted)}] {name}: up to date ({item.run_id})")
                continue
            reporter.info(f"[{number}/{len(wanted)}] {name}: {item.stage.help}" + _how(item, force))
            _run_one(cfg, planned, item, reporter, force=force)
            ran.append(item)
    finally:
        fold(cfg.runtime.artifacts, current={name: planned[name].run_id for name in planned}, reporter=reporter)
    return ran


def _how(item: PlannedStage, force: bool) -> str:
    if item.state == "new":
        return ""
    return " - again from nothing" if force or item.state == "stale" else f" - resuming ({item.reason})"


def _check_parents(planned: dict[str, PlannedStage], wanted: Sequence[str]) -> None:
    for name in wanted:
        for parent in ancestors(planned, name):
            if parent not in wanted and planned[parent].state != "done":
                group = planned[parent].stage.group
                detail = "was never run with this configuration" if planned[parent].state == "new" else f"is not finished ({planned[parent].reason})"
                raise MissingParent(f"{name} needs stage {parent}, which {detail}; run `saebias {group}` first, or `saebias run-all`")


def _context(cfg: Config, planned: dict[str, PlannedStage], item: PlannedStage, reporter: Reporter) -> StageContext:
    names = ancestors(planned, item.stage.name)
    owners = {table: name for name in names for table in planned[name].stage.tables}
    return StageContext(cfg, item.stage, item.run_id, item.folder, {name: planned[name].folder for name in names}, owners, reporter)


def _clear(folder: Path) -> None:
    # Manifests go first: a kill in the middle leaves units that are simply not done.
    for name in ("units", "rows", "files", "log"):
        for path in sorted((folder / name).rglob("*"), reverse=True):
            path.unlink() if not path.is_dir() else path.rmdir()


def _run_one(cfg: Config, planned: dict[str, PlannedStage], item: PlannedStage, reporter: Reporter, *, force: bool) -> None:
    with exclusive(item.folder / "lock", f"stage {item.stage.name} ({item.run_id})"):
        if force or item.state == "stale" or not manifests(item.folder):
            # What an attempt without a finished unit left behind is no fact; the next attempt starts clean.
            _clear(item.folder)
        before = read_run(item.folder)
        record = _new_record(cfg, planned, item, None if force or item.state == "stale" else before)
        write_text(item.folder / "run.json", json.dumps(record, indent=1))
        progress = ProgressState()
        header = {"stage": item.stage.name, "run_id": item.run_id, "started": time.time(), "stages": [[n, p.state] for n, p in planned.items()]}
        started, cpu_started = time.perf_counter(), time.process_time()
        with run_log(item.folder) as log, watching(cfg.runtime.artifacts / "live" / f"{item.run_id}.json", header, progress) as monitor:
            watched = LoggingReporter(reporter, log, progress)
            try:
                item.stage.run(_context(cfg, planned, item, watched))
                record["status"] = "done"
            except KeyboardInterrupt:
                record["status"] = "stopped"
                raise
            except BaseException as error:
                record["status"], record["error"] = "failed", f"{type(error).__name__}: {error}"
                log.error(record["error"])
                raise
            finally:
                record["seconds"] = round(record["seconds"] + time.perf_counter() - started, 3)
                record["cpu_seconds"] = round(record["cpu_seconds"] + time.process_time() - cpu_started, 3)
                _close_record(item, record, monitor.peak_bytes)
        units, rows = len(record["units"]), record["n_rows"]
        reporter.info(f"{item.stage.name}: done in {record['seconds']:.1f} s, {rows:,} rows in {units} units, peak {record['peak_memory_mib']:,.0f} MiB")


def _parent_folders(planned: dict[str, PlannedStage], item: PlannedStage) -> dict[str, Path]:
    return {need: planned[need].folder for need in item.stage.needs}


def refreshed(planned: dict[str, PlannedStage], name: str) -> PlannedStage:
    """The planned stage with its state as it is now."""
    item = planned[name]
    state, reason = state_of(item.folder, _parent_folders(planned, item))
    return replace(item, state=state, reason=reason)


def _new_record(cfg: Config, planned: dict[str, PlannedStage], item: PlannedStage, before: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "run_id": item.run_id,
        "stage": item.stage.name,
        "fingerprint": item.fingerprint,
        "stage_version": item.stage.version,
        "model": cfg.model.name,
        "status": "running",
        "started_at": datetime.now(UTC).isoformat(),
        "finished_at": None,
        "seconds": 0.0 if before is None else before["seconds"],
        "cpu_seconds": 0.0 if before is None else before["cpu_seconds"],
        "n_rows": 0,
        "rows_per_second": None,
        "peak_memory_mib": None,
        "saebias_version": __version__,
        "parents": sorted(item.parents.values()),
        "parents_finished": ends_of(_parent_folders(planned, item)),
        "config": cfg.model_dump(mode="json", exclude={"runtime"}),
        "units": [],
        "error": None,
    }


def _close_record(item: PlannedStage, record: dict[str, Any], peak_bytes: int) -> None:
    done = manifests(item.folder)
    record["units"] = sorted(manifest["unit"] for manifest in done)
    record["finished_at"] = datetime.now(UTC).isoformat()
    record["n_rows"] = sum(sum(manifest["rows"].values()) for manifest in done)
    record["rows_per_second"] = round(record["n_rows"] / record["seconds"], 1) if record["seconds"] > 0 else None
    record["peak_memory_mib"] = round(peak_bytes / 2**20, 1)
    write_text(item.folder / "run.json", json.dumps(record, indent=1))
