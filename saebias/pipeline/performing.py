"""One process at work on a stage: its log, its live state, and what it used, however it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebias.config.schema import Config
from saebias.pipeline.claims import Crew
from saebias.pipeline.logs import LoggingReporter, ProgressState, run_log
from saebias.pipeline.monitor import watching
from saebias.pipeline.stage import Stage, StageContext
from saebias.report import Reporter


@dataclass(frozen=True)
class Job:
    """What a process needs to work at a run; it can be sent to another process."""

    cfg: Config
    stage: Stage
    run_id: str
    folder: Path
    parents: dict[str, Path]
    owners: dict[str, str]

    def live_path(self, who: str = "") -> Path:
        """Where a process at this run shows what it is doing."""
        return self.cfg.runtime.artifacts / "live" / f"{self.run_id}{who}.json"


@dataclass
class Used:
    """How the work of a process ended and what it took."""

    status: str = "failed"
    error: str | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: float = 0.0

    def note(self, error: BaseException) -> None:
        """The work ended by `error`."""
        self.status, self.error = ("stopped", None) if isinstance(error, KeyboardInterrupt) else ("failed", f"{type(error).__name__}: {error}")


def perform(job: Job, reporter: Reporter, used: Used, crew: Crew | None = None) -> None:
    """Run the stage in this process; `used` says afterwards how it ended, whatever error came out of it."""
    name = "run" if crew is None else f"worker-{crew.number}"
    progress = ProgressState()
    started, cpu_started = time.perf_counter(), time.process_time()
    with run_log(job.folder, name) as log:
        ctx = StageContext(job.cfg, job.stage, job.run_id, job.folder, job.parents, job.owners, LoggingReporter(reporter, log, progress), crew)
        with watching(job.live_path("" if crew is None else f".{name}"), header(job, crew), progress, lambda: ctx.units_total) as monitor:
            try:
                job.stage.run(ctx)
                used.status = "done"
            except BaseException as error:
                used.note(error)
                if used.error is not None:
                    log.error(used.error)
                raise
            finally:
                used.seconds = time.perf_counter() - started
                used.cpu_seconds = time.process_time() - cpu_started
                used.peak_bytes = monitor.peak_bytes


def header(job: Job, crew: Crew | None) -> dict[str, Any]:
    """What the live state of a process says from beginning to end."""
    units = job.folder / "units"
    done = sum(1 for _ in units.glob("*.json"))
    worker = None if crew is None else crew.number
    return {"stage": job.stage.name, "run_id": job.run_id, "folder": str(job.folder), "worker": worker, "started": time.time(), "units_at_start": done}
