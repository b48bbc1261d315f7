"""Training a sparse dictionary: the loop around `SaeTrainer`, and the record of it.

Shapes: N rows, B rows of a batch, D model width.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.report import Reporter
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.quality import sae_quality
from saebias.sae.trainer import SaeTrainer, StepResult, TrainConfig

SCALE_ROWS = 16_384
"""Rows from which mean and scale of the input are taken: enough for both to about 1 %."""


@dataclass(frozen=True)
class HistoryRow:
    """The state of a training, averaged over the steps since the row before."""

    step: int
    tokens: int
    loss: float
    fvu: float
    l0: float
    dead_share: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float


@dataclass(frozen=True)
class TrainSummary:
    """What was trained, on how much, how fast and how well; flat, so that it is a table row."""

    architecture: str
    d_model: int
    n_latents: int
    k: int
    seed: int
    frozen_decoder: bool
    steps: int
    tokens: int
    outlier_rows: int
    """Rows left out because of their norm; not among `tokens`."""
    learning_rate: float
    input_scale: float
    seconds: float
    tokens_per_second: float
    train_fvu: float
    """FVU over the last stretch of the history."""
    dead_share: float
    validation_rows: int
    validation_fvu: float | None
    validation_l0: float | None
    validation_dead_share: float | None


@dataclass(frozen=True)
class TrainedSae:
    """A dictionary on raw activations, with the record of its training."""

    sae: SparseAutoencoder
    summary: TrainSummary
    history: list[HistoryRow]


def train_sae(
    batches: Iterable[Tensor],
    spec: SaeSpec,
    config: TrainConfig,
    *,
    steps: int,
    reporter: Reporter,
    validation_ND: Tensor | None = None,
) -> TrainedSae:
    """A dictionary trained for `steps` batches of raw activations [B, D], with its summary and history.

    Mean and scale of the input come from the first batches and are folded into the result, which therefore takes raw activations. `validation_ND` (rows
    never trained on) gives the validation figures of the summary. Raises InputError when the batches do not fit the spec, are fewer than `steps`, or hold
    rows that are NaN, infinite or all zero.
    """
    first, rest = _first_rows(iter(batches), spec.d_model)
    trainer = SaeTrainer(spec, config, torch.cat(first), steps)
    history: list[HistoryRow] = []
    window: list[StepResult] = []
    every = max(1, steps // config.history_rows)
    started = window_started = time.perf_counter()
    tokens_before = 0
    with reporter.task(f"train SAE {spec.n_latents} x {spec.d_model}", steps, "steps") as task:
        for batch_BD in itertools.islice(itertools.chain(first, rest), steps):
            learning_rate = trainer.learning_rate()
            window.append(trainer.step(_checked_width(batch_BD, spec.d_model)))
            if trainer.step_count % every == 0 or trainer.step_count == steps:
                now = time.perf_counter()
                history.append(_history_row(trainer, window, learning_rate, (trainer.tokens - tokens_before) / (now - window_started)))
                window, window_started, tokens_before = [], now, trainer.tokens
                row = history[-1]
                task.advance(0, fvu=row.fvu, l0=row.l0, dead=row.dead_share)
            task.advance()
    if trainer.step_count < steps:
        raise InputError(f"the batches ended after {trainer.step_count} of {steps} steps; lower the steps or read the rows for more epochs")
    sae = trainer.finished()
    return TrainedSae(sae, _summary(trainer, sae, history, time.perf_counter() - started, validation_ND), history)


def _first_rows(batches: Iterator[Tensor], d_model: int) -> tuple[list[Tensor], Iterator[Tensor]]:
    first: list[Tensor] = []
    while sum(map(len, first)) < SCALE_ROWS and (batch_BD := next(batches, None)) is not None:
        first.append(_checked_width(batch_BD, d_model))
    if not first:
        raise InputError("there is not one batch of activations to train on; extract activations first")
    return first, batches


def _checked_width(batch_BD: Tensor, d_model: int) -> Tensor:
    if batch_BD.ndim != 2 or batch_BD.shape[1] != d_model:
        raise InputError(f"a batch of shape {tuple(batch_BD.shape)} does not fit an SAE on {d_model} dimensions; hand in [rows, {d_model}]")
    return batch_BD.float()


def _history_row(trainer: SaeTrainer, window: list[StepResult], learning_rate: float, tokens_per_second: float) -> HistoryRow:
    return HistoryRow(
        step=trainer.step_count,
        tokens=trainer.tokens,
        loss=sum(r.loss for r in window) / len(window),
        fvu=sum(r.squared_error for r in window) / sum(r.squared_norm for r in window),
        l0=sum(r.n_active for r in window) / sum(r.n_rows for r in window),
        dead_share=trainer.dead_F().float().mean().item(),
        learning_rate=learning_rate,
        gradient_norm=sum(r.gradient_norm for r in window) / len(window),
        tokens_per_second=tokens_per_second,
    )


def _summary(trainer: SaeTrainer, sae: SparseAutoencoder, history: list[HistoryRow], seconds: float, validation_ND: Tensor | None) -> TrainSummary:
    validation = sae_quality(sae, validation_ND) if validation_ND is not None else None
    spec = trainer.spec
    return TrainSummary(
        architecture=spec.architecture,
        d_model=spec.d_model,
        n_latents=spec.n_latents,
        k=spec.k,
        seed=spec.seed,
        frozen_decoder=spec.frozen_decoder,
        steps=trainer.step_count,
        tokens=trainer.tokens,
        outlier_rows=trainer.outlier_rows,
        learning_rate=trainer.peak_learning_rate,
        input_scale=trainer.scale.scale,
        seconds=seconds,
        tokens_per_second=trainer.tokens / seconds,
        train_fvu=history[-1].fvu,
        dead_share=history[-1].dead_share,
        validation_rows=validation.n_rows if validation else 0,
        validation_fvu=validation.fvu if validation else None,
        validation_l0=validation.l0 if validation else None,
        validation_dead_share=validation.dead_share if validation else None,
    )
