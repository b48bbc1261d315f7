"""Which process is meant by a number: a process id comes back after a while, and each machine has its own."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_SAME_START_SECONDS = 2.0
"""The kernel counts a start in ticks since boot; a clock that is set meanwhile moves what is computed from it a little."""


@dataclass(frozen=True)
class ProcessMark:
    """One process, told apart from every other."""

    place: str
    """Machine, boot and process namespace: process ids mean something within it alone."""
    host: str
    pid: int
    started: float
    """When the process began, seconds of the epoch."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> ProcessMark | None:
        """The mark that a file of ours holds, or None where the file says something else."""
        match values:
            case {"place": str(place), "host": str(host), "pid": int(pid), "started": float(started)}:
                return cls(place, host, pid, started)
        return None

    @property
    def is_here(self) -> bool:
        """Whether its process id can be looked up from this process."""
        return self.place == _place()

    @property
    def runs(self) -> bool:
        """Whether exactly this process, on this machine, still lives: another that was given its number does not count."""
        assert self.is_here
        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.started) < _SAME_START_SECONDS
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


@cache
def _place() -> str:
    parts = [socket.gethostname()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        # Two containers of one name, or one machine before and after a restart, are two places.
        parts += [boot.read_text().strip(), str(Path("/proc/self/ns/pid").readlink())]
    return " ".join(parts)


def this_process() -> ProcessMark:
    """The mark of the process that asks."""
    return ProcessMark(_place(), socket.gethostname(), os.getpid(), psutil.Process().create_time())
