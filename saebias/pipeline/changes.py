"""Why a stage that ran before has to run again although nobody changed its settings: the files it reads are others now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from saebias.config.schema import Config
from saebias.pipeline.planning import PlannedStage, read_run


def changed_files(cfg: Config, item: PlannedStage) -> list[Path]:
    """The outside files of a stage that changed, or went, since it last ran with these settings; none where it never did.

    A file counts as changed when its content or its status did: one that was only touched may be among them.
    """
    settings = _settings(cfg.model_dump(mode="json"), item)
    records = (read_run(folder) for folder in item.folder.parent.glob("*") if folder != item.folder)
    starts = [record["started_at"] for record in records if record is not None and record["status"] == "done" and _fits(record, item, settings)]
    if not starts:
        return []
    since = max(datetime.fromisoformat(start).timestamp() for start in starts)
    return [path for path in _files(cfg, item) if not path.exists() or max(path.stat().st_mtime, path.stat().st_ctime) > since]


def _fits(record: Mapping[str, Any], item: PlannedStage, settings: object) -> bool:
    same = (record["stage"], record["stage_version"], record["parents"]) == (item.stage.name, item.stage.version, sorted(item.parents.values()))
    return same and _settings(record["config"], item) == settings


def _settings(values: Mapping[str, Any], item: PlannedStage) -> list[Any]:
    return [_at(values, dotted) for dotted in ("seed", *item.stage.reads)]


def _at(values: Mapping[str, Any], dotted: str) -> Any:
    found: Any = values
    for part in dotted.split("."):
        # A record of an earlier version of the program may lack the key.
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _files(cfg: Config, item: PlannedStage) -> Iterator[Path]:
    for path in [*item.stage.inputs(cfg), *item.stage.many_inputs(cfg)]:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path
