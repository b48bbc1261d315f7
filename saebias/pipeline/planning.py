"""Which stages there are to run, in what order, and which of them are up to date."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from saebias.config.fingerprint import content_digest, digest
from saebias.config.schema import Config
from saebias.errors import ConfigError, InputError, SaebiasError
from saebias.pipeline.contents import contents_digest
from saebias.pipeline.stage import Stage
from saebias.store.catalogue import RECORD_KEYS
from saebias.store.files import read_json_object
from saebias.store.parts import damage, manifests


@dataclass(frozen=True)
class PlannedStage:
    """A stage with the identity that this configuration gives it."""

    stage: Stage
    fingerprint: str
    folder: Path
    parents: dict[str, str]
    """Run id per direct parent stage."""
    state: str
    """`done`, `partial` (finished units will be kept), `stale` (a parent's outputs are others now: nothing is kept) or `new`."""
    reason: str

    @property
    def run_id(self) -> str:
        """Such as `train-b548c9a37daa`."""
        return f"{self.stage.name}-{self.fingerprint}"


@lru_cache(maxsize=64)
def _content(paths: tuple[Path, ...]) -> str:
    return content_digest(paths)


def _slice(cfg: Config, dotted: str) -> Any:
    value: Any = cfg
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def read_run(folder: Path) -> dict[str, Any] | None:
    """The record of a run folder, or None where there is none (or a torn one)."""
    return read_json_object(folder / "run.json", RECORD_KEYS)


@dataclass(frozen=True)
class Ending:
    """What the record of a run says of its end."""

    finished_at: str | None
    outputs: str | None
    """The digest of outputs; None where the run is not finished, or an earlier version recorded none."""


def endings_of(folders: Mapping[str, Path]) -> dict[str, Ending]:
    """How the run in each folder ended; an ending without anything where there is none."""
    records = {name: read_run(folder) or {} for name, folder in folders.items()}
    return {name: Ending(record.get("finished_at"), record.get("outputs")) for name, record in records.items()}


def outputs_digest(units: Sequence[Mapping[str, Any]], parents: Mapping[str, str | None] | None) -> str | None:
    """A digest of the files that the manifests `units` name, by content, and of the outputs of the `parents` that they were made from.

    The parents' belong to it because a stage may read what any stage above it wrote: where that is other now, what stands between may be the same.
    None where an earlier version left something of it unrecorded.
    """
    files = {unit["unit"]: sorted((name, entry.get("sha256")) for name, entry in unit["files"].items()) for unit in units}
    if parents is None or None in parents.values() or any(found is None for named in files.values() for _, found in named):
        return None
    return digest(files, {unit["unit"]: unit["rows"] for unit in units}, dict(parents), length=24)


def _changed_parent(record: Mapping[str, Any], parents: Mapping[str, Path]) -> str | None:
    """Which parent's outputs are not those that a run was made from, in words; None where all are."""
    made_from = record.get("parents_outputs", {})
    for name, now in endings_of(parents).items():
        if made_from.get(name) is not None and now.outputs is not None:
            if made_from[name] != now.outputs:
                return f"{name} was run again since, and its outputs are others"
        elif record["parents_finished"].get(name) != now.finished_at:
            # Not finished, or a record of an earlier version, which says no more than when the parent ended.
            return f"{name} was run again since"
    return None


def state_of(folder: Path, parents: Mapping[str, Path]) -> tuple[str, str]:
    """(`done` | `partial` | `stale` | `new`, reason) of a run folder; stale: a parent's outputs are not those that it read, so nothing of it is kept."""
    record = read_run(folder)
    if record is None:
        return "new", "never run"
    changed = _changed_parent(record, parents)
    if changed is not None:
        return "stale", changed
    units = manifests(folder)
    if record["status"] != "done":
        return "partial", f"{len(units)} units done, then {'stopped' if record['status'] == 'running' else record['status']}"
    for name in record["units"]:
        reason = damage(folder, name)
        if reason is not None:
            return "partial", f"unit {name}: {'its manifest is missing' if reason == 'not done' else reason}"
    return "done", "up to date"


def plan(cfg: Config, stages: Sequence[Stage], needed: Collection[str] | None = None) -> dict[str, PlannedStage]:
    """Every stage of the registry with its fingerprint and state, parents first. Nothing is run or written.

    The fingerprint is a digest of stage, version, seed, the config slices it reads, its parents' run ids and the content of its outside inputs.
    Raises SaebiasError when an outside input of a `needed` stage (None: all) or of one it stands on is missing; other stages that cannot be
    planned, and those that stand on them, are left out.
    """
    by_name = {stage.name: stage for stage in stages}
    must = set(by_name) if needed is None else {above for name in needed for above in [name, *_ancestor_names(by_name, name)]}
    planned: dict[str, PlannedStage] = {}
    for name in TopologicalSorter({stage.name: set(stage.needs) for stage in stages}).static_order():
        try:
            if set(by_name[name].needs) <= set(planned):
                planned[name] = _plan_one(cfg, by_name[name], planned)
        except SaebiasError:
            if name in must:
                raise
    return planned


def _plan_one(cfg: Config, stage: Stage, planned: dict[str, PlannedStage]) -> PlannedStage:
    inputs = stage.inputs(cfg)
    for path in inputs:
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder, but stage {stage.name} reads it; correct the path in the configuration")
    parents = {need: planned[need].run_id for need in stage.needs}
    slices = {dotted: _slice(cfg, dotted) for dotted in stage.reads}
    values = {dotted: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for dotted, value in slices.items()}
    many = stage.many_inputs(cfg)
    outside = [_content(tuple(inputs)), *([contents_digest(many, cfg.runtime.artifacts)] if many else [])]
    fingerprint = digest(stage.name, stage.version, cfg.seed, values, parents, *outside)
    folder = cfg.runtime.artifacts / stage.name.replace(".", "/") / fingerprint
    return PlannedStage(stage, fingerprint, folder, parents, *state_of(folder, {need: planned[need].folder for need in stage.needs}))


def refreshed(planned: Mapping[str, PlannedStage], name: str) -> PlannedStage:
    """The planned stage with its state as it is now."""
    item = planned[name]
    state, reason = state_of(item.folder, {need: planned[need].folder for need in item.stage.needs})
    return replace(item, state=state, reason=reason)


def _ancestor_names(by_name: dict[str, Stage], name: str) -> list[str]:
    found: list[str] = []
    for need in by_name[name].needs:
        found += [stage for stage in [*_ancestor_names(by_name, need), need] if stage not in found]
    return found


def ancestors(planned: dict[str, PlannedStage], name: str) -> list[str]:
    """All stages that `name` stands on, parents before children."""
    return _ancestor_names({known: item.stage for known, item in planned.items()}, name)


def with_parts_needed(planned: Mapping[str, PlannedStage], wanted: Collection[str]) -> list[str]:
    """The wanted stages and, of the same commands, those not done that they stand on, parents first: `--only` asks for a result, not for an order."""
    groups = {planned[name].stage.group for name in wanted if name in planned}
    needed = {above for name in wanted if name in planned for above in ancestors(dict(planned), name)}
    return [name for name, item in planned.items() if name in wanted or (name in needed and item.stage.group in groups and item.state != "done")]


def select_stages(stages: Sequence[Stage], group: str | None, only: Sequence[str] = (), other_names: Mapping[str, str] | None = None) -> list[str]:
    """Names of the stages of a command (None: all), narrowed to `only`; raises ConfigError naming what there is.

    `other_names`: further names of stages, in any case.
    """
    names = [stage.name for stage in stages if group is None or stage.group == group]
    if not only:
        return names
    chosen = []
    stage_of = {other.lower(): name for other, name in (other_names or {}).items()}
    for asked in only:
        part = stage_of.get(asked.lower(), asked)
        hits = [name for name in names if name == part or name.partition(".")[2] == part or name.partition(".")[0] == part]
        if not hits:
            raise ConfigError(f"--only {asked}: no such part; there are {', '.join(n.partition('.')[2] or n for n in names)}")
        chosen += [hit for hit in hits if hit not in chosen]
    return chosen
