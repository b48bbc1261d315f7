"""One process per run, or workers that declared themselves: a lock that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from saebias.errors import StoreError
from saebias.store.files import translated_disk_errors


@contextmanager
def exclusive(path: Path, what: str) -> Generator[None]:
    """Hold the lock file at `path`; raises StoreError `already running (pid N)` when another process, or a worker, holds it."""
    with _held(path, fcntl.LOCK_EX, what):
        yield


@contextmanager
def shared(path: Path, what: str) -> Generator[None]:
    """Hold the lock file at `path` beside other workers; raises StoreError `already running (pid N)` when a process does the run alone."""
    with _held(path, fcntl.LOCK_SH, what):
        yield


@contextmanager
def _held(path: Path, mode: int, what: str) -> Generator[None]:
    with translated_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode().strip() or "unknown"
            raise StoreError(f"{what}: already running (pid {holder}); wait for it, watch it with `saebias status --watch`, or stop it") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
