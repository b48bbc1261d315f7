"""Whether what a run wrote still lies there, bit by bit: every file is read back and held against the digest in its unit's manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from saebias.errors import MissingParent, StoreError
from saebias.pipeline.locks import exclusive
from saebias.pipeline.planning import PlannedStage, read_run
from saebias.report import Reporter
from saebias.store.parts import manifests, read_manifest, unit_stem

_READERS = 2
"""Hashing leaves the interpreter; more readers than this only wait for the disk."""


def verify_runs(planned: Mapping[str, PlannedStage], wanted: Collection[str], reporter: Reporter) -> None:
    """Read back what the wanted stages wrote. A unit with a file that is not what was written counts as not done from then on.

    Raises StoreError naming such units and the command that makes them again, MissingParent where nothing was run, and StoreError
    where a process is at the run.
    """
    there = [planned[name] for name in wanted if planned[name].state != "new"]
    if not there:
        raise MissingParent(f"{', '.join(wanted)}: was never run with this configuration, so there is nothing to verify")
    damaged = []
    for item in there:
        if item.state != "done":
            reporter.info(f"{item.stage.name}: not finished ({item.reason}); what is done is read back")
        with exclusive(item.folder / "lock", f"stage {item.stage.name} ({item.run_id})"):
            found = [*_damaged(item.folder, reporter, item.stage.name), *_without_manifest(item.folder)]
            for unit, _ in found:
                # Without its manifest a unit is not done: the same command does it again, and it alone.
                (item.folder / "units" / f"{unit_stem(unit)}.json").unlink(missing_ok=True)
            # Each look at a unit finds these by itself, and the stage makes them again: the units stay.
            found += _damaged_shared(item.folder)
        damaged += [(item.stage, unit, why) for unit, why in found]
    if damaged:
        stage, unit, why = damaged[0]
        others = "" if len(damaged) == 1 else f", and {len(damaged) - 1} more: " + ", ".join(f"{stage.name} {unit}" for stage, unit, _ in damaged[1:9])
        groups = " and ".join(f"`saebias {group}`" for group in dict.fromkeys(stage.group for stage, *_ in damaged))
        raise StoreError(f"{stage.name} {unit}: {why}{others}; {groups} makes the damaged units again and keeps the others")


def _damaged_shared(folder: Path) -> list[tuple[str, str]]:
    """(file, what is wrong with it) of each file that all units share and that is not what one of them was written with."""
    entries = {name: entry for manifest in manifests(folder) for name, entry in manifest["files"].items() if entry.get("shared")}
    return [(name, why) for name, entry in entries.items() if (why := _wrong(folder, name, entry)) is not None]


def _damaged(folder: Path, reporter: Reporter, stage: str) -> Iterator[tuple[str, str]]:
    """(unit, what is wrong with its first bad file) of each unit with a damaged file of its own."""
    units = manifests(folder)
    n_files = n_bytes = n_unknown = 0
    with reporter.task(f"verifying {stage}", len(units), "units") as task, ThreadPoolExecutor(_READERS) as readers:
        for manifest in units:
            files = [(name, entry) for name, entry in manifest["files"].items() if not entry.get("shared")]
            wrong = [why for why in readers.map(lambda file: _wrong(folder, *file), files) if why is not None]
            n_files, n_bytes = n_files + len(files), n_bytes + sum(entry["size"] for _, entry in files)
            n_unknown += sum("sha256" not in entry for _, entry in files)
            task.advance(1)
            if wrong:
                yield manifest["unit"], wrong[0]
    reporter.info(f"{stage}: {n_files:,} files of {len(units):,} units read back, {n_bytes / 2**20:,.0f} MiB")
    if n_unknown:
        reporter.warn(f"{stage}: {n_unknown:,} files have no recorded SHA-256 (an earlier version wrote them); only their size was compared")


def _without_manifest(folder: Path) -> Iterator[tuple[str, str]]:
    """(unit, what is wrong) of the units whose manifest is torn, or gone though the run was finished: nothing says what their files were."""
    record = read_run(folder)
    units = {unit_stem(unit) for unit in record["units"]} if record is not None and record["status"] == "done" else set()
    for unit in sorted(units | {path.stem for path in (folder / "units").glob("*.json")}):
        if read_manifest(folder, unit) is None:
            yield unit, f"{folder / 'units' / f'{unit}.json'} is torn or gone"


def _wrong(folder: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    path = folder / name
    try:
        size = path.stat().st_size
        if size != entry["size"]:
            return f"{path} has {size:,} bytes instead of {entry['size']:,}"
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"{path} cannot be read ({os.strerror(error.errno or 0)})"
    return None if found == entry.get("sha256", found) else f"{path} is not what was written (its SHA-256 differs)"
