"""`train`: sparse autoencoders on tokens of both languages, for every hook point, with further seeds and a control at the analysis layer."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saebias.config.schema import Config
from saebias.errors import BadRows, InputError
from saebias.identifiers import HookPoint
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.extract import n_layers_of
from saebias.stages.train_faults import named_fault
from saebias.stages.train_import import import_dictionary
from saebias.stages.train_pass import TrainData, Waiting, passes, refuse_missing_shards, run_pass
from saebias.stages.train_sharded import refuse_workers, share_pass
from saebias.stages.train_units import TrainUnit, sae_unit, train_units

if TYPE_CHECKING:
    from saebias.sae.trainer import TrainConfig
    from saebias.stages.token_index import TokenIndex
    from saebias.store.arrays import ActivationArray

__all__ = ["ACTIVATIONS", "TRAIN", "activations_path", "sae_unit"]

ACTIVATIONS = "activations.zarr"
VALIDATION_ROWS = 4096


def activations_path(ctx: StageContext) -> Path:
    """Where the extract run that this stage stands on keeps its activations."""
    return ctx.parent_folder("extract") / "files" / ACTIVATIONS


def run_train(ctx: StageContext) -> None:
    """Train what is not trained yet, as many dictionaries in one reading of the activations as memory allows; all see the same rows in the same order."""
    from saebias.stages.threads import use_threads
    from saebias.store.arrays import ActivationArray

    refuse_workers(ctx, os.environ)
    use_threads(ctx.cfg)
    array = ActivationArray(activations_path(ctx))
    units = {unit.name: unit for unit in train_units(ctx.cfg.train, array.hooks)}
    for unit in units.values():
        if unit.folder is None:
            unit.spec(ctx.cfg.train.architecture, array.d_model)
    names = ctx.pending(list(units))
    for name in units.keys() - set(names):
        # Left where a run was killed between keeping a dictionary and this.
        _checkpoint(ctx, name).unlink(missing_ok=True)
    if not names:
        return
    data = _data(ctx, array)
    if any(unit.seed == data.order.seed for unit in units.values()):
        raise InputError(f"train: initialisation seed {data.order.seed} is also the seed of the data order; change train.seeds")
    # Imported ones first: a folder that cannot be used is said before anything is trained.
    for name in ctx.claimed([name for name in names if units[name].folder is not None]):
        import_dictionary(ctx, data, units[name])
    names = [name for name in names if units[name].folder is None]
    ctx.reporter.info(f"train: {len(names)} dictionaries on {len(data.rows):,} rows, {data.steps:,} steps of {data.order.batch_size}")
    _say_kernels(ctx)
    try:
        _learn(ctx, data, {name: units[name] for name in names})
    except BadRows as error:
        fault = named_fault(ctx, data, list(dict.fromkeys(units[name].hook for name in names)))
        raise InputError(f"train: {fault}") if fault is not None else error from None


def _learn(ctx: StageContext, data: TrainData, units: dict[str, TrainUnit]) -> None:
    from saebias.sae.peers import present_peers

    names = list(units)
    if (peers := present_peers()).size > 1:
        share_pass(ctx, data, [_waiting(ctx, data, units[name]) for name in names], peers)
    elif ctx.crew is None:
        for group in passes([_waiting(ctx, data, units[name]) for name in names], data):
            run_pass(ctx, data, group)
    else:
        # Several workers share the dictionaries, not the reading: each takes one when it is free.
        for name in ctx.claimed(names):
            run_pass(ctx, data, [_waiting(ctx, data, units[name])])


def _say_kernels(ctx: StageContext) -> None:
    """What the dictionaries are trained with, where that is not what is usual, and what keeps it from being faster."""
    from saebias.sae.devices import training_device
    from saebias.sae.kernels.choice import choose_kernels
    from saebias.stages.model_access import device_of

    device = training_device(device_of(ctx.cfg))
    _, choice = choose_kernels("auto", device.type)
    if choice.why_not is not None:
        ctx.reporter.warn(f"train: plain torch on {device}, slower than compiled kernels: {choice.why_not}")
    elif device.type != "cpu":
        ctx.reporter.info(f"train: {choice.name} kernels on {device}")


def _data(ctx: StageContext, array: ActivationArray) -> TrainData:
    from saebias.sae.row_order import OrderSpec
    from saebias.stages.token_index import balanced_rows, token_index, unseen_rows

    cfg = ctx.cfg.train
    index = token_index(ctx)
    index = index.where(index.position >= cfg.skip_positions)
    learned, unseen = index.where(index.split == "sae"), unseen_rows(array, index)
    # The best state is chosen on the images that latents are chosen on: those of the split report decide nothing.
    judged = unseen.where(unseen.split == "select")
    rows = learned.row[balanced_rows(learned, cfg.max_rows, ctx.seed("rows"), _weights(cfg.mix.model_dump(), learned))]
    validation = judged.row[balanced_rows(judged, VALIDATION_ROWS, ctx.seed("validation"))]
    if len(rows) < cfg.batch_size:
        raise InputError(f"train: {len(rows)} activation rows are fewer than train.batch_size={cfg.batch_size}; extract more samples or lower the batch size")
    refuse_missing_shards(array, np.concatenate([rows, validation]))
    epochs = int(np.ceil(cfg.epochs)) + 1
    order = OrderSpec(len(rows), batch_size=cfg.batch_size, epochs=epochs, seed=ctx.seed("order"), buffer_rows=cfg.buffer_rows)
    return TrainData(array, rows, validation, order, steps=max(1, round(cfg.epochs * len(rows) / cfg.batch_size)))


def _weights(mix: dict[str, float], index: TokenIndex) -> dict[tuple[str, str], float]:
    """The weight of each (token kind, language) there is; raises InputError when all of them are 0."""
    weights = {(kind, language): mix[kind] * mix[language] for kind, language in set(zip(index.token_kind, index.language, strict=True))}
    if weights and not any(weights.values()):
        raise InputError("train.mix gives every token kind and language that there is the weight 0; give one of them more")
    return weights


def _trainer_config(cfg: Config, seed: int) -> TrainConfig:
    from saebias.sae.trainer import TrainConfig
    from saebias.stages.model_access import device_of

    train = cfg.train
    return TrainConfig(
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        aux_coefficient=train.aux_coefficient,
        dead_after_tokens=train.dead_after_rows,
        init_part=(train.seeds.index(seed), len(train.seeds)),
        device=device_of(cfg),
    )


def _checkpoint(ctx: StageContext, name: str) -> Path:
    return ctx.folder / "checkpoints" / f"{name}.safetensors"


def _waiting(ctx: StageContext, data: TrainData, unit: TrainUnit) -> Waiting:
    """The unit with what its checkpoint must agree in, and how far that is."""
    from saebias.sae.checkpoint import checkpoint_facts

    spec, config, order = unit.spec(ctx.cfg.train.architecture, data.array.d_model), _trainer_config(ctx.cfg, unit.seed), asdict(data.order)
    identity: dict[str, object] = {"hook": unit.hook.name, "steps": data.steps, "validations": ctx.cfg.train.validations, "patience": ctx.cfg.train.patience}
    identity |= {f"order.{key}": value for key, value in order.items()} | asdict(config) | asdict(spec)
    # Where it is computed changes rounding alone: a training may go on elsewhere.
    del identity["device"], identity["kernels"]
    identity["rows"] = hashlib.sha256(np.concatenate([data.rows, data.validation]).tobytes()).hexdigest()[:16]
    path = _checkpoint(ctx, unit.name)
    facts = checkpoint_facts(path, identity)
    return Waiting(unit, config, path, identity, 0 if facts is None else facts["training"]["step"])


def _estimate(cfg: Config) -> Estimate:
    # d = 192, 8 layers, measured: about 40,000 rows/s on two cores; time grows with rows x dictionaries x latents.
    # How many dictionaries there are does not depend on which layers they are of.
    hooks = [HookPoint(layer, site) for layer in range(n_layers_of(cfg.extract.layers)) for site in cfg.extract.sites]
    units = train_units(cfg.train.model_copy(update={"analysis_layer": None, "imports": []}), hooks)
    latents = sum(unit.expansion for unit in units)
    return Estimate(latents * 2 * 4 * 192 * 192, 700 * 2**20, 3 + latents * cfg.train.max_rows * cfg.train.epochs / 320_000)


TRAIN = Stage(
    name="train",
    run=run_train,
    help="sparse autoencoders",
    needs=("prepare", "extract"),
    reads=(
        "train.architecture",
        "train.expansion",
        "train.k",
        "train.epochs",
        "train.batch_size",
        "train.learning_rate",
        "train.aux_coefficient",
        "train.dead_after_rows",
        "train.max_rows",
        "train.mix",
        "train.skip_positions",
        "train.buffer_rows",
        "train.seeds",
        "train.seed_layers",
        "train.analysis_layer",
        "train.sweep",
        "train.imports",
        "train.validations",
        "train.patience",
    ),
    tables=("saes", "sae_history"),
    inputs=lambda cfg: [wanted.folder for wanted in cfg.train.imports],
    estimate=_estimate,
    version=7,
    parallel=True,
)
