"""How long-running code tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One countable piece of work that is being watched."""

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        """Count `amount` more units as done; `fields` (loss=..., FVU=...) replace what is shown beside the bar."""
        ...


class Reporter(Protocol):
    """Where messages and progress go: a terminal, a log file, or nowhere."""

    def info(self, message: str, **fields: object) -> None:
        """Say something a user may want to know."""
        ...

    def warn(self, message: str, **fields: object) -> None:
        """Say something a user must not miss (an alarm, something left out)."""
        ...

    def task(self, label: str, total: int, unit: str = "rows") -> AbstractContextManager[Task]:
        """Open a progress bar over `total` units; use as `with reporter.task(...) as task:`."""
        ...


class _SilentTask:
    def advance(self, amount: int = 1, **fields: float | str) -> None:
        pass


class SilentReporter:
    """A reporter that says nothing: the default for library use and tests."""

    def info(self, message: str, **fields: object) -> None:
        pass

    def warn(self, message: str, **fields: object) -> None:
        pass

    @contextmanager
    def task(self, label: str, total: int, unit: str = "rows") -> Generator[Task]:
        yield _SilentTask()
