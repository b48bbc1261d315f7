"""`train`: one sparse autoencoder per hook point and seed, on tokens of both languages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saebias.config.schema import Config
from saebias.errors import InputError
from saebias.pipeline.stage import Estimate, Stage, StageContext

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.sae.training import TrainedSae
    from saebias.store.parts import UnitWriter

ACTIVATIONS = "activations.zarr"
VALIDATION_ROWS = 4096


def sae_unit(hook: HookPoint, seed: int) -> str:
    """The unit (and the id within a run) of the dictionary of a hook point and a seed."""
    return f"{hook.name}.seed{seed}"


def activations_path(ctx: StageContext) -> Path:
    """Where the extract run that this stage stands on keeps its activations."""
    return ctx.parent_folder("extract") / "files" / ACTIVATIONS


def run_train(ctx: StageContext) -> None:
    """Train what is not trained yet; all dictionaries see the same rows."""
    from saebias.stages.threads import use_threads
    from saebias.stages.token_index import balanced_rows, token_index
    from saebias.store.arrays import ActivationArray

    use_threads(ctx.cfg)
    array = ActivationArray(activations_path(ctx))
    units = {sae_unit(hook, seed): (hook, seed) for seed in ctx.cfg.train.seeds for hook in array.hooks}
    waiting = ctx.pending(list(units))
    if not waiting:
        return
    index = token_index(ctx)
    sae_part, select_part = index.where(index.split == "sae"), index.where(index.split == "select")
    rows = sae_part.row[balanced_rows(sae_part, ctx.cfg.train.max_rows, ctx.seed("rows"))]
    validation = select_part.row[balanced_rows(select_part, VALIDATION_ROWS, ctx.seed("validation"))]
    for name in ctx.claimed(waiting):
        hook, seed = units[name]
        trained = _train_one(ctx, array.read_rows(hook, rows), array.read_rows(hook, validation), name, seed)
        with ctx.unit(name) as out:
            _write(ctx, out, name, hook, trained)


def _train_one(ctx: StageContext, x_ND: np.ndarray, validation_ND: np.ndarray, name: str, seed: int) -> TrainedSae:
    import torch

    from saebias.sae.batches import shuffled_batches
    from saebias.sae.module import SaeSpec
    from saebias.sae.training import TrainConfig, train_sae

    cfg = ctx.cfg.train
    if len(x_ND) < cfg.batch_size:
        raise InputError(f"train: {len(x_ND)} activation rows are fewer than train.batch_size={cfg.batch_size}; extract more samples or lower the batch size")
    if seed == ctx.seed(f"batches-{name}"):
        raise InputError(f"train: initialisation seed {seed} is also the seed of the data order; change train.seeds")
    d_model = x_ND.shape[1]
    spec = SaeSpec(d_model=d_model, n_latents=cfg.expansion * d_model, k=cfg.k, seed=seed)
    config = TrainConfig(batch_size=cfg.batch_size, learning_rate=cfg.learning_rate, aux_coefficient=cfg.aux_coefficient, dead_after_tokens=cfg.dead_after_rows)
    steps = max(1, round(cfg.epochs * len(x_ND) / cfg.batch_size))
    batches = shuffled_batches(
        lambda start, stop: x_ND[start:stop], len(x_ND), batch_size=cfg.batch_size, epochs=int(np.ceil(cfg.epochs)) + 1, seed=ctx.seed(f"batches-{name}")
    )
    ctx.reporter.info(f"train {name}: {spec.n_latents:,} latents on {len(x_ND):,} rows, {steps:,} steps")
    return train_sae(batches, spec, config, steps=steps, reporter=ctx.reporter, validation_ND=torch.from_numpy(validation_ND))


def _write(ctx: StageContext, out: UnitWriter, name: str, hook: HookPoint, trained: TrainedSae) -> None:
    from saebias.sae.formats import save_sae

    summary = trained.summary
    sae_id = f"{ctx.run_id}/{name}"
    folder = out.folder / name
    paths = save_sae(folder, trained.sae, meta={"sae_id": sae_id, "hook": hook.name, "model": ctx.cfg.model.name})
    out.keep(paths)
    if summary.validation_fvu is not None and not np.isfinite(summary.validation_fvu):
        raise InputError(f"train {name}: the training diverged (FVU {summary.validation_fvu}); lower train.learning_rate, or leave it out")
    if summary.validation_fvu is None:
        raise InputError(f"train {name}: FVU cannot be computed because the validation rows do not vary; extract more samples")
    row = {
        "sae_id": sae_id,
        "layer": hook.layer,
        "site": hook.site,
        "architecture": summary.architecture,
        "d_model": summary.d_model,
        "n_latents": summary.n_latents,
        "k": summary.k,
        "seed": summary.seed,
        "steps": summary.steps,
        "train_rows": summary.tokens,
        "learning_rate": summary.learning_rate,
        "fvu": summary.validation_fvu,
        "l0": summary.validation_l0,
        "dead_share": summary.validation_dead_share,
        "tokens_per_second": summary.tokens_per_second,
        "seconds": summary.seconds,
        "frozen_decoder": summary.frozen_decoder,
        "path": str(folder.relative_to(ctx.folder)),
    }
    out.rows("saes", [row])
    keys = ("step", "fvu", "l0", "dead_share", "learning_rate", "tokens_per_second")
    out.rows("sae_history", [{"sae_id": sae_id, **{key: getattr(point, key) for key in keys}} for point in trained.history])
    ctx.reporter.info(
        f"train {name}: FVU {summary.validation_fvu:.3f}, L0 {summary.validation_l0:.1f}, dead {summary.validation_dead_share:.0%},"
        f" {summary.tokens_per_second:,.0f} rows/s"
    )


def _estimate(cfg: Config) -> Estimate:
    # d = 192, 8 layers, measured: about 40,000 rows/s on two cores; time grows with rows x layers x latents.
    layers = 8 if cfg.extract.layers == "all" else cfg.extract.layers if isinstance(cfg.extract.layers, int) else len(cfg.extract.layers)
    count = layers * len(cfg.extract.sites) * len(cfg.train.seeds)
    seconds = count * cfg.train.max_rows * cfg.train.epochs / 40_000 * cfg.train.expansion / 8
    return Estimate(count * 2 * 4 * 192 * 192 * cfg.train.expansion, 600 * 2**20, 3 + seconds)


TRAIN = Stage(
    name="train",
    run=run_train,
    help="sparse autoencoders",
    needs=("prepare", "extract"),
    reads=(
        "train.expansion",
        "train.k",
        "train.epochs",
        "train.batch_size",
        "train.learning_rate",
        "train.aux_coefficient",
        "train.dead_after_rows",
        "train.max_rows",
        "train.seeds",
    ),
    tables=("saes", "sae_history"),
    estimate=_estimate,
    parallel=True,
)
