"""What a person sees on the terminal while it works: progress bars on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

from saebias.report import Reporter, SilentReporter, Task

PLAIN_SECONDS = 5.0
"""Away from a terminal, a long task says where it is this often."""


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s", style="cyan")


class _BarTask:
    def __init__(self, progress: Progress, label: str, total: int, unit: str) -> None:
        self._progress = progress
        self._id = progress.add_task(label, total=total, unit=unit, shown="")

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        if fields:
            self._progress.update(self._id, advance=amount, shown=_shown(fields))
        else:
            self._progress.update(self._id, advance=amount)


class TerminalReporter:
    """Progress bars with rate and time left, messages above them."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None

    def info(self, message: str, **fields: object) -> None:
        """Print a line."""
        self._console.print(message, markup=False)

    def warn(self, message: str, **fields: object) -> None:
        """Print a line that stands out."""
        self._console.print(f"! {message}", style="yellow", markup=False)

    @contextmanager
    def task(self, label: str, total: int, unit: str = "rows") -> Generator[Task]:
        """A bar; inside another task it is a second bar below the first."""
        if self._progress is not None:
            yield _BarTask(self._progress, label, total, unit)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}", style="dim"),
        )
        with Progress(*columns, console=self._console, transient=True) as self._progress:
            try:
                yield _BarTask(self._progress, label, total, unit)
            finally:
                self._progress = None


class _LineTask:
    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label, self._total, self._unit, self._done = label, total, unit, 0
        self._started = self._said = time.monotonic()

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._said >= PLAIN_SECONDS:
            self._said = now
            rate = self._done / max(now - self._started, 1e-9)
            left = (self._total - self._done) / rate if rate else 0.0
            print(
                f"  {self._label}: {self._done:,}/{self._total:,} {self._unit}, {rate:,.0f}/s, {left:.0f} s left {_shown(fields)}".rstrip(),
                file=sys.stderr,
                flush=True,
            )


class PlainReporter:
    """Plain lines: for logs, pipes and continuous integration."""

    def info(self, message: str, **fields: object) -> None:
        """Print a line."""
        print(message, file=sys.stderr, flush=True)

    def warn(self, message: str, **fields: object) -> None:
        """Print a line that begins with a warning."""
        print(f"warning: {message}", file=sys.stderr, flush=True)

    @contextmanager
    def task(self, label: str, total: int, unit: str = "rows") -> Generator[Task]:
        """Say every few seconds how far it is."""
        yield _LineTask(label, total, unit)


class QuietReporter(SilentReporter):
    """Warnings only."""

    def warn(self, message: str, **fields: object) -> None:
        """Print a line that begins with a warning."""
        print(f"warning: {message}", file=sys.stderr, flush=True)


def make_reporter(quiet: bool) -> Reporter:
    """The reporter that fits where stderr goes."""
    if quiet:
        return QuietReporter()
    return TerminalReporter() if sys.stderr.isatty() else PlainReporter()


def _shown(fields: dict[str, float | str]) -> str:
    return "  ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items())
