"""What a stage is. How stages are skipped, resumed and recorded is the runner's business."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from saebias.config.schema import Config
from saebias.errors import MissingParent
from saebias.pipeline.claims import Crew
from saebias.report import Reporter
from saebias.store.parts import UnitWriter, damage, read_manifest, read_rows


@dataclass(frozen=True)
class Estimate:
    """What a stage is expected to need: bytes on disk, bytes of memory at the peak, seconds."""

    disk_bytes: float = 0.0
    memory_bytes: float = 0.0
    seconds: float = 0.0
    basis: str = "formula"


def no_inputs(_cfg: Config) -> list[Path]:
    """A stage that reads no outside files."""
    return []


def always_fit(_cfg: Config) -> str | None:
    """A stage that makes sense for every model."""
    return None


def no_estimate(_cfg: Config) -> Estimate:
    """A stage that needs next to nothing."""
    return Estimate()


@dataclass(frozen=True)
class Stage:
    """A named piece of the pipeline that turns its parents' outputs into tables and files of its own."""

    name: str
    """Such as `train` or `mechanistic.lens`; a command runs its group (the part before the dot)."""
    run: Callable[[StageContext], None]
    help: str
    needs: tuple[str, ...] = ()
    """Stages whose outputs it reads."""
    reads: tuple[str, ...] = ()
    """Config slices that change its numbers."""
    tables: tuple[str, ...] = ()
    """Tables it owns; it may write no other."""
    inputs: Callable[[Config], list[Path]] = no_inputs
    """Outside files whose content changes its numbers."""
    many_inputs: Callable[[Config], list[Path]] = no_inputs
    """Outside files by the thousand (pictures): their bytes count as well, and so does that one is missing, which is no error here."""
    estimate: Callable[[Config], Estimate] = no_estimate
    version: int = 1
    """Raise it when the code changes the numbers."""
    unfit: Callable[[Config], str | None] = always_fit
    """Why the stage has nothing to do with this configuration, or None: asked for by itself that is an error; among others it writes empty tables."""
    parallel: bool = False
    """Several workers may share its units: it goes through them by `ctx.claimed`, and makes what they have in common inside `ctx.alone`."""

    @property
    def group(self) -> str:
        """The command that runs it."""
        return self.name.partition(".")[0]


@dataclass
class StageContext:
    """What a running stage may see and do."""

    cfg: Config
    stage: Stage
    run_id: str
    folder: Path
    parents: dict[str, Path]
    """Run folder per ancestor stage."""
    owners: dict[str, str]
    """Table name -> stage that owns it, over all ancestors."""
    reporter: Reporter
    crew: Crew | None = None
    """The other workers at the same run; None where one process does it."""
    units_total: int = field(default=0, init=False)
    """Units that the stage has asked for so far, done or not."""
    rows_written: int = field(default=0, init=False)
    _mark: float = field(default_factory=time.perf_counter, init=False)
    """When the last unit ended: the work of a unit begins there, not where it is written."""
    _places: dict[str, int] = field(default_factory=dict, init=False)

    def parent_folder(self, stage: str) -> Path:
        """The run folder of an ancestor stage."""
        if stage not in self.parents:
            raise MissingParent(f"stage {self.stage.name} reads stage {stage}, which is not among its parents {', '.join(self.parents) or 'none'}")
        return self.parents[stage]

    def table(self, name: str) -> pa.Table:
        """All rows of an ancestor's table, in a fixed order."""
        if name in self.stage.tables:
            return read_rows(self.folder, name)
        if name not in self.owners:
            raise MissingParent(f"stage {self.stage.name} reads table {name}, which none of its parents owns")
        return read_rows(self.parent_folder(self.owners[name]), name)

    def seed(self, unit: str) -> int:
        """The seed of a unit: a function of (seed, stage, unit) alone, so that order and worker count change no number."""
        text = f"{self.cfg.seed}\x1f{self.stage.name}\x1f{unit}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) & 0x7FFFFFFF

    def pending(self, units: Sequence[str]) -> list[str]:
        """The units that have no whole result yet, in the order given; a damaged one is said and done again."""
        waiting = []
        self._places |= {unit: len(self._places) + place for place, unit in enumerate(unit for unit in units if unit not in self._places)}
        self.units_total = len(self._places)
        for unit in units:
            reason = damage(self.folder, unit)
            if reason is None:
                continue
            if reason != "not done":
                self.reporter.warn(f"{self.stage.name} {unit}: {reason}; doing this unit again")
            waiting.append(unit)
        done = len(units) - len(waiting)
        if done:
            self.reporter.info(f"{self.stage.name}: {done} of {len(units)} units are done already")
        return waiting

    def claimed(self, units: Sequence[str]) -> Iterator[str]:
        """The pending units that fall to this process, one by one: all of them, or among several workers those that no other does.

        It ends when all are done, whoever did them.
        """
        if self.crew is None:
            yield from units
        else:
            yield from self.crew.claim(units, self._places, lambda unit: damage(self.folder, unit) is None)

    def following(self, units: Sequence[str]) -> dict[str, str]:
        """For each of the pending units which one this process is likely to do next: another worker may take it first."""
        order = list(units) if self.crew is None else self.crew.order(units, self._places)
        return dict(pairwise(order))

    @contextmanager
    def alone(self) -> Generator[None]:
        """A block that one worker of the run at a time is in: for what they share, such as an array that is created once."""
        if self.crew is None:
            yield
        else:
            with self.crew.alone():
                yield

    @contextmanager
    def unit(self, name: str) -> Generator[UnitWriter]:
        """A writer for one unit; its manifest is written last, and only when the block ends well."""
        if self.crew is not None:
            self.crew.check(name)
        writer = UnitWriter(self.folder, name, self.stage.tables)
        yield writer
        now = time.perf_counter()
        writer.finish(now - self._mark)
        self._mark = now
        manifest = read_manifest(self.folder, name)
        assert manifest is not None
        self.rows_written += sum(manifest["rows"].values())
        if self.crew is not None:
            self.crew.give_back(name)
