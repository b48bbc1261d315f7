"""A unit of work on disk: its rows as Parquet parts, its files, and last its manifest.

A unit is done when its manifest is there and the files it names are. Layout of a run folder:
`run.json`, `units/<unit>.json`, `rows/<table>/<unit>.parquet`, `files/...`, `log/run.log`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saebias.errors import StoreError
from saebias.store.files import read_json_object, replacing, write_text
from saebias.store.tables import arrow_schemas, to_arrow

_UNSAFE = str.maketrans({"/": "_", "\\": "_", " ": "_", ":": "_"})


def unit_stem(unit: str) -> str:
    """The name of a unit as a file can have it."""
    return unit.translate(_UNSAFE)


class UnitWriter:
    """Collects what one unit of work makes; `finish` writes the manifest that declares it done."""

    def __init__(self, run_folder: Path, unit: str, owned_tables: tuple[str, ...]) -> None:
        self.run_folder = run_folder
        self.unit = unit_stem(unit)
        self.folder = run_folder / "files"
        self._owned = owned_tables
        self._files: dict[str, dict[str, Any]] = {}
        self._rows: dict[str, int] = {}
        self._started = time.perf_counter()

    def rows(self, table: str, rows: pa.Table | Iterable[Any]) -> None:
        """Write the unit's rows of one table; raises StoreError when the table is not the stage's own or the rows do not fit."""
        if table not in self._owned:
            raise StoreError(f"unit {self.unit} wrote table {table}, which its stage does not own; it owns {', '.join(self._owned) or 'none'}")
        arrow = to_arrow(table, rows)
        path = self.run_folder / "rows" / table / f"{self.unit}.parquet"
        with replacing(path) as temporary:
            pq.write_table(arrow, temporary, compression="zstd")
        self._rows[table] = arrow.num_rows
        self.keep([path])

    def keep(self, paths: Iterable[Path], *, shared: bool = False) -> None:
        """Declare files (already written whole) as part of the unit, with their sizes and SHA-256.

        `shared`: a small file that the stage makes before its units, each of which is of no use without it. It is compared by content whenever the unit is
        looked at; damaged, it is the stage that makes it again, and only where it comes out otherwise are the units done again.
        """
        for path in paths:
            entry: dict[str, Any] = {"size": path.stat().st_size, "sha256": _sha256(path)}
            self._files[str(path.absolute().relative_to(self.run_folder.absolute()))] = {**entry, "shared": True} if shared else entry

    def count(self, name: str, amount: int) -> None:
        """Record a number of rows that are in no table (activation rows)."""
        self._rows[name] = amount

    def finish(self, seconds: float | None = None) -> None:
        """Write the manifest: from here on the unit is done. `seconds` is what its work took, where that began before the writer."""
        manifest = {
            "unit": self.unit,
            "files": self._files,
            "rows": self._rows,
            "seconds": round(time.perf_counter() - self._started if seconds is None else seconds, 3),
            "finished": time.time(),
        }
        write_text(self.run_folder / "units" / f"{self.unit}.json", json.dumps(manifest, indent=1, sort_keys=True))


def read_manifest(run_folder: Path, unit: str) -> dict[str, Any] | None:
    """The manifest of a unit, or None where it is missing or torn."""
    return read_json_object(run_folder / "units" / f"{unit_stem(unit)}.json", ("unit", "files", "rows", "seconds", "finished"))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damage(run_folder: Path, unit: str) -> str | None:
    """Why a unit must be done (again): None when it is whole, `not done`, or the file that is missing or changed in size; a shared one, in content."""
    manifest = read_manifest(run_folder, unit)
    if manifest is None:
        return "not done"
    for name, entry in manifest["files"].items():
        path = run_folder / name
        if not path.exists():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {entry['size']}"
        if entry.get("shared") and _sha256(path) != entry["sha256"]:
            return f"{name} is not what was written"
    return None


def remove_damaged_shared(run_folder: Path) -> None:
    """Remove the shared files that are not what any finished unit was written with, so that the stage makes them again. For who is alone at the run."""
    written: dict[str, set[str]] = {}
    for manifest in manifests(run_folder):
        for name, entry in manifest["files"].items():
            if entry.get("shared"):
                written.setdefault(name, set()).add(entry["sha256"])
    for name, digests in written.items():
        path = run_folder / name
        if path.exists() and _sha256(path) not in digests:
            path.unlink()


def manifests(run_folder: Path) -> list[dict[str, Any]]:
    """All readable manifests of a run, by unit name."""
    found = (read_manifest(run_folder, path.stem) for path in sorted((run_folder / "units").glob("*.json")))
    return [manifest for manifest in found if manifest is not None]


def part_paths(run_folder: Path, table: str) -> list[Path]:
    """The parts of one table that finished units declare (a part without a manifest is not a fact yet)."""
    names = [name for manifest in manifests(run_folder) for name in manifest["files"] if name.startswith(f"rows/{table}/")]
    return [run_folder / name for name in sorted(names)]


def read_rows(run_folder: Path, table: str) -> pa.Table:
    """All rows of one table of one run, in order of unit; raises StoreError for a part that cannot be read."""
    paths = part_paths(run_folder, table)
    schema = arrow_schemas()[table]
    parts = []
    for path in paths:
        try:
            parts.append(pq.read_table(path).select(schema.names).cast(schema))
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise StoreError(f"{path}: this part is damaged ({' '.join(str(error).split())}); delete it and run the stage again") from None
    return pa.concat_tables(parts) if parts else schema.empty_table()
