"""`extract`: activations of chosen decoder layers, token by token, in shards that are done or not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from saebias.config.schema import Config
from saebias.errors import InputError
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.report import Task
from saebias.stages.model_access import model_files
from saebias.stages.token_index import text_column

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.stages.extract_batch import Extractor
    from saebias.stages.extract_pictures import Batch
    from saebias.stages.extract_plan import Item
    from saebias.stages.extract_pooled import Pooled
    from saebias.stages.extract_prompts import Wording

TABLES = ("token_rows", "extract_status", "extract_prompts", "extract_model", "pooled_rows")


@dataclass(frozen=True)
class Job:
    """All that filling shards needs: the plan, the prompts and the model at work."""

    shards: list[list[Item]]
    hooks: list[HookPoint]
    words: dict[str, Wording]
    extractor: Extractor
    n_samples: int
    model: dict[str, str | None]

    @property
    def units(self) -> dict[str, int]:
        """Number of each unit's shard."""
        return {f"shard-{number:05d}": number for number in range(len(self.shards))}

    def batches(self, number: int) -> list[Batch]:
        """A shard's items in the batches that they are run in."""
        from saebias.stages.extract_pictures import picture_batches

        cfg, loaded = self.extractor.cfg, self.extractor.loaded
        tokens, by_picture = self.extractor.budget.tokens, loaded.processor is not None
        return picture_batches(self.shards[number], budget=tokens, batch_size=cfg.runtime.batch_size, by_picture=by_picture)


@dataclass(frozen=True)
class FilledShard:
    """The shard's activations as they will lie on disk, the index of its rows, what became of each caption, and the means, where they are asked for."""

    number: int
    stored_NLD: np.ndarray
    token_rows: pa.Table
    status: list[dict[str, Any]]
    pooled: Pooled | None


def open_job(ctx: StageContext) -> Job:
    """Open the model and plan the shards; the plan is a function of configuration, corpus and model alone."""
    from saebias.stages.extract_batch import Extractor
    from saebias.stages.extract_plan import hook_points, plan_shards, read_samples
    from saebias.stages.extract_prompts import wordings
    from saebias.stages.model_access import closed_sets, open_model
    from saebias.stages.model_commits import unpinned_warning
    from saebias.stages.model_formats import format_advice
    from saebias.stages.token_budget import TokenBudget

    loaded = open_model(ctx.cfg, ctx.reporter.info)
    if (warning := unpinned_warning(loaded)) is not None:
        ctx.reporter.warn(f"extract: {warning}")
    if (advice := format_advice(loaded)) is not None:
        ctx.reporter.info(f"extract: {advice}")
    hooks = hook_points(ctx.cfg, loaded.adapter.n_layers)
    words = wordings(ctx.cfg, loaded)
    samples = read_samples(ctx)
    shards = plan_shards(ctx.cfg, loaded, samples, words)
    budget = TokenBudget(ctx.cfg, loaded, len(hooks), ctx.reporter)
    extractor = Extractor(ctx.cfg, loaded, hooks, words, closed_sets(ctx), budget, ctx.seed("image tokens"))
    return Job(shards, hooks, words, extractor, len(samples), {"name": ctx.cfg.model.name, "revision": loaded.revision, "digest": loaded.digest})


def run_extract(ctx: StageContext) -> None:
    """Plan the shards, then fill those that are not there yet; the last one is written while the next is filled.

    A kill costs a worker the shard that is being written, if one is, and what was filled of the next since that writing began: it begins then and no
    earlier, and a third is not begun before the first is there. Where it was measured, writing took 2 to 13 % of the time of filling: the loss is one
    shard and at most such a part of another.
    """
    from saebias.stages.train import ACTIVATIONS
    from saebias.store.arrays import create_activations

    job = open_job(ctx)
    cfg = ctx.cfg.extract
    path = ctx.folder / "files" / ACTIVATIONS
    n_rows = len(job.shards) * cfg.shard_rows
    with ctx.alone():
        create_activations(path, job.hooks, n_rows, job.extractor.loaded.adapter.d_model, dtype=cfg.dtype, shard_rows=cfg.shard_rows, model=job.model)
    waiting = ctx.pending(list(job.units))
    n_captions = sum(len(job.shards[job.units[name]]) for name in waiting)
    with ctx.reporter.task("extracting", n_captions, "captions") as task, WriterThread() as writer:
        following = ctx.following(waiting)
        for name in ctx.claimed(waiting):
            filled = fill_shard(job, job.units[name], task, job.units.get(following.get(name, "")))
            writer.put(lambda name=name, filled=filled: _write(ctx, job, name, filled, path))
    _tell(ctx, job.n_samples)


def fill_shard(job: Job, number: int, task: Task, following: int | None = None) -> FilledShard:
    """Run a shard's captions; at its end the first pictures of the shard that is to follow are made ready.

    Raises InputError naming sample, layer and number format for a value that is not finite.
    """
    import torch

    from saebias.stages.extract_batch import Done, Target
    from saebias.stages.extract_pooled import Pooled
    from saebias.stages.extract_rows import index_table, kept_ids
    from saebias.store.arrays import as_stored

    extractor, cfg = job.extractor, job.extractor.cfg
    loaded = extractor.loaded
    shape = (cfg.extract.shard_rows, len(job.hooks), loaded.adapter.d_model)
    target = Target(as_stored(cfg.extract.dtype, shape), Pooled() if cfg.extract.pooled else None)
    expected = None if following is None else next(iter(job.batches(following)), None)
    done = Done()
    with torch.inference_mode(), closing(extractor.maker.batches(job.batches(number), expected)) as batches:
        for ready in batches:
            part = extractor.run(ready, target)
            task.advance(len(part.status))
            done += part
    texts = token_texts(loaded.tokenizer, kept_ids(done.rows))
    index = index_table(done.rows, number, cfg.extract.shard_rows, {language: word.prompt_id for language, word in job.words.items()}, texts)
    return FilledShard(number, target.stored_NLD, index, sorted(done.status, key=lambda row: (row["sample_id"], row["language"])), target.pooled)


def token_texts(tokenizer: Any, ids: set[int]) -> dict[int, str]:
    """The text of each token; a token that is a part of a letter keeps the tokenizer's own notation."""
    ordered = sorted(ids)
    if not ordered:
        # Where all captions of a shard failed; tokenizers answer an empty list with one empty text.
        return {}
    texts = tokenizer.batch_decode([[token] for token in ordered], clean_up_tokenization_spaces=False)
    raw = tokenizer.convert_ids_to_tokens(ordered)
    return {token: own if "\ufffd" in text or not text else text for token, text, own in zip(ordered, texts, raw, strict=True)}


class WriterThread:
    """Writes one thing at a time behind the work that makes the next; what is handed over is written even when that work fails."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saebias-writer")
        self._last: Future[object] | None = None

    def put(self, write: Callable[[], object]) -> None:
        """Hand over; waits until the one before is written, and raises what it raised."""
        self.wait()
        self._last = self._thread.submit(write)

    def wait(self) -> None:
        """Until what was handed over is written; raises what that raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> WriterThread:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self.wait()


def _write(ctx: StageContext, job: Job, name: str, filled: FilledShard, path: Path) -> None:
    from saebias.stages.extract_pooled import pooled_path
    from saebias.stages.extract_prompts import prompt_rows
    from saebias.store.arrays import write_shard

    with ctx.unit(name) as out:
        out.keep([write_shard(path, filled.number, filled.stored_NLD)])
        out.keep([path / "zarr.json"], shared=True)
        out.rows("token_rows", filled.token_rows)
        out.rows("extract_status", filled.status)
        # The prompts and the model are the same for all shards: the first one keeps them.
        out.rows("extract_prompts", prompt_rows(ctx.cfg, job.words) if filled.number == 0 else [])
        out.rows("extract_model", [_model_row(job)] if filled.number == 0 else [])
        if filled.pooled is not None:
            file = pooled_path(ctx.folder, filled.number)
            out.rows("pooled_rows", filled.pooled.write(file, filled.number))
            out.keep([file])


def _model_row(job: Job) -> dict[str, Any]:
    loaded = job.extractor.loaded
    size = {"n_layers": loaded.adapter.n_layers, "d_model": loaded.adapter.d_model}
    return {**job.model, "dtype": str(loaded.dtype).removeprefix("torch."), **size}


def _tell(ctx: StageContext, n_samples: int) -> None:
    status = ctx.table("extract_status")
    failed = status.filter(pa.array(text_column(status, "status") == "failed"))
    ctx.reporter.info(f"extract: {len(status) - len(failed):,} captions of {n_samples:,} samples")
    if not len(failed):
        return
    first = failed.slice(0, 1).to_pylist()[0]
    ctx.reporter.warn(f"extract: {len(failed):,} captions were left out; the first: {first['sample_id']} ({first['language']}): {first['reason']}")
    if len(failed) == len(status):
        raise InputError(f"extract: none of the {len(status)} captions could be used; the first: {first['reason']}")


def _inputs(cfg: Config) -> list[Path]:
    return model_files(cfg)


def n_layers_of(wanted: str | int | Sequence[int]) -> int:
    """How many layers the configuration asks for, as far as that can be said without the model (`all` counts as 8)."""
    return 8 if isinstance(wanted, str) else wanted if isinstance(wanted, int) else len(wanted)


def _estimate(cfg: Config) -> Estimate:
    # On the demonstration a caption keeps about 30 rows; measured, a sample of both languages takes 6 ms of two cores.
    hooks = n_layers_of(cfg.extract.layers) * len(cfg.extract.sites)
    size = cfg.data.n * 2 * 30 * hooks * 192 * (2 if cfg.extract.dtype == "bfloat16" else 4) * 0.7
    return Estimate(size, 700 * 2**20 + cfg.extract.shard_rows * hooks * 192 * 8, 5 + cfg.data.n * 0.006)


EXTRACT = Stage(
    name="extract",
    run=run_extract,
    help="activations of the decoder's layers, token by token",
    needs=("prepare",),
    reads=("model", "extract"),
    tables=TABLES,
    inputs=_inputs,
    estimate=_estimate,
    version=3,
    parallel=True,
)
