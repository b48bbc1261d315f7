"""A rotating JSON log per run, and a reporter that writes it while passing everything on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

from saebias.report import Reporter, Task

LOG_BYTES = 4 * 2**20
LOG_BACKUPS = 3
TASK_DONE = "task done"
"""The event that ends a task."""


@contextmanager
def run_log(folder: Path, name: str = "run") -> Generator[Any]:
    """A structlog logger that appends JSON lines to `folder/log/<name>.log`, rotated at 4 MiB."""
    path = folder / "log" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        # The line of a process that died in the middle of it must not swallow the next.
        with path.open("ab") as stream:
            stream.write(b"\n")
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger(f"saebias.{folder.name}")
    logger.addHandler(handler)
    wrapped = structlog.wrap_logger(
        logger,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: json.dumps(event, ensure_ascii=False, default=str)),
        ],
        wrapper_class=structlog.BoundLogger,
    )
    try:
        yield wrapped
    finally:
        handler.close()


class ProgressState:
    """What is being done right now, for `status` in another terminal: written by the runner's monitor thread."""

    def __init__(self) -> None:
        self.label = ""
        self.unit = ""
        self.done = 0
        self.total = 0
        self.started = time.time()
        self.fields: dict[str, float | str] = {}

    def begin(self, label: str, total: int, unit: str) -> None:
        """A new task starts."""
        self.label, self.total, self.unit, self.done, self.started, self.fields = label, total, unit, 0, time.time(), {}

    def snapshot(self) -> dict[str, Any]:
        """The state as plain values; rate in units per second, seconds left where they can be told."""
        elapsed = max(time.time() - self.started, 1e-9)
        rate = self.done / elapsed
        left = (self.total - self.done) / rate if rate > 0 and self.total else None
        return {"label": self.label, "unit": self.unit, "done": self.done, "total": self.total, "rate": rate, "seconds_left": left, "fields": dict(self.fields)}


class _WatchedTask:
    def __init__(self, inner: Task, progress: ProgressState) -> None:
        self._inner, self._progress = inner, progress

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        self._progress.done += amount
        self._progress.fields.update(fields)
        self._inner.advance(amount, **fields)


class LoggingReporter:
    """Passes everything on to `inner`, writes it to the run's log and keeps the progress for `status`."""

    def __init__(self, inner: Reporter, log: Any, progress: ProgressState) -> None:
        self._inner, self._log, self._progress = inner, log, progress

    def info(self, message: str, **fields: object) -> None:
        """Log at level info and pass on."""
        self._log.info(message, **fields)
        self._inner.info(message, **fields)

    def warn(self, message: str, **fields: object) -> None:
        """Log at level warning and pass on."""
        self._log.warning(message, **fields)
        self._inner.warn(message, **fields)

    @contextmanager
    def task(self, label: str, total: int, unit: str = "rows") -> Generator[Task]:
        """Log start and end of the task with its rate; pass on every step."""
        self._progress.begin(label, total, unit)
        started = time.perf_counter()
        with self._inner.task(label, total, unit) as inner:
            yield _WatchedTask(inner, self._progress)
        seconds = time.perf_counter() - started
        self._log.info(
            TASK_DONE,
            task=label,
            done=self._progress.done,
            unit=unit,
            seconds=round(seconds, 3),
            per_second=round(self._progress.done / max(seconds, 1e-9), 1),
        )
