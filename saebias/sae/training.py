"""Training a sparse dictionary: what is kept around `SaeTrainer` from step to step, and the record of it.

Shapes: N rows, B rows of a batch, D model width.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.report import Reporter
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.peers import ALONE, Peers
from saebias.sae.quality import QualityAccumulator, sae_quality
from saebias.sae.sinks import Sink
from saebias.sae.trainer import SaeTrainer, StepResult, TrainConfig
from saebias.sae.training_records import HistoryRow, LoopConfig, TrainedSae, summarise

SCALE_ROWS = 16_384
"""Rows from which mean and scale of the input are taken: enough for both to about 1 %."""
CHECK_ROWS = 2048
"""Validation rows that a look in the middle of a training takes; all of them are for the end."""


@dataclass
class _Window:
    """Sums over the steps since the last row of the history."""

    steps: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    gradient_norm: float = 0.0
    squared_error: float = 0.0
    squared_norm: float = 0.0
    n_active: int = 0
    n_rows: int = 0

    def add(self, result: StepResult, seconds: float) -> None:
        self.steps += 1
        self.seconds += seconds
        for name in ("loss", "gradient_norm", "squared_error", "squared_norm", "n_active", "n_rows"):
            setattr(self, name, getattr(self, name) + getattr(result, name))


@dataclass
class _Best:
    """The state that explained the validation rows best, and how many looks ago that was."""

    step: int
    fvu: float
    weights: dict[str, Tensor]
    looks_since: int = 0


class Training:
    """One dictionary that learns from batches it is handed: trainer, history, best state; all of it can be saved and taken up."""

    def __init__(
        self,
        spec: SaeSpec,
        config: TrainConfig,
        first_rows_ND: Tensor,
        steps: int,
        *,
        validation_ND: Tensor | None = None,
        loop: LoopConfig = LoopConfig(),  # noqa: B008 - frozen
        sink: Sink | None = None,
        peers: Peers = ALONE,
    ) -> None:
        """`first_rows_ND` raw activations that mean and scale are taken from, `validation_ND` rows never trained on, `sink` gets each row of the history.

        With `peers` this process holds its share of the latents, and all of them make the same calls with the same rows.
        """
        self.spec, self.steps, self._peers = spec, steps, peers
        self._trainer = SaeTrainer(spec, config, _checked_width(first_rows_ND, spec.d_model), steps, peers)
        self._loop, self._sink, self._validation_ND = loop, sink, validation_ND
        self._every = max(1, steps // config.history_rows)
        self._window, self.history, self._best, self._seconds = _Window(), list[HistoryRow](), None, 0.0
        self._stopped = False

    @property
    def step_count(self) -> int:
        """Steps made."""
        return self._trainer.step_count

    @property
    def tokens(self) -> int:
        """Rows learned from."""
        return self._trainer.tokens

    @property
    def done(self) -> bool:
        """Whether all steps are made, or patience is at its end."""
        return self._stopped or self.step_count >= self.steps

    def step(self, batch_BD: Tensor) -> None:
        """Learn from raw activations [B, D]; raises InputError when they do not fit or a row is NaN, infinite or all zero."""
        started = time.perf_counter()
        learning_rate = self._trainer.learning_rate()
        result = self._trainer.step(_checked_width(batch_BD, self.spec.d_model))
        seconds = time.perf_counter() - started
        self._window.add(result, seconds)
        self._seconds += seconds
        if self.step_count % self._every == 0 or self.step_count == self.steps:
            self._note(learning_rate)
        every = self._loop.validate_every
        if every is not None and self._validation_ND is not None and self.step_count % every == 0 and self.step_count < self.steps:
            self._look()

    def _note(self, learning_rate: float) -> None:
        window = self._window
        self.history.append(
            HistoryRow(
                step=self.step_count,
                tokens=self.tokens,
                loss=window.loss / window.steps,
                fvu=window.squared_error / window.squared_norm,
                l0=window.n_active / window.n_rows,
                dead_share=self._trainer.dead_share(),
                learning_rate=learning_rate,
                gradient_norm=window.gradient_norm / window.steps,
                tokens_per_second=window.n_rows / window.seconds,
            )
        )
        self._window = _Window()
        if self._sink is not None:
            self._sink.log(self.history[-1])

    def _check(self, sae: SparseAutoencoder) -> float | None:
        assert self._validation_ND is not None
        accumulator = QualityAccumulator(sae)
        accumulator.add(self._validation_ND[:: max(1, len(self._validation_ND) // CHECK_ROWS)])
        return accumulator.fvu()

    def _look(self) -> None:
        sae = self._trainer.finished()
        # The leading process judges, and keeps the weights.
        fvu = self._peers.told(None if sae is None else self._check(sae))
        if fvu is not None and (self._best is None or fvu < self._best.fvu):
            weights = {} if sae is None else {name: tensor.detach().clone() for name, tensor in sae.state_dict().items()}
            self._best = _Best(self.step_count, fvu, weights)
        elif self._best is not None:
            self._best.looks_since += 1
            self._stopped = self._loop.patience is not None and self._best.looks_since >= self._loop.patience

    def finished(self) -> TrainedSae | None:
        """The dictionary with the weights that explained the validation rows best, and its record; None in a process that does not lead."""
        if self._window.steps:
            self._note(self._trainer.learning_rate())
        if self._sink is not None:
            self._sink.close()
        sae, kept_step = self._trainer.finished(), self.step_count
        if sae is None:
            return None
        if self._best is not None:
            last = self._check(sae)
            # A last state that is NaN stays, so that a training that diverged is seen.
            if last is not None and self._best.fvu < last:
                sae.load_state_dict(self._best.weights)
                kept_step = self._best.step
        validation = sae_quality(sae, self._validation_ND) if self._validation_ND is not None else None
        return TrainedSae(sae, summarise(self._trainer, self.history, self._seconds, kept_step, validation), self.history)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything `restore` needs to go on as if nothing had happened: tensors by name, and facts that are plain JSON.

        With peers it is whole in the leading process alone.
        """
        tensors = {f"trainer.{name}": tensor for name, tensor in self._trainer.state().items()}
        facts: dict[str, Any] = {"history": [asdict(row) for row in self.history], "window": asdict(self._window), "seconds": self._seconds}
        facts |= {"step": self.step_count, "stopped": self._stopped, "best": None}
        if self._best is not None:
            tensors |= {f"best.{name}": tensor for name, tensor in self._best.weights.items()}
            facts["best"] = {"step": self._best.step, "fvu": self._best.fvu, "looks_since": self._best.looks_since}
        return tensors, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from where `state` was called, in a training made with the same arguments."""
        self._trainer.restore({name.removeprefix("trainer."): tensor for name, tensor in tensors.items() if name.startswith("trainer.")})
        self.history = [HistoryRow(**row) for row in facts["history"]]
        self._window, self._seconds, self._stopped = _Window(**facts["window"]), facts["seconds"], facts["stopped"]
        if facts["best"] is not None:
            weights = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
            self._best = _Best(**facts["best"], weights=weights)


def train_sae(
    batches: Iterable[Tensor],
    spec: SaeSpec,
    config: TrainConfig,
    *,
    steps: int,
    reporter: Reporter,
    validation_ND: Tensor | None = None,
    loop: LoopConfig = LoopConfig(),  # noqa: B008 - frozen
) -> TrainedSae:
    """A dictionary trained for `steps` batches of raw activations [B, D], with its summary and history.

    Mean and scale of the input come from the first batches and are folded into the result, which therefore takes raw activations. `validation_ND` (rows
    never trained on) gives the validation figures of the summary. Raises InputError when the batches do not fit the spec, are fewer than `steps`, or hold
    rows that are NaN, infinite or all zero.
    """
    first, rest = _first_rows(iter(batches), spec.d_model)
    training = Training(spec, config, torch.cat(first), steps, validation_ND=validation_ND, loop=loop)
    with reporter.task(f"train SAE {spec.n_latents} x {spec.d_model}", steps, "steps") as task:
        for batch_BD in itertools.islice(itertools.chain(first, rest), steps):
            training.step(batch_BD)
            task.advance(1, **live_fields([training]))
            if training.done:
                break
    if not training.done:
        raise ended_early(training.step_count, steps)
    trained = training.finished()
    assert trained is not None
    return trained


def ended_early(made: int, steps: int) -> InputError:
    """The error of batches that do not suffice."""
    return InputError(f"the batches ended after {made} of {steps} steps; lower the steps or read the rows for more epochs")


def live_fields(trainings: Iterable[Training]) -> dict[str, float | str]:
    """What a person wants to see while it learns: FVU, L0, dead share and speed, means over the trainings that have a history yet."""
    rows = [training.history[-1] for training in trainings if training.history]
    if not rows:
        return {}
    shown = {name: sum(getattr(row, name) for row in rows) / len(rows) for name in ("fvu", "l0", "dead_share")}
    # Side by side they share the processor: what one row costs is the sum of what each takes of it.
    speed = 1 / sum(1 / row.tokens_per_second for row in rows)
    return {"FVU": shown["fvu"], "L0": shown["l0"], "dead": shown["dead_share"], "tokens/s": f"{speed * len(rows):,.0f}"}


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
