"""Training a sparse dictionary: one step, and the loop around it.

Shapes: N rows, B rows of a batch, D model width, F latents.
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
from saebias.sae.initialisation import initial_weights
from saebias.sae.kernels.choice import choose_kernels
from saebias.sae.kernels.contract import AdamStep, SparseCodes, Weights
from saebias.sae.losses import add_aux_gradients
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.normalisation import InputScale, check_rows, fold_input_scale, input_scale
from saebias.sae.quality import sae_quality

SCALE_ROWS = 16_384
"""Rows from which mean and scale of the input are taken: enough for both to about 1 %."""
AUX_ROWS = 512
"""Rows of a batch that AuxK looks at; they are a random sample, because batches are shuffled."""


@dataclass(frozen=True)
class TrainConfig:
    """How a dictionary is trained; what it is stands in `SaeSpec`."""

    batch_size: int = 1024
    """Rows a step; the maker of the batches uses it too."""
    learning_rate: float | None = None
    """Peak learning rate of Adam; None takes `chosen_learning_rate(steps, n_latents)`."""
    warmup_share: float = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    decay_share: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls to 0 in a line."""
    clip_factor: float = 3.0
    """A gradient longer than this many times its running mean norm is shortened to that; relative, because Adam does not feel the scale of the loss."""
    aux_coefficient: float = 1 / 32
    """Weight of the AuxK loss; 0 turns it off."""
    aux_k: int | None = None
    """Dead latents a row that take part in AuxK; None takes half the model width."""
    dead_after_tokens: int = 20_480
    """A latent counts as dead when it was not active for this many rows."""
    init_from_rows: float = 0.7
    """Share of an initial decoder direction that is a row of the data (the rest is random); 0 starts from random directions. See `initial_weights`."""
    outlier_ratio: float = 10.0
    """Rows this many times farther from the mean than usual are left out of training (and counted): a handful of them can be most of the variance."""
    history_rows: int = 50
    """About how many rows of history a training leaves."""
    beta1: float = 0.9
    beta2: float = 0.999
    kernels: str = "auto"
    """`numba`, `torch`, or `auto`: the compiled ones where numba is installed. Changes numbers by rounding only."""


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


@dataclass(frozen=True)
class StepResult:
    """What one step saw, before it changed the weights."""

    n_rows: int
    loss: float
    squared_error: float
    squared_norm: float
    n_active: int
    gradient_norm: float


def chosen_learning_rate(steps: int, n_latents: int) -> float:
    """Peak learning rate for a budget of `steps`: 6e-3 for a hundred steps, falling with the root of the steps to 1e-3, less for wide dictionaries."""
    return min(6e-3, max(1e-3, 6e-3 * (100 / max(steps, 1)) ** 0.5)) * min(1.0, (4096 / n_latents) ** 0.5)


class SaeTrainer:
    """The weights, the optimizer and the dead-latent counters of one dictionary while it learns."""

    def __init__(self, spec: SaeSpec, config: TrainConfig, first_rows_ND: Tensor, steps: int) -> None:
        if spec.architecture != "topk":
            raise InputError(f"SAEs of architecture {spec.architecture!r} can be used but not trained here; train a topk one")
        self.spec, self.config, self.steps = spec, config, steps
        self.scale: InputScale = input_scale(first_rows_ND, config.outlier_ratio)
        self.peak_learning_rate = config.learning_rate or chosen_learning_rate(steps, spec.n_latents)
        self.kernels = choose_kernels(config.kernels)
        usual_ND = self.scale.normalise(first_rows_ND)
        self.weights = initial_weights(spec, usual_ND[self.scale.is_usual_N(usual_ND)], self.kernels, config.init_from_rows)
        self._first, self._second = self.weights.zeros_like(), self.weights.zeros_like()
        self.last_active_F = torch.zeros(spec.n_latents, dtype=torch.int64)
        self._mean_norm: float | None = None
        self.step_count = 0
        self.tokens = 0
        self.outlier_rows = 0

    def learning_rate(self) -> float:
        """The learning rate of the step to come."""
        warmup = max(1, round(self.steps * self.config.warmup_share))
        decay = max(1, round(self.steps * self.config.decay_share))
        return self.peak_learning_rate * min(1.0, (self.step_count + 1) / warmup, (self.steps - self.step_count) / decay)

    def dead_F(self) -> Tensor:
        """Which latents were not active for `dead_after_tokens` rows [F] bool."""
        return self.tokens - self.last_active_F >= self.config.dead_after_tokens

    @torch.no_grad()
    def step(self, raw_BD: Tensor) -> StepResult:
        """Learn from one batch of raw activations; raises InputError when a row is NaN, infinite or all zero."""
        check_rows(raw_BD, f"batch {self.step_count + 1}")
        x_BD = self.scale.normalise(raw_BD)
        usual_B = self.scale.is_usual_N(x_BD)
        if not bool(usual_B.all()):
            x_BD = x_BD[usual_B]
            self.outlier_rows += len(raw_BD) - len(x_BD)
        centred_BD = x_BD - self.weights.b_dec_D
        codes = self.kernels.encode(centred_BD, self.weights, self.spec.k)
        rebuilt = self.kernels.rebuild(x_BD, codes, self.weights)
        grads = self.kernels.gradients(centred_BD, codes, rebuilt, self.weights)
        self._count_active(codes, len(x_BD))
        squared_error = rebuilt.error_BD.square().sum().item()
        loss = squared_error / x_BD.numel() + self._add_aux(grads, centred_BD, rebuilt.error_BD)
        gradient_norm = self._update(grads)
        return StepResult(len(x_BD), loss, squared_error, x_BD.square().sum().item(), int((codes.values_BK > 0).sum()), gradient_norm)

    def finished(self) -> SparseAutoencoder:
        """The dictionary on raw activations."""
        sae = SparseAutoencoder(self.spec)
        with torch.no_grad():
            sae.W_enc_DF.copy_(self.weights.W_enc_FD.T)
            sae.b_enc_F.copy_(self.weights.b_enc_F)
            sae.W_dec_FD.copy_(self.weights.W_dec_FD)
            sae.b_dec_D.copy_(self.weights.b_dec_D)
        fold_input_scale(sae, self.scale)
        return sae

    def _count_active(self, codes: SparseCodes, n_rows: int) -> None:
        self.tokens += n_rows
        self.last_active_F[codes.indices_BK[codes.values_BK > 0]] = self.tokens

    def _add_aux(self, grads: Weights, centred_BD: Tensor, error_BD: Tensor) -> float:
        dead_A = torch.nonzero(self.dead_F()).flatten()
        if self.config.aux_coefficient == 0 or len(dead_A) == 0:
            return 0.0
        aux_k = self.config.aux_k or max(1, self.spec.d_model // 2)
        return add_aux_gradients(grads, centred_BD[:AUX_ROWS], error_BD[:AUX_ROWS], self.weights, dead_A, aux_k=aux_k, coefficient=self.config.aux_coefficient)

    def _update(self, grads: Weights) -> float:
        learned = [grads.W_enc_FD, grads.b_enc_F, grads.b_dec_D] + ([] if self.spec.frozen_decoder else [grads.W_dec_FD])
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in learned])).item()
        step = AdamStep(
            learning_rate=self.learning_rate(),
            count=self.step_count + 1,
            shrink=self._clipping(norm),
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            frozen_decoder=self.spec.frozen_decoder,
        )
        self.kernels.adam(self.weights, grads, self._first, self._second, step)
        self.step_count += 1
        return norm

    def _clipping(self, norm: float) -> float:
        if self._mean_norm is None:
            self._mean_norm = norm
        shrink = min(1.0, self.config.clip_factor * self._mean_norm / norm) if norm > 0 else 1.0
        self._mean_norm += 0.05 * (norm * shrink - self._mean_norm)
        return shrink


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
