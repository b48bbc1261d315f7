"""What is written down about the training of a dictionary."""

from __future__ import annotations

from dataclasses import dataclass

from saebias.sae.module import SparseAutoencoder
from saebias.sae.quality import SaeQuality
from saebias.sae.trainer import SaeTrainer


@dataclass(frozen=True)
class LoopConfig:
    """When a training looks at rows it does not learn from."""

    validate_every: int | None = None
    """Steps between two looks at the validation rows; None looks at the end only. The weights of the best look are what is kept in the end."""
    patience: int | None = None
    """Stop after so many looks without a better one; None never does. The learning rate falls to 0 at the end, and most is gained there: it rarely pays."""


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
    kept_step: int
    """The step whose weights were kept: the last, unless validation rows were explained better before."""
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


def summarise(trainer: SaeTrainer, history: list[HistoryRow], seconds: float, kept_step: int, validation: SaeQuality | None) -> TrainSummary:
    """The record of a training that has come to its end; `validation` is the quality of what was kept, None where there were no validation rows."""
    spec = trainer.spec
    return TrainSummary(
        architecture=spec.architecture,
        d_model=spec.d_model,
        n_latents=spec.n_latents,
        k=spec.k,
        seed=spec.seed,
        frozen_decoder=spec.frozen_decoder,
        steps=trainer.step_count,
        kept_step=kept_step,
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
