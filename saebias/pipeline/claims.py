"""Which worker does which unit: files that say who holds a unit, taken over when that process is gone.

Folder `crew/` of a run: `worker-<i>.json` a worker at work (touched every few seconds), `unit-<unit>.json` who does a unit, `plan.json` how many units
there are, `ended-<i>.json` what a worker used. All of it is changed under one lock that is held for moments, and gone when the run is closed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from saebias.errors import StoreError
from saebias.pipeline.processes import ProcessMark, this_process
from saebias.store.files import alone_at, read_json_object, write_text
from saebias.store.parts import unit_stem

SILENT_SECONDS = 60.0
"""A worker on another machine that was not heard of for so long is gone. One on this machine is gone when its process is."""
BEAT_SECONDS = 5.0
POLL_SECONDS = 0.2


class Crew:
    """One worker's view of the others at the same run. Leave it with `leave`."""

    def __init__(self, run_folder: Path, number: int, count: int) -> None:
        self.folder = run_folder / "crew"
        self._lock_path = run_folder / "crew.lock"
        self.number, self.count = number, count
        self._me = this_process()
        self._mutex = threading.RLock()
        self._inside = False
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None

    @contextmanager
    def alone(self) -> Generator[None]:
        """A block that one worker of the run at a time is in, and of that worker one thread; it may be entered again inside."""
        with self._mutex:
            if self._inside:
                yield
                return
            with alone_at(self._lock_path):
                self._inside = True
                try:
                    yield
                finally:
                    self._inside = False

    # Those below up to `forget` are called inside `alone`.

    def others(self) -> list[int]:
        """Numbers of the other workers that live."""
        numbers = [int(path.stem.partition("-")[2]) for path in self.folder.glob("worker-*.json")]
        return sorted(number for number in numbers if number != self.number and self._holder_of_number(number) is not None)

    def check_number(self) -> None:
        """Raise StoreError when a living worker has this number."""
        holder = self._holder_of_number(self.number)
        if holder is not None:
            raise StoreError(f"worker {self.number} is at work on this run already ({holder}); give each worker a number of its own")

    def enter(self) -> None:
        """Take the number, and show from now on that it is alive."""
        self._write(self._worker_path(self.number), {})
        self._beating = threading.Thread(target=self._beat, name="saebias-heartbeat", daemon=True)
        self._beating.start()

    def leave(self, used: Mapping[str, Any]) -> None:
        """Give the number and all held units back, and record what this worker used."""
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
        for path in self.folder.glob("unit-*.json"):
            if self._mark_in(path) == self._me:
                path.unlink()
        write_text(self.folder / f"ended-{self.number}-{os.getpid()}.json", json.dumps(dict(used)))
        self._worker_path(self.number).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what the crew's files say: nobody is at work."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                path.unlink(missing_ok=True)
            # A worker on another machine that is being killed may write its last word just now; the next to open the run removes it.
            with suppress(OSError):
                self.folder.rmdir()

    def used(self) -> list[dict[str, Any]]:
        """What each worker that has left recorded."""
        found = (read_json_object(path) for path in sorted(self.folder.glob("ended-*.json")))
        return [values for values in found if values is not None]

    def planned_units(self) -> int | None:
        """How many units the run has, once a worker knows."""
        found = read_json_object(self.folder / "plan.json", ("units",))
        return None if found is None else int(found["units"])

    def units_of(self, number: int) -> list[str]:
        """The units that worker `number`, living or dead, has begun and not given back."""
        claims = [read_json_object(path, ("unit", "worker")) for path in sorted(self.folder.glob("unit-*.json"))]
        return [claim["unit"] for claim in claims if claim is not None and claim["worker"] == number]

    def order(self, units: Sequence[str], places: Mapping[str, int]) -> list[str]:
        """The order in which this worker asks for units: its own share, then those of the others from the end."""
        own = dict.fromkeys(unit for unit in units if places[unit] % self.count == self.number % self.count)
        return [*own, *(unit for unit in reversed(units) if unit not in own)]

    def claim(self, units: Sequence[str], places: Mapping[str, int], done: Callable[[str], bool]) -> Iterator[str]:
        """Units to do, one by one: first this worker's own share (every `count`-th), then what is left of the others', from the end.

        Ends when all `units` are done, whoever did them; a unit held by another is waited for, and done here when its holder is gone.
        """
        with self.alone():
            write_text(self.folder / "plan.json", json.dumps({"units": len(places)}))
        left = self.order(units, places)
        while left:
            held_by_others = []
            for unit in left:
                if self._take(unit, done):
                    yield unit
                elif not done(unit):
                    held_by_others.append(unit)
            left = held_by_others
            if left:
                time.sleep(POLL_SECONDS)

    def check(self, unit: str) -> None:
        """Raise StoreError when `unit` was taken over meanwhile: what this worker computed for it is not to be written over the other's."""
        if self._mark_in(self._unit_path(unit)) != self._me:
            raise StoreError(
                f"unit {unit}: another worker took it over because worker {self.number} was not heard of for {SILENT_SECONDS:.0f} s; start this worker again"
            )

    def give_back(self, unit: str) -> None:
        """The unit is done (its manifest is there)."""
        with self.alone():
            self._unit_path(unit).unlink(missing_ok=True)

    def _take(self, unit: str, done: Callable[[str], bool]) -> bool:
        with self.alone():
            path = self._unit_path(unit)
            holder = self._mark_in(path)
            # Looked at again inside the lock: its holder may have finished it since.
            if (holder is not None and self._lives(holder, self._worker_in(path))) or done(unit):
                return False
            self._write(path, {"unit": unit})
            return True

    def _lives(self, holder: ProcessMark, number: int) -> bool:
        if holder == self._me:
            return True
        if holder.is_here:
            return holder.runs
        heard = self._worker_path(number)
        if self._mark_in(heard) != holder:
            return False
        return self._now() - heard.stat().st_mtime < SILENT_SECONDS

    def _now(self) -> float:
        # The clock of the file server, which also stamps the others' files: clocks of machines differ.
        path = self.folder / f"now-{self.number}"
        path.touch()
        return path.stat().st_mtime

    def _holder_of_number(self, number: int) -> ProcessMark | None:
        holder = self._mark_in(self._worker_path(number))
        return holder if holder is not None and self._lives(holder, number) else None

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            # A disk that is away for a moment is the work's business, not the heartbeat's.
            with suppress(OSError):
                os.utime(self._worker_path(self.number))

    def _write(self, path: Path, values: dict[str, Any]) -> None:
        write_text(path, json.dumps({**values, "worker": self.number, **self._me.as_json()}))

    def _mark_in(self, path: Path) -> ProcessMark | None:
        return ProcessMark.from_json(read_json_object(path))

    def _worker_in(self, path: Path) -> int:
        found = read_json_object(path, ("worker",))
        return -1 if found is None else int(found["worker"])

    def _worker_path(self, number: int) -> Path:
        return self.folder / f"worker-{number}.json"

    def _unit_path(self, unit: str) -> Path:
        return self.folder / f"unit-{unit_stem(unit)}.json"
