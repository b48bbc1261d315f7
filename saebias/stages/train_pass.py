"""Dictionaries that share one reading of the activations: how many at once, where they go on from, and what is written of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError, StoreError
from saebias.pipeline.stage import StageContext
from saebias.stages.train_units import TrainUnit

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.sae.batches import ShuffledRows
    from saebias.sae.row_order import OrderSpec
    from saebias.sae.trainer import TrainConfig
    from saebias.sae.training import Training
    from saebias.sae.training_records import LoopConfig, TrainedSae
    from saebias.store.arrays import ActivationArray
    from saebias.store.parts import UnitWriter

PASS_BYTES = 256 * 2**20
"""Memory that the dictionaries of one pass and their rows may take together; more of them wait for another pass. Changes no number."""


@dataclass(frozen=True)
class TrainData:
    """The rows that every dictionary of a run learns from, in the same order, and those it is judged on."""

    array: ActivationArray
    rows: np.ndarray
    """Activation rows to learn from, sorted."""
    validation: np.ndarray
    """Activation rows of images never trained on, sorted."""
    order: OrderSpec
    steps: int

    def reader(self, hooks: Sequence[HookPoint]) -> Callable[[int, int], np.ndarray]:
        """A reader of blocks [L, N, D] of the rows to learn from."""
        return lambda start, stop: np.stack([self.array.read_rows(hook, self.rows[start:stop]) for hook in hooks])

    def row_bytes(self) -> int:
        """Memory that the rows of one hook point take while they are learned from."""
        from saebias.sae.together import TURN

        return 4 * self.array.d_model * (min(len(self.rows), self.order.held_rows) + TURN * self.order.batch_size + len(self.validation))


@dataclass(frozen=True)
class Waiting:
    """A dictionary to train, with the place of the checkpoint that it goes on from."""

    unit: TrainUnit
    config: TrainConfig
    path: Path
    identity: dict[str, object]
    """What the checkpoint must agree in."""
    step: int
    """Steps made already."""


def passes(waiting: Sequence[Waiting], data: TrainData) -> Iterator[list[Waiting]]:
    """Dictionaries that are trained together: equally far, and within the memory of a pass; by hook point, so that a row is read for as many as possible."""
    for step in sorted({item.step for item in waiting}):
        group: list[Waiting] = []
        taken = 0
        for item in (item for item in waiting if item.step == step):
            own = item.unit.bytes(data.array.d_model)
            shares_rows = any(other.unit.hook == item.unit.hook for other in group)
            if group and taken + own + (0 if shares_rows else data.row_bytes()) > PASS_BYTES:
                yield group
                group, taken, shares_rows = [], 0, False
            group.append(item)
            taken += own + (0 if shares_rows else data.row_bytes())
        if group:
            yield group


def run_pass(ctx: StageContext, data: TrainData, group: Sequence[Waiting]) -> None:
    """Train the dictionaries of one pass and write each as its own unit."""
    from saebias.sae.batches import ShuffledRows
    from saebias.sae.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from saebias.sae.together import Pupil, train_together

    hooks = list(dict.fromkeys(item.unit.hook for item in group))
    with ShuffledRows(data.reader(hooks), data.order) as rows:
        pupils = [Pupil(item.unit.name, training, hooks.index(item.unit.hook)) for item, training in _trainings(ctx, data, group, rows, hooks)]
        first = load_checkpoint(group[0].path, group[0].identity)
        if first is not None:
            rows.restore({name.removeprefix("rows."): t for name, t in first.tensors.items() if name.startswith("rows.")}, first.facts["rows"])
            ctx.reporter.info(f"train: {len(group)} dictionaries go on from step {group[0].step:,} of {data.steps:,}")

        def save(number: int) -> None:
            tensors, facts = pupils[number].training.state()
            row_tensors, row_facts = rows.state()
            tensors |= {f"rows.{name}": tensor for name, tensor in row_tensors.items()}
            save_checkpoint(group[number].path, Checkpoint(tensors, {"training": facts, "rows": row_facts}), group[number].identity)

        train_together(pupils, rows, reporter=ctx.reporter, checkpoint_every=ctx.cfg.train.checkpoint_every, save=save)
    for item, pupil in zip(group, pupils, strict=True):
        trained = pupil.training.finished()
        assert trained is not None
        with ctx.unit(item.unit.name) as out:
            write_dictionary(ctx, out, item.unit, trained)
        item.path.unlink(missing_ok=True)


def _trainings(ctx: StageContext, data: TrainData, group: Sequence[Waiting], rows: ShuffledRows, hooks: list[HookPoint]) -> Iterator[tuple[Waiting, Training]]:
    import torch

    from saebias.sae.checkpoint import load_checkpoint
    from saebias.sae.sinks import open_sink
    from saebias.sae.training import SCALE_ROWS, Training

    first_LND = rows.first_rows(SCALE_ROWS)
    validation = {hook: torch.from_numpy(data.array.read_rows(hook, data.validation)) for hook in hooks}
    loop = loop_config(ctx, data.steps)
    for item in group:
        spec = item.unit.spec(ctx.cfg.train.architecture, data.array.d_model)
        sink = open_sink(ctx.cfg.train.track, ctx.folder / "tracking", item.unit.name, asdict(spec))
        try:
            hook = item.unit.hook
            training = Training(spec, item.config, first_LND[hooks.index(hook)], data.steps, validation_ND=validation[hook], loop=loop, sink=sink)
            checkpoint = load_checkpoint(item.path, item.identity)
            if checkpoint is not None:
                training.restore(checkpoint.tensors, checkpoint.facts["training"])
        except InputError as error:
            raise type(error)(f"train {item.unit.name}: {error}") from error
        yield item, training


def loop_config(ctx: StageContext, steps: int) -> LoopConfig:
    """When a training of so many steps looks at validation images."""
    from saebias.sae.training_records import LoopConfig

    looks = ctx.cfg.train.validations
    return LoopConfig(max(1, steps // (looks + 1)) if looks else None, ctx.cfg.train.patience)


def refuse_missing_shards(array: ActivationArray, rows: np.ndarray) -> None:
    """Raise StoreError naming the first shard that `rows` lie in and that is not there: Zarr would answer with zeros."""
    from saebias.store.arrays import shard_file

    for shard in np.unique(rows // array.shard_rows).tolist():
        path = shard_file(array.path, shard)
        if not path.exists():
            first = shard * array.shard_rows
            raise StoreError(f"{path} is missing (activation rows {first} to {first + array.shard_rows}); run `saebias extract`, which makes that shard alone")


def write_dictionary(ctx: StageContext, out: UnitWriter, unit: TrainUnit, trained: TrainedSae) -> None:
    """Keep a trained dictionary: its weights, its row in `saes`, its training curve; raises InputError when the training diverged."""
    from saebias.sae.formats import save_sae

    summary, name = trained.summary, unit.name
    if summary.validation_fvu is not None and not np.isfinite(summary.validation_fvu):
        raise InputError(f"train {name}: the training diverged (FVU {summary.validation_fvu}); lower train.learning_rate, or leave it out")
    if summary.validation_fvu is None:
        raise InputError(f"train {name}: FVU cannot be computed because the validation rows do not vary; extract more samples")
    sae_id, folder = f"{ctx.run_id}/{name}", out.folder / name
    out.keep(save_sae(folder, trained.sae, meta={"sae_id": sae_id, "hook": unit.hook.name, "model": ctx.cfg.model.name, "role": unit.role}))
    row: dict[str, Any] = {
        "sae_id": sae_id,
        "layer": unit.hook.layer,
        "site": unit.hook.site,
        "role": unit.role,
        "train_rows": summary.tokens,
        "fvu": summary.validation_fvu,
        "l0": summary.validation_l0,
        "dead_share": summary.validation_dead_share,
        "imported_from": None,
        "path": str(folder.relative_to(ctx.folder)),
    }
    same = ("architecture", "d_model", "n_latents", "k", "seed", "steps", "kept_step", "outlier_rows", "learning_rate", "tokens_per_second", "seconds")
    row |= {key: getattr(summary, key) for key in (*same, "frozen_decoder")}
    out.rows("saes", [row])
    keys = ("step", "loss", "fvu", "l0", "dead_share", "learning_rate", "gradient_norm", "tokens_per_second")
    out.rows("sae_history", [{"sae_id": sae_id, **{key: getattr(point, key) for key in keys}} for point in trained.history])
    ctx.reporter.info(
        f"train {name}: FVU {summary.validation_fvu:.3f}, L0 {summary.validation_l0:.1f}, dead {summary.validation_dead_share:.0%},"
        f" {summary.tokens_per_second:,.0f} rows/s"
    )
