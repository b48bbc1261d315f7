"""What extraction will cost, from one or two batches of the real model over the real corpus, timed and written."""

from __future__ import annotations

import math
import resource
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import InputError, MissingParent
from saebias.pipeline.planning import ancestors, plan
from saebias.pipeline.stage import StageContext
from saebias.report import Reporter
from saebias.stages.extract import EXTRACT, Job, open_job
from saebias.stages.registry import STAGES

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.stages.extract_batch import Done, Target


@dataclass(frozen=True)
class HookCost:
    """A hook point's share: rows, bytes on disk, and the seconds that the decoder takes from the hook point before to this one."""

    hook: str
    rows: int
    disk_bytes: float
    seconds: float


@dataclass(frozen=True)
class MeasuredCost:
    """What the whole extraction will take; `refused` captions are known beforehand to be left out."""

    hooks: list[HookCost]
    captions: int
    refused: int
    rows: int
    shards: int
    disk_bytes: float
    memory_bytes: float
    seconds: float
    basis: str


def measured_cost(cfg: Config, reporter: Reporter) -> MeasuredCost:
    """Open the model, plan the shards, run two batches (one where the first shard has no more) and write them to a folder that is removed again.

    Raises MissingParent where the samples were not prepared, and whatever the extraction itself would raise for these batches.
    """
    return timed_cost(open_job(extract_context(cfg, reporter)))


def timed_cost(job: Job) -> MeasuredCost:
    """The cost of a job that is open; raises InputError where none of the captions to be timed can be used."""
    import torch

    from saebias.stages.extract_batch import Done, Target
    from saebias.store.arrays import as_stored

    cfg, loaded = job.extractor.cfg, job.extractor.loaded
    items = [item for shard in job.shards for item in shard]
    usable = [item for item in items if item.reason is None]
    if not usable:
        raise InputError(f"extract: none of the {len(items)} captions can be used; the first: {items[0].reason}")
    batches = [batch for batch in job.batches(0) if any(item.reason is None for group in batch for item in group)]
    target = Target(as_stored(cfg.extract.dtype, (cfg.extract.shard_rows, len(job.hooks), loaded.adapter.d_model)), None)
    maker, seconds, tokens, done = job.extractor.maker, 0.0, 0, Done()
    with torch.inference_mode():
        # The first pass of all pays for what happens once; it is not timed.
        job.extractor.run(maker.make(batches[0][:1]), target)
        # One and the same where there are not two: run twice, its rows would count twice, and compress to half.
        chosen = sorted({len(batches) // 3, 2 * len(batches) // 3})
        with _marks(job) as per_hook:
            for number in chosen:
                batch, started = batches[number], time.perf_counter()
                done += job.extractor.run(maker.make(batch), target)
                seconds += time.perf_counter() - started
                tokens += sum(item.n_tokens for group in batch for item in group)
    if not any(len(row.position_N) for row in done.rows):
        reason = next((row["reason"] for row in done.status if row["reason"] is not None), "no token of it is of a kind that extract.tokens keeps")
        raise InputError(f"extract: none of the {len(done.status)} captions that were timed can be used; the first: {reason}")
    timed = "two timed batches" if len(chosen) > 1 else "one timed batch"
    return _scaled(job, target, done, seconds, per_hook, sum(item.n_tokens for item in usable) / tokens, len(items) - len(usable), timed)


def extract_context(cfg: Config, reporter: Reporter) -> StageContext:
    """What the stage would be given; raises MissingParent where a stage it stands on is not done."""
    planned = plan(cfg, STAGES, [EXTRACT.name])
    item, above = planned[EXTRACT.name], ancestors(planned, EXTRACT.name)
    for name in above:
        if planned[name].state != "done":
            raise MissingParent(f"two batches can be timed once stage {name} is done; run `saebias {planned[name].stage.group}` first")
    owners = {table: name for name in above for table in planned[name].stage.tables}
    return StageContext(cfg, EXTRACT, item.run_id, item.folder, {name: planned[name].folder for name in above}, owners, reporter)


@contextmanager
def _marks(job: Job) -> Generator[dict[HookPoint, float]]:
    """Seconds between one hook point and the next, over all passes inside the `with` block."""
    adapter = job.extractor.loaded.adapter
    spent = dict.fromkeys(job.hooks, 0.0)
    last = [0.0]

    def begin(*_: Any) -> None:
        last[0] = time.perf_counter()

    def arrived(hook: HookPoint) -> Any:
        def mark(*_: Any) -> None:
            now = time.perf_counter()
            spent[hook] += now - last[0]
            last[0] = now

        return mark

    handles = [adapter.layers[0].register_forward_pre_hook(begin)]
    handles += [adapter.module(hook).register_forward_hook(arrived(hook), prepend=True) for hook in job.hooks]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def _scaled(job: Job, target: Target, done: Done, seconds: float, per_hook: dict[HookPoint, float], factor: float, refused: int, timed: str) -> MeasuredCost:
    """The measured batches, `factor` times over, with the shards and tables that come of them."""
    kept = [row for row in done.rows if len(row.position_N)]
    measured_rows = sum(len(row.position_N) for row in kept)
    places = np.concatenate([row.item.start + row.offset + np.arange(len(row.position_N)) for row in kept])
    written = {hook: _written(job, target.stored_NLD[np.sort(places)][:, [number]], hook) for number, hook in enumerate(job.hooks)}
    rows = round(factor * measured_rows)
    hooks = [HookCost(hook.name, rows, factor * size, factor * per_hook[hook]) for hook, (size, _) in written.items()]
    writing = factor * sum(spent for _, spent in written.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # One shard is written while the next is filled; the peak so far has one.
    memory = peak + target.stored_NLD.nbytes
    disk = sum(hook.disk_bytes for hook in hooks) + 8 * rows
    n_items = sum(len(shard) for shard in job.shards)
    basis = f"{timed} of {measured_rows:,} rows, {1 / factor:.1%} of all"
    return MeasuredCost(hooks, n_items, refused, rows, len(job.shards), disk, memory, factor * seconds + writing, basis)


def _written(job: Job, stored_NLD: np.ndarray, hook: HookPoint) -> tuple[float, float]:
    """(bytes, seconds) of writing the measured vectors of one hook point as a shard of their own."""
    from saebias.store.arrays import create_activations, write_shard

    # As divisible as the shards that will be written, on which the size of the chunks depends.
    part = math.gcd(job.extractor.cfg.extract.shard_rows, 2**14)
    shard_rows = -(-len(stored_NLD) // part) * part
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "measured.zarr"
        create_activations(path, [hook], shard_rows, stored_NLD.shape[2], dtype=job.extractor.cfg.extract.dtype, shard_rows=shard_rows)
        started = time.perf_counter()
        size = write_shard(path, 0, stored_NLD).stat().st_size
        return float(size), time.perf_counter() - started
