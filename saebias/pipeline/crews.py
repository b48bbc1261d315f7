"""Several workers at one run: those that a person or a job array starts one by one, and the outcome of each."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from saebias import errors
from saebias.errors import ConfigError, SaebiasError, StoreError
from saebias.pipeline.claims import Crew
from saebias.pipeline.locks import shared
from saebias.pipeline.performing import Job, Used, perform
from saebias.pipeline.planning import PlannedStage, read_run, refreshed
from saebias.pipeline.records import close_record, open_record
from saebias.report import Reporter, SilentReporter


@dataclass(frozen=True)
class WorkerSlot:
    """Worker `number` (from 0) of `count`."""

    number: int
    count: int


def parse_slot(text: str) -> WorkerSlot:
    """The slot that `i/n` names, counted from 0; raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found is None or int(found[2]) < 1 or int(found[1]) >= int(found[2]):
        raise ConfigError(f"--worker {text}: write it as i/n with i from 0 to n-1, such as --worker 0/4")
    return WorkerSlot(int(found[1]), int(found[2]))


def slot_of_array(environment: Mapping[str, str]) -> WorkerSlot | None:
    """The slot of a task of a SLURM job array, or None outside of one. Raises ConfigError when its variables are no numbers."""
    if "SLURM_ARRAY_TASK_ID" not in environment or "SLURM_ARRAY_TASK_COUNT" not in environment:
        return None
    try:
        first, step = int(environment.get("SLURM_ARRAY_TASK_MIN", "0")), int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
        # An array such as 0,5,9 has numbers above its count: they are told apart all the same.
        return WorkerSlot((int(environment["SLURM_ARRAY_TASK_ID"]) - first) // max(step, 1), max(1, int(environment["SLURM_ARRAY_TASK_COUNT"])))
    except ValueError as error:
        raise ConfigError(f"SLURM_ARRAY_TASK_ID and its siblings are no numbers ({error}); unset them, or name the worker with --worker i/n") from None


def refuse_other_workers(item: PlannedStage) -> None:
    """Raise StoreError when workers that this process shares no lock with (another machine) are at the run; forget those that are gone."""
    crew = Crew(item.folder, -1, 1)
    if crew.folder.exists():
        with crew.alone():
            others = crew.others()
            if others:
                raise StoreError(
                    f"stage {item.stage.name} ({item.run_id}): already running (workers {', '.join(map(str, others))}); wait for them, or stop them"
                )
            crew.forget()


def join_run(planned: Mapping[str, PlannedStage], job: Job, reporter: Reporter, slot: WorkerSlot) -> bool:
    """Work at the run beside others until all its units are done; the last to leave closes its record. Returns whether this worker did anything.

    Raises StoreError when a living worker has the same number, or a process does the run alone.
    """
    item = planned[job.stage.name]
    parents = {need: planned[need].folder for need in item.stage.needs}
    crew = Crew(job.folder, slot.number, slot.count)
    with shared(job.folder / "lock", f"stage {item.stage.name} ({item.run_id})"):
        with crew.alone():
            crew.check_number()
            if not crew.others():
                item = refreshed(planned, item.stage.name)
                if item.state == "done":
                    return False
                crew.forget()
                open_record(job.cfg, item, parents, force=False)
            crew.enter()
        used = Used()
        try:
            reporter.info(f"{item.stage.name}: worker {slot.number} of {slot.count}")
            perform(job, reporter, used, crew)
        except BaseException as error:
            used.note(error)
            raise
        finally:
            with crew.alone():
                crew.leave(asdict(used))
                if not crew.others():
                    _close(item, crew, used)
    return True


def _close(item: PlannedStage, crew: Crew, last: Used) -> None:
    record = read_run(item.folder)
    if record is None:
        raise StoreError(f"{item.folder / 'run.json'}: is gone or torn although workers were at this run; run the same command again")
    seconds = time.time() - datetime.fromisoformat(record["started_at"]).timestamp()
    close_record(item, record, last.status, error=last.error, seconds=seconds, **together(crew))
    crew.forget()


def together(crew: Crew) -> dict[str, float]:
    """Processor seconds of all workers that have left, and the largest memory of one."""
    used = crew.used()
    return {"cpu_seconds": sum(u["cpu_seconds"] for u in used), "peak_bytes": max((u["peak_bytes"] for u in used), default=0.0)}


@dataclass(frozen=True)
class Outcome:
    """How an employed worker ended: well, or by an error that a person can act on."""

    kind: str | None = None
    """Class name in saebias.errors."""
    message: str = ""


def take_part(job: Job, slot: WorkerSlot) -> Outcome:
    """Work at a run that another process has opened and will close, until all its units are done."""
    crew = Crew(job.folder, slot.number, slot.count)
    with crew.alone():
        crew.check_number()
        crew.enter()
    used = Used()
    try:
        perform(job, SilentReporter(), used, crew)
    except SaebiasError as error:
        # Packages have errors of their own below these.
        kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
        return Outcome(kind, str(error))
    finally:
        with crew.alone():
            crew.leave(asdict(used))
    return Outcome()
