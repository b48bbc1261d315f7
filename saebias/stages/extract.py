"""`extract`: activations of chosen decoder layers, token by token, in shards that are done or not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import InputError, ModelError
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.model_access import model_files

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.vlm.loading import LoadedModel
    from saebias.vlm.prompts import PromptTokens

LANGUAGES = ("en", "ar")


@dataclass(frozen=True)
class Item:
    """One caption of one sample: a row of the model's batch, with its place in the shard."""

    sample: dict[str, Any]
    language: str
    caption: str
    start: int
    """First activation row within the shard."""
    span: int
    """Rows reserved: image, prompt and caption tokens, and one for a decision row of its own."""


def hook_points(cfg: Config, n_layers: int) -> list[HookPoint]:
    """The hook points that the configuration asks for; raises InputError for a layer that does not exist, naming the range."""
    from saebias.identifiers import HookPoint

    wanted = cfg.extract.layers
    if wanted == "all":
        layers = list(range(n_layers))
    elif isinstance(wanted, int):
        if not 1 <= wanted <= n_layers:
            raise InputError(f"extract.layers={wanted}: the model has {n_layers} layers; ask for 1 to {n_layers} evenly spaced ones, a list, or all")
        layers = sorted({round(x) for x in np.linspace(0, n_layers - 1, wanted)}) if wanted > 1 else [n_layers - 1]
    else:
        layers = list(wanted)
    for layer in layers:
        if not 0 <= layer < n_layers:
            raise InputError(f"extract.layers: layer {layer} does not exist; the model has layers 0 to {n_layers - 1}")
    return [HookPoint(layer, site) for layer in layers for site in cfg.extract.sites]


def run_extract(ctx: StageContext) -> None:
    """Plan the shards, then fill those that are not there yet."""
    from saebias.stages.extract_batch import ShardWork, fill_shard
    from saebias.stages.model_access import closed_sets, open_model, prompts, samples_of
    from saebias.stages.train import ACTIVATIONS
    from saebias.store.arrays import create_activations, write_shard

    loaded = open_model(ctx.cfg)
    hooks = hook_points(ctx.cfg, loaded.adapter.n_layers)
    samples = samples_of(ctx)
    shards = plan_shards(ctx.cfg, loaded, samples, prompts(ctx.cfg))
    path = ctx.folder / "files" / ACTIVATIONS
    rows = len(shards) * ctx.cfg.extract.shard_rows
    with ctx.alone():
        create_activations(path, hooks, rows, loaded.adapter.d_model, dtype=ctx.cfg.extract.dtype, shard_rows=ctx.cfg.extract.shard_rows)
    units = {f"shard-{number:05d}": number for number in range(len(shards))}
    waiting = ctx.pending(list(units))
    sets = closed_sets(ctx)
    with ctx.reporter.task("extracting", sum(len(shards[units[name]]) for name in waiting), "captions") as task:
        for name in ctx.claimed(waiting):
            work = ShardWork(units[name], shards[units[name]], hooks, ctx.cfg, prompts(ctx.cfg), sets)
            filled = fill_shard(loaded, work, task)
            with ctx.unit(name) as out:
                out.keep([write_shard(path, units[name], filled.values_NLD)], hashed=False)
                out.keep([path / "zarr.json"])
                out.rows("token_rows", filled.token_rows)
                out.rows("extract_status", filled.status)
                out.count("activations", filled.token_rows.num_rows)
    _tell(ctx, len(samples))


def _tell(ctx: StageContext, n_samples: int) -> None:
    status = ctx.table("extract_status").to_pylist()
    failed = [row for row in status if row["status"] == "failed"]
    ctx.reporter.info(f"extract: {len(status) - len(failed):,} captions of {n_samples:,} samples")
    if failed:
        ctx.reporter.warn(
            f"extract: {len(failed):,} captions were left out; the first: {failed[0]['sample_id']} ({failed[0]['language']}): {failed[0]['reason']}"
        )
    if len(failed) == len(status):
        raise InputError(f"extract: none of the {len(status)} captions could be used; the first: {failed[0]['reason']}")


def plan_shards(cfg: Config, loaded: LoadedModel, samples: Sequence[dict[str, Any]], prompt_of: dict[str, str]) -> list[list[Item]]:
    """Which caption's rows lie where: whole captions to a shard, in order of sample, so that a failed one never moves another.

    Raises InputError when one caption alone is longer than a shard.
    """
    from saebias.vlm.prompts import caption_tokens

    probe = _probe(loaded, samples, prompt_of, template=cfg.model.chat_template)
    lengths: dict[tuple[str, str], int] = {}
    for language in LANGUAGES:
        texts = [sample[f"caption_{language}"] for sample in samples if sample[f"caption_{language}"] is not None]
        lengths |= {(language, text): len(ids) for text, ids in zip(texts, caption_tokens(loaded, probe[language], texts), strict=True)}
    shards: list[list[Item]] = [[]]
    used = 0
    for sample in samples:
        for language in LANGUAGES:
            caption = sample[f"caption_{language}"]
            if caption is None:
                continue
            span = len(probe[language].ids) + lengths[language, caption] + 1
            if span > cfg.extract.shard_rows:
                raise InputError(
                    f"sample {sample['sample_id']}: its {language} caption takes {span} rows, more than extract.shard_rows={cfg.extract.shard_rows}; raise that"
                )
            if used + span > cfg.extract.shard_rows:
                shards.append([])
                used = 0
            shards[-1].append(Item(sample, language, caption, used, span))
            used += span
    if not shards[0]:
        raise InputError("extract: no sample has a caption; name caption columns in data.columns")
    return shards


def _probe(loaded: LoadedModel, samples: Sequence[dict[str, Any]], prompt_of: dict[str, str], *, template: bool) -> dict[str, PromptTokens]:
    """The tokens of each prompt with the picture that takes most tokens: the largest, where the number depends on the size."""
    from PIL import Image

    from saebias.stages.model_access import features_of
    from saebias.vlm.inputs import build_inputs

    def area(sample: dict[str, Any]) -> int:
        try:
            with Image.open(sample["image_path"]) as image:
                return image.width * image.height
        except OSError:
            return 0

    largest = max(samples[:256], key=area)
    if area(largest) == 0:
        raise ModelError(f"picture {largest['image_path']} cannot be opened; put it back, or run `saebias prepare --force`")
    features = features_of(loaded, [largest])
    return {language: build_inputs(loaded, features, [prompt_of[language]], use_chat_template=template).prompts[0] for language in LANGUAGES}


def _inputs(cfg: Config) -> list[Path]:
    return model_files(cfg)


def _estimate(cfg: Config) -> Estimate:
    # On the demonstration a caption keeps about 33 rows; measured, a sample of both languages takes 8 ms on two cores.
    layers = 8 if cfg.extract.layers == "all" else cfg.extract.layers if isinstance(cfg.extract.layers, int) else len(cfg.extract.layers)
    rows = cfg.data.n * 2 * 33
    size = rows * layers * len(cfg.extract.sites) * 192 * (2 if cfg.extract.dtype == "bfloat16" else 4) * 0.85
    return Estimate(size, 700 * 2**20 + cfg.extract.shard_rows * layers * 192 * 8, 5 + cfg.data.n * 0.008)


EXTRACT = Stage(
    name="extract",
    run=run_extract,
    help="activations of the decoder's layers, token by token",
    needs=("prepare",),
    reads=("model", "extract"),
    tables=("token_rows", "extract_status"),
    inputs=_inputs,
    estimate=_estimate,
    parallel=True,
)
