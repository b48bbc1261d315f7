"""One training step of a sparse dictionary, and what must survive from step to step.

Shapes: N rows, B rows of a batch, D model width, F latents, A dead latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.sae.initialisation import initial_weights
from saebias.sae.kernels.choice import choose_kernels
from saebias.sae.kernels.contract import AdamStep, SparseCodes, Weights
from saebias.sae.losses import add_aux_gradients
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.normalisation import InputScale, check_rows, fold_input_scale, input_scale

TRAINED = ("topk", "batchtopk")
CALIBRATION_ROWS = 16_384
"""Rows on which the threshold of a batchtopk SAE is set so that k latents a row are active on average."""
CALIBRATION_PIECE = 2048
AUX_ROWS = 512
"""Rows of a batch that AuxK looks at; they are a random sample, because batches are shuffled."""


@dataclass(frozen=True)
class TrainConfig:
    """How a dictionary is trained; what it is stands in `SaeSpec`."""

    batch_size: int = 512
    """Rows a step; the maker of the batches uses it too. Few rows make many steps: with the budget of `chosen_learning_rate` FVU was .188 at 1024 rows,
    .184 at 512 and .181 at 256, while a row costs about a fifth more time with each halving."""
    learning_rate: float | None = None
    """Peak learning rate of Adam; None takes `chosen_learning_rate(steps, n_latents)`."""
    warmup_share: float = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    decay_share: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls to 0 in a line."""
    clip_factor: float = 3.0
    """A gradient longer than this many times its running mean norm is shortened to that; relative, because Adam does not feel the scale of the loss."""
    aux_coefficient: float = 1 / 8
    """Weight of the AuxK loss; 0 turns it off."""
    aux_k: int | None = None
    """Dead latents a row that take part in AuxK; None takes half the model width."""
    dead_after_tokens: int = 8192
    """A latent counts as dead when it was not active for this many rows. With 20,480 and a coefficient of 1/32 7 % of latents ended dead, with these 1 %."""
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
class StepResult:
    """What one step saw, before it changed the weights."""

    n_rows: int
    loss: float
    squared_error: float
    squared_norm: float
    n_active: int
    gradient_norm: float


def chosen_learning_rate(steps: int, n_latents: int) -> float:
    """Peak learning rate of Adam for a budget of `steps`: 6e-3 for a hundred steps, falling with the root of the steps to 1e-3, less for wide dictionaries.

    Validation FVU on layer 15 of SmolLM2-135M, 204,800 rows once, 4,608 latents, k = 32, random start, at 2e-3 / 4e-3 / 8e-3: 100 steps of 2048 rows
    .243 / .219 / .210, 200 steps of 1024 rows .220 / .204 / .209. Usual defaults (1e-4 to 5e-4) are made for budgets a hundred times larger.
    """
    return min(6e-3, max(1e-3, 6e-3 * (100 / max(steps, 1)) ** 0.5)) * min(1.0, (4096 / n_latents) ** 0.5)


class SaeTrainer:
    """The weights, the optimizer and the dead-latent counters of one dictionary while it learns."""

    def __init__(self, spec: SaeSpec, config: TrainConfig, first_rows_ND: Tensor, steps: int) -> None:
        if spec.architecture not in TRAINED:
            raise InputError(f"SAEs of architecture {spec.architecture!r} can be used but not trained; train one of {', '.join(TRAINED)}")
        self.spec, self.config, self.steps = spec, config, steps
        self.scale: InputScale = input_scale(first_rows_ND, config.outlier_ratio)
        self.peak_learning_rate = config.learning_rate or chosen_learning_rate(steps, spec.n_latents)
        self.kernels = choose_kernels(config.kernels)
        usual_ND = self.scale.normalise(first_rows_ND)
        usual_ND = usual_ND[self.scale.is_usual_N(usual_ND)]
        self.weights = initial_weights(spec, usual_ND, self.kernels, config.init_from_rows)
        self._calibration_ND = usual_ND[:CALIBRATION_ROWS].clone()
        self._cut: float | None = None
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
        codes = self._encode(centred_BD)
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
            if self.spec.architecture == "batchtopk":
                # Measured with the final weights, not averaged over the training: an average lags behind, and one that starts at 0 is too low.
                pieces = (self._calibration_ND - self.weights.b_dec_D).split(CALIBRATION_PIECE)
                cuts = [self.kernels.encode_batch(piece_ND, self.weights, self.spec.k, self._cut)[1] for piece_ND in pieces]
                sae.threshold_F.fill_(sum(cut * len(piece_ND) for cut, piece_ND in zip(cuts, pieces, strict=True)) / len(self._calibration_ND))
        fold_input_scale(sae, self.scale)
        return sae

    def _encode(self, centred_BD: Tensor) -> SparseCodes:
        if self.spec.architecture == "topk":
            return self.kernels.encode(centred_BD, self.weights, self.spec.k)
        codes, self._cut = self.kernels.encode_batch(centred_BD, self.weights, self.spec.k, self._cut)
        return codes

    def _count_active(self, codes: SparseCodes, n_rows: int) -> None:
        self.tokens += n_rows
        summed_F = torch.zeros(self.spec.n_latents).index_add_(0, codes.indices_BK.flatten(), codes.values_BK.flatten())
        self.last_active_F[summed_F > 0] = self.tokens

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
