"""Watches the running process from a thread: peak memory for the record, progress and load for `saebias status`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from saebias.errors import StoreError
from saebias.pipeline.logs import ProgressState
from saebias.pipeline.processes import ProcessMark, this_process
from saebias.store.files import read_json_object, write_text

INTERVAL_SECONDS = 0.25
SILENT_SECONDS = 60.0
"""A state of another machine that was not renewed for so long is that of a process that is gone."""
_DAY_SECONDS = 86_400.0
_STATE_EVERY = 4
"""The state file is renewed every so many samples."""


class Monitor:
    """Samples resident memory and writes the live state file until stopped."""

    def __init__(self, state_path: Path, header: dict[str, Any], progress: ProgressState, units_total: Callable[[], int | None]) -> None:
        self._path, self._progress, self._units_total = state_path, progress, units_total
        self._header = {**header, "process": this_process().as_json()}
        self._process = psutil.Process()
        self._stop = threading.Event()
        self.peak_bytes = self._process.memory_info().rss

    def _state(self) -> dict[str, Any]:
        memory = self._process.memory_info().rss
        return {
            **self._header,
            "written": time.time(),
            "task": self._progress.snapshot(),
            "units_total": self._units_total(),
            "memory_mib": memory / 2**20,
            "peak_memory_mib": self.peak_bytes / 2**20,
            "cpu_percent": self._process.cpu_percent(),
        }

    def run(self) -> None:
        """Sample until `stop`."""
        tick = 0
        while not self._stop.is_set():
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            if tick % _STATE_EVERY == 0:
                # The state file is a convenience for watchers: a full disk is reported by the work itself.
                with suppress(OSError, StoreError):
                    write_text(self._path, json.dumps(self._state()))
            tick += 1
            self._stop.wait(INTERVAL_SECONDS)

    def stop(self) -> None:
        """End the sampling."""
        self._stop.set()


@contextmanager
def watching(state_path: Path, header: dict[str, Any], progress: ProgressState, units_total: Callable[[], int | None] = lambda: None) -> Generator[Monitor]:
    """A running monitor; the state file is gone when the block ends. `units_total`: how many units the run has, as far as is known."""
    monitor = Monitor(state_path, header, progress, units_total)
    thread = threading.Thread(target=monitor.run, name="saebias-monitor", daemon=True)
    thread.start()
    try:
        yield monitor
    finally:
        monitor.stop()
        thread.join()
        state_path.unlink(missing_ok=True)


def gpu_use() -> list[dict[str, Any]]:
    """Use (percent; None where it is not told) and memory of every NVIDIA GPU, empty where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    found = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            # A GPU that is cut into parts, or lent to another, does not answer everything.
            with suppress(pynvml.NVMLError):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                found.append({"index": index, "percent": None, "memory_mib": memory.used / 2**20, "total_mib": memory.total / 2**20})
                found[-1]["percent"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
        return found
    except pynvml.NVMLError:
        return found
    finally:
        pynvml.nvmlShutdown()


_LIVE_KEYS = ("process", "stage", "run_id", "task", "folder", "worker", "started", "units_at_start", "units_total", "written")


def live_states(artifacts: Path) -> list[dict[str, Any]]:
    """States of the saebias processes that are running on this artifacts folder; files of dead processes are passed over.

    A process on another machine counts as long as it renewed its state a short while ago.
    """
    states = []
    for path in sorted((artifacts / "live").glob("*.json")):
        state = read_json_object(path, _LIVE_KEYS)
        if state is not None and _is_live(state):
            states.append(state)
    return states


def _is_live(state: dict[str, Any]) -> bool:
    process = ProcessMark.from_json(state["process"])
    if process is None:
        return False
    return process.runs if process.is_here else time.time() - state["written"] < SILENT_SECONDS


def sweep_live(artifacts: Path) -> None:
    """Remove state files that processes of this machine left when they were killed, and those that nobody renewed for a day."""
    for path in (artifacts / "live").glob("*"):
        # Its owner may be renewing or removing it right now.
        with suppress(FileNotFoundError):
            silent = time.time() - path.stat().st_mtime
            if path.suffix == ".tmp":
                dead = silent > SILENT_SECONDS
            else:
                state = read_json_object(path, _LIVE_KEYS)
                process = None if state is None else ProcessMark.from_json(state["process"])
                dead = silent > _DAY_SECONDS or process is None or (process.is_here and not process.runs)
            if dead:
                path.unlink()
