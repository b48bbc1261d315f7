"""Runs planned stages: skips what is up to date, resumes what was broken off, records what happened."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from saebias.config.schema import Config
from saebias.errors import ConfigError, MissingParent
from saebias.pipeline.changes import changed_files
from saebias.pipeline.crews import WorkerSlot, join_run, refuse_other_workers
from saebias.pipeline.engines import employ
from saebias.pipeline.locks import exclusive
from saebias.pipeline.monitor import sweep_live
from saebias.pipeline.performing import Job, Used, perform
from saebias.pipeline.planning import PlannedStage, ancestors, plan, read_run, refreshed, with_parts_needed
from saebias.pipeline.records import close_record, open_record
from saebias.pipeline.stage import Stage
from saebias.report import Reporter
from saebias.store.catalogue import fold


def run_stages(
    cfg: Config,
    stages: Sequence[Stage],
    wanted: Sequence[str],
    reporter: Reporter,
    *,
    force: bool = False,
    worker: WorkerSlot | None = None,
    options: str = "",
) -> list[PlannedStage]:
    """Run the wanted stages in order, skipping those that are up to date; then bring the catalogue up to date.

    Parts of the same command that a wanted stage stands on are run before it. `force` does the wanted stages, not those, again from nothing. `worker` shares
    their units with other processes that are started in the same way. `options` is what the user gave the command, for the commands that errors name.
    Raises MissingParent naming the commands to type when stages of other commands were never run, StoreError when another process is at the same run,
    ConfigError when a wanted stage cannot be shared, and whatever error the stage itself meets.
    """
    planned = plan(cfg, stages, wanted)
    asked, wanted = set(wanted), with_parts_needed(planned, wanted)
    if worker is not None:
        _check_shared(planned, wanted, force=force)
    check_parents(cfg, planned, asked, wanted, options)
    if len(wanted) > len(asked):
        reporter.info(f"running {', '.join(name for name in wanted if name not in asked)} as well: what was asked for stands on it")
    ran = []
    try:
        for number, name in enumerate(wanted, start=1):
            # Looked at again now: a parent may just have been run again.
            item = refreshed(planned, name)
            again = force and name in asked
            if item.state == "done" and not again:
                reporter.info(f"[{number}/{len(wanted)}] {name}: up to date ({item.run_id})")
                continue
            reporter.info(f"[{number}/{len(wanted)}] {name}: {item.stage.help}" + _how(item, again))
            if worker is None:
                _run_one(cfg, planned, item, reporter, force=again)
            elif not join_run(planned, _job(cfg, planned, item), reporter, worker):
                continue
            ran.append(item)
    finally:
        if worker is None or not _others_at(planned, wanted):
            sweep_live(cfg.runtime.artifacts)
            fold(cfg.runtime.artifacts, current={name: planned[name].run_id for name in planned}, reporter=reporter)
    return ran


def _check_shared(planned: dict[str, PlannedStage], wanted: Sequence[str], *, force: bool) -> None:
    alone = [name for name in wanted if not planned[name].stage.parallel]
    if alone:
        shared = ", ".join(name for name, item in planned.items() if item.stage.parallel) or "none"
        raise ConfigError(f"--worker: stage {alone[0]} is done by one process; stages that workers can share here: {shared}")
    if force:
        raise ConfigError("--worker with --force: each worker would do again what the others have done; run it with --force alone, or leave --force out")


def _others_at(planned: dict[str, PlannedStage], wanted: Sequence[str]) -> bool:
    """Whether another worker still has a run open: the last one to leave brings the catalogue up to date."""
    records = [read_run(planned[name].folder) for name in wanted]
    return any(record is not None and record["status"] == "running" for record in records)


def _how(item: PlannedStage, force: bool) -> str:
    if item.state == "new":
        return ""
    return " - again from nothing" if force or item.state == "stale" else f" - resuming ({item.reason})"


def check_parents(cfg: Config, planned: dict[str, PlannedStage], asked: Collection[str], wanted: Sequence[str], options: str) -> None:
    """Raise MissingParent with all the commands to type, in order, for everything that the wanted stages stand on and that is not done."""
    above = {name: set(ancestors(planned, name)) for name in wanted}
    missing = {name: item for name, item in planned.items() if name not in wanted and item.state != "done" and any(name in found for found in above.values())}
    if not missing:
        return
    name = next(name for name in wanted if name in asked and above[name] & missing.keys())
    commands = " && ".join(f"saebias {group}{options}" for group in dict.fromkeys(item.stage.group for item in missing.values()))
    what, run = "stage" if len(missing) == 1 else "stages", f"run `{commands}` first, or `saebias run-all{options}`"
    changed = _changed(cfg, missing)
    put_back = ", or put back what was there" if changed else ""
    raise MissingParent(f"{name} needs {what} {', '.join(missing)}, {_missing(missing, changed)}; {run}{put_back}")


def _changed(cfg: Config, missing: Mapping[str, PlannedStage]) -> list[Path]:
    """Files outside that the first stage missing was run with before and that are different now; none where it, or another one, was broken off."""
    return [] if any(item.state != "new" for item in missing.values()) else changed_files(cfg, next(iter(missing.values())))


def _missing(missing: Mapping[str, PlannedStage], changed: Sequence[Path]) -> str:
    """Why stages have no outputs to read."""
    broken = next((name for name, item in missing.items() if item.state != "new"), None)
    several = len(missing) > 1
    if broken is not None:
        return f"{f'and {broken}' if several else 'which'} is not finished ({missing[broken].reason})"
    if not changed:
        return f"which {'were' if several else 'was'} never run with this configuration"
    others = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    return f"which ran before {changed[0]} {'changed' if changed[0].exists() else 'was removed'}{others}"


def _job(cfg: Config, planned: dict[str, PlannedStage], item: PlannedStage) -> Job:
    names = ancestors(planned, item.stage.name)
    owners = {table: name for name in names for table in planned[name].stage.tables}
    return Job(cfg, item.stage, item.run_id, item.folder, {name: planned[name].folder for name in names}, owners)


def _run_one(cfg: Config, planned: dict[str, PlannedStage], item: PlannedStage, reporter: Reporter, *, force: bool) -> None:
    job = _job(cfg, planned, item)
    with exclusive(item.folder / "lock", f"stage {item.stage.name} ({item.run_id})"):
        refuse_other_workers(item)
        record = open_record(cfg, item, _parent_folders(planned, item), force=force)
        used = Used()
        try:
            if item.stage.parallel and (cfg.runtime.workers > 1 or cfg.runtime.engine == "ray"):
                employ(job, reporter, used)
            else:
                perform(job, reporter, used)
        except BaseException as error:
            used.note(error)
            raise
        finally:
            close_record(item, record, used.status, seconds=used.seconds, cpu_seconds=used.cpu_seconds, peak_bytes=used.peak_bytes, error=used.error)
        units, rows = len(record["units"]), record["n_rows"]
        reporter.info(f"{item.stage.name}: done in {record['seconds']:.1f} s, {rows:,} rows in {units} units, peak {record['peak_memory_mib']:,.0f} MiB")


def _parent_folders(planned: dict[str, PlannedStage], item: PlannedStage) -> dict[str, Path]:
    return {need: planned[need].folder for need in item.stage.needs}
