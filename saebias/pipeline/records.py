"""The record of a run (`run.json`): opened when work begins, closed when it ends, however it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saebias import __version__
from saebias.config.schema import Config
from saebias.pipeline.planning import PlannedStage, endings_of, outputs_digest, read_run
from saebias.store.files import sweep_temporary, write_text
from saebias.store.parts import manifests, remove_damaged_shared

# Manifests go first: a kill in the middle leaves units that are simply not done.
_RESULTS = ("units", "rows", "files", "log")


def open_record(cfg: Config, item: PlannedStage, parents: Mapping[str, Path], *, force: bool) -> dict[str, Any]:
    """Make the run folder ready and write a record that says `running`; what a fresh start must not find is removed."""
    fresh = force or item.state == "stale"
    if fresh or not manifests(item.folder):
        # What an attempt without a finished unit left behind is no fact; the next attempt starts clean. Checkpoints of a unit in the middle are to go on from.
        _clear(item.folder, (*_RESULTS, "checkpoints") if fresh else _RESULTS)
    # Whoever opens a record is alone at the run: unfinished files are those of killed processes.
    sweep_temporary(item.folder)
    remove_damaged_shared(item.folder)
    before, endings = None if fresh else read_run(item.folder), endings_of(parents)
    record = {
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
        "parents_finished": {name: ending.finished_at for name, ending in endings.items()},
        "parents_outputs": {name: ending.outputs for name, ending in endings.items()},
        "outputs": None,
        "config": cfg.model_dump(mode="json", exclude={"runtime"}),
        "units": [],
        "error": None,
    }
    _write(item.folder, record)
    return record


def close_record(item: PlannedStage, record: dict[str, Any], status: str, *, seconds: float, cpu_seconds: float, peak_bytes: float, error: str | None) -> None:
    """Write how the run ended (`done`, `failed`, `stopped`), what it used, and the units that are there."""
    done = manifests(item.folder)
    record["status"], record["error"] = status, error
    record["seconds"] = round(record["seconds"] + seconds, 3)
    record["cpu_seconds"] = round(record["cpu_seconds"] + cpu_seconds, 3)
    record["outputs"] = outputs_digest(done, record.get("parents_outputs")) if status == "done" else None
    record["units"] = sorted(manifest["unit"] for manifest in done)
    record["finished_at"] = datetime.now(UTC).isoformat()
    record["n_rows"] = sum(sum(manifest["rows"].values()) for manifest in done)
    record["rows_per_second"] = round(record["n_rows"] / record["seconds"], 1) if record["seconds"] > 0 else None
    record["peak_memory_mib"] = round(peak_bytes / 2**20, 1)
    _write(item.folder, record)


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / "run.json", json.dumps(record, indent=1))


def _clear(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        for path in sorted((folder / name).rglob("*"), reverse=True):
            path.unlink() if not path.is_dir() else path.rmdir()
