"""One training step of a sparse dictionary, and what must survive from step to step.

Shapes: N rows, B rows of a batch, D model width, F latents, A dead latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.sae.architectures import BY_NAME, Situation
from saebias.sae.devices import training_device
from saebias.sae.initialisation import initial_weights
from saebias.sae.kernels.choice import choose_kernels
from saebias.sae.kernels.contract import AdamStep, SparseCodes, Weights
from saebias.sae.losses import add_aux_gradients
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.normalisation import InputScale, check_rows, fold_input_scale, input_scale
from saebias.sae.sparsity import Penalty

CALIBRATION_ROWS = 16_384
"""Rows on which the threshold of a batchtopk or matryoshka SAE is set so that k latents a row are active on average."""
CALIBRATION_PIECE = 2048
AUX_ROWS = 512
"""Rows of a batch that AuxK looks at; they are a random sample, because batches are shuffled."""


@dataclass(frozen=True)
class TrainConfig:
    """How a dictionary is trained; what it is stands in `SaeSpec`."""

    batch_size: int = 128
    """Rows a step; the maker of the batches uses it too. Few rows make many steps: with the budget of `chosen_learning_rate` FVU was .188 at 1024 rows,
    .184 at 512, .181 at 256 and .179 at 128 (1 % dead), while a row costs a fifth to a half more time with each halving. The stage
    `train`, which makes a dozen dictionaries and more, takes `train.batch_size` instead, 512 by default."""
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
    init_part: tuple[int, int] = (0, 1)
    """Which part of the rows that is, (number, of how many). Dictionaries that are to tell stable latents from chance take different ones: two that started
    from the same rows of Gaussian noise found 44 % of their latents again in each other, with different parts none."""
    outlier_ratio: float = 10.0
    """Rows this many times farther from the mean than usual are left out of training (and counted): a handful of them can be most of the variance."""
    sparsity_coefficient: float | None = None
    """Weight of the sparsity penalty of relu, gated (summed codes or gates) and jumprelu (L0) beside the mean squared error of inputs of variance 1; None
    steers it so that k latents a row are active."""
    bandwidth: float = 0.1
    """Width of the rectangle through which thresholds of jumprelu learn, where a random latent's pre-activations have standard deviation of about 1."""
    history_rows: int = 50
    """About how many rows of history a training leaves."""
    beta1: float = 0.9
    beta2: float = 0.999
    kernels: str = "auto"
    """`numba` (CPU), `triton` (CUDA), `torch`, or `auto`: the compiled ones of the device where they can be had. Changes numbers by rounding only."""
    device: str = "cpu"
    """Where weights and batches lie while it learns: cpu, cuda, cuda:N or mps. The finished dictionary, and all that is saved, is on the CPU."""


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
        if first_rows_ND.ndim != 2 or first_rows_ND.shape[1] != spec.d_model:
            raise InputError(f"first rows of shape {tuple(first_rows_ND.shape)} do not fit an SAE on {spec.d_model} dimensions; hand in [rows, {spec.d_model}]")
        if spec.k < 1:
            raise InputError(f"k={spec.k} says nothing about how sparse the {spec.architecture} SAE is to become; choose k >= 1")
        self.spec, self.config, self.steps = spec, config, steps
        self.architecture = BY_NAME[spec.architecture]
        self.device = training_device(config.device)
        first_rows_ND = first_rows_ND.cpu()
        scale = input_scale(first_rows_ND, config.outlier_ratio)
        self.scale: InputScale = scale.to(self.device)
        self.peak_learning_rate = config.learning_rate or chosen_learning_rate(steps, spec.n_latents)
        self.kernels, self.kernel_choice = choose_kernels(config.kernels, self.device.type)
        usual_ND = scale.normalise(first_rows_ND)
        usual_ND = usual_ND[scale.is_usual_N(usual_ND)]
        self.weights = initial_weights(spec, self.architecture, usual_ND, self.kernels, config.init_from_rows, config.init_part, device=self.device)
        self._calibration_ND = usual_ND[:CALIBRATION_ROWS].clone() if self.architecture.is_cut_by_batch else usual_ND[:0]
        self._cut: float | None = None
        first = 1 / spec.d_model if config.sparsity_coefficient is None else config.sparsity_coefficient
        self.penalty = Penalty(first, float(spec.k), first)
        self._first, self._second = self.weights.zeros_like(), self.weights.zeros_like()
        self.last_active_F = torch.zeros(spec.n_latents, dtype=torch.int64, device=self.device)
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
        """Learn from one batch of raw activations; raises InputError when a row is NaN, infinite or all zero, all are outliers, or the training diverges."""
        raw_BD = raw_BD.to(self.device)
        check_rows(raw_BD, f"batch {self.step_count + 1}")
        x_BD = self.scale.normalise(raw_BD)
        usual_B = self.scale.is_usual_N(x_BD)
        if not bool(usual_B.all()):
            x_BD = x_BD[usual_B]
            self.outlier_rows += len(raw_BD) - len(x_BD)
        if len(x_BD) == 0:
            raise InputError(f"batch {self.step_count + 1} has no row within {self.config.outlier_ratio:g} typical distances of the mean; shuffle the rows")
        centred_BD = x_BD - self.weights.b_dec_D
        lesson = self.architecture.learn(self.situation(), x_BD, centred_BD)
        if not math.isfinite(lesson.loss):
            raise InputError(f"the training diverged: the loss of step {self.step_count + 1} is {lesson.loss}; lower the learning rate, or leave it out")
        self._cut = lesson.cut
        self._count_active(lesson.codes, len(x_BD))
        n_active = int((lesson.codes.values_BK > 0).sum())
        loss = lesson.loss + self._add_aux(lesson.grads, centred_BD, lesson.error_BD)
        gradient_norm = self._update(lesson.grads)
        if self.architecture.is_penalised and self.config.sparsity_coefficient is None:
            self.penalty = self.penalty.after(n_active / len(x_BD), self.spec.k)
            self.architecture.shift(self.weights, self.penalty.threshold_shift(self.spec.k))
        return StepResult(len(x_BD), loss, lesson.error_BD.square().sum().item(), x_BD.square().sum().item(), n_active, gradient_norm)

    def finished(self) -> SparseAutoencoder:
        """The dictionary on raw activations."""
        sae = SparseAutoencoder(self.spec)
        with torch.no_grad():
            sae.W_enc_DF.copy_(self.weights.W_enc_FD.T)
            sae.b_enc_F.copy_(self.weights.b_enc_F)
            sae.W_dec_FD.copy_(self.weights.W_dec_FD)
            sae.b_dec_D.copy_(self.weights.b_dec_D)
            self.architecture.finish(sae, self.weights)
            if self.architecture.is_cut_by_batch:
                sae.threshold_F.fill_(self._threshold())
        fold_input_scale(sae, self.scale.to("cpu"))
        return sae

    def state(self) -> dict[str, Tensor]:
        """Copies, on the CPU, of all that changes while training: what `restore` needs to go on as if nothing had happened. Fits into a safetensors file."""
        groups = {"weights": self.weights, "first": self._first, "second": self._second}
        state = {f"{group}.{name}": _copied(tensor) for group, weights in groups.items() for name, tensor in weights.named().items()}
        state |= {"last_active_F": _copied(self.last_active_F), "calibration_ND": _copied(self._calibration_ND), "scale.mean_D": _copied(self.scale.mean_D)}
        numbers = torch.tensor(
            [
                self.scale.scale,
                self.penalty.base,
                self.penalty.mean_l0,
                self.penalty.weight,
                # Neither can be negative once it is known.
                -1.0 if self._cut is None else self._cut,
                -1.0 if self._mean_norm is None else self._mean_norm,
            ],
            dtype=torch.float64,
        )
        counts = torch.tensor([self.step_count, self.tokens, self.outlier_rows, self.kernels.n_batches, int(self.kernels.rough_search)])
        return state | {"numbers": numbers, "counts": counts}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned, whatever was learned here so far; raises InputError when it is the state of another kind of dictionary."""
        expected = self.state()
        wrong = [name for name in sorted({*expected, *state}) if _shape(expected, name) != _shape(state, name) and name != "calibration_ND"]
        if wrong or "calibration_ND" not in state:
            name = wrong[0] if wrong else "calibration_ND"
            found, wanted = _shape(state, name), _shape(expected, name)
            raise InputError(f"the training state does not fit this SAE: {name} is {found}, expected {wanted}; start this training anew")
        for group, weights in {"weights": self.weights, "first": self._first, "second": self._second}.items():
            for name, tensor in weights.named().items():
                tensor.copy_(state[f"{group}.{name}"])
        self.last_active_F = state["last_active_F"].to(self.device, copy=True)
        self._calibration_ND = state["calibration_ND"].clone()
        scale, base, mean_l0, weight, cut, mean_norm = state["numbers"].tolist()
        self.scale = InputScale(state["scale.mean_D"].to(self.device, copy=True), scale, self.config.outlier_ratio)
        self.penalty = Penalty(base, mean_l0, weight)
        self._cut = None if cut < 0 else cut
        self._mean_norm = None if mean_norm < 0 else mean_norm
        self.step_count, self.tokens, self.outlier_rows, self.kernels.n_batches, rough_search = state["counts"].tolist()
        self.kernels.rough_search = bool(rough_search)

    def situation(self) -> Situation:
        """What the dictionary knows at this step, for the functions of its `architecture`."""
        return Situation(self.spec, self.weights, self.kernels, self.penalty.weight, self.config.bandwidth, self._cut)

    def _threshold(self) -> float:
        # Measured with the final weights, not averaged over the training: an average lags behind, and one that starts at 0 is too low.
        pieces = [piece_ND.to(self.device) - self.weights.b_dec_D for piece_ND in self._calibration_ND.split(CALIBRATION_PIECE)]
        cuts = [self.kernels.encode_batch(piece_ND, self.weights, self.spec.k, self._cut)[1] for piece_ND in pieces]
        # A hair below: the smallest one that was kept is larger than the threshold, too.
        return (1 - 1e-5) * sum(cut * len(piece_ND) for cut, piece_ND in zip(cuts, pieces, strict=True)) / len(self._calibration_ND)

    def _count_active(self, codes: SparseCodes, n_rows: int) -> None:
        self.tokens += n_rows
        summed_F = torch.zeros_like(self.weights.b_enc_F).index_add_(0, codes.indices_BK.flatten(), codes.values_BK.flatten())
        self.last_active_F[summed_F > 0] = self.tokens

    def _add_aux(self, grads: Weights, centred_BD: Tensor, error_BD: Tensor) -> float:
        dead_A = torch.nonzero(self.dead_F()).flatten()
        if self.config.aux_coefficient == 0 or len(dead_A) == 0:
            return 0.0
        aux_k = self.config.aux_k or max(1, self.spec.d_model // 2)
        return add_aux_gradients(grads, centred_BD[:AUX_ROWS], error_BD[:AUX_ROWS], self.weights, dead_A, aux_k=aux_k, coefficient=self.config.aux_coefficient)

    def _update(self, grads: Weights) -> float:
        learned = [grad for i, grad in enumerate(grads.tensors()) if not (self.spec.frozen_decoder and i == 2)]
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


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None
