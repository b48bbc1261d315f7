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
from saebias.sae.initialisation import initial_weights, part_N
from saebias.sae.kernels.choice import choose_kernels
from saebias.sae.kernels.contract import AdamStep, Kernels, SparseCodes, Weights
from saebias.sae.kernels.sharded import ShardedKernels
from saebias.sae.losses import add_aux_gradients
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.normalisation import InputScale, check_rows, fold_input_scale, input_scale
from saebias.sae.peers import ALONE, Peers
from saebias.sae.revival import REVIVED_UNTIL, revive
from saebias.sae.sparsity import Penalty
from saebias.sae.train_config import TrainConfig, chosen_learning_rate

CALIBRATION_ROWS = 16_384
"""Rows on which the threshold of a batchtopk or matryoshka SAE is set so that k latents a row are active on average."""
CALIBRATION_PIECE = 2048
SHARED = "b_dec_D"
"""The one parameter that has no latents: every process that trains a share of them has it whole."""
AUX_ROWS = (128, 512)
"""AuxK looks at a quarter of a batch, within these bounds: a random sample of its rows, because batches are shuffled. With all rows of small batches it
took more time than the rest of the step; dead share and FVU stayed what they were (on three layers of the shipped captioner)."""


@dataclass(frozen=True)
class StepResult:
    """What one step saw, before it changed the weights."""

    n_rows: int
    loss: float
    squared_error: float
    squared_norm: float
    n_active: int
    gradient_norm: float


class SaeTrainer:
    """The weights, the optimizer and the dead-latent counters of one dictionary while it learns."""

    def __init__(self, spec: SaeSpec, config: TrainConfig, first_rows_ND: Tensor, steps: int, peers: Peers = ALONE) -> None:
        """With `peers` this process holds its share of the latents, and all of them step together on the same rows."""
        if first_rows_ND.ndim != 2 or first_rows_ND.shape[1] != spec.d_model:
            raise InputError(f"first rows of shape {tuple(first_rows_ND.shape)} do not fit an SAE on {spec.d_model} dimensions; hand in [rows, {spec.d_model}]")
        if spec.k < 1:
            raise InputError(f"k={spec.k} says nothing about how sparse the {spec.architecture} SAE is to become; choose k >= 1")
        self.spec, self.config, self.steps = spec, config, steps
        self.peers, self.own = peers, peers.own(spec.n_latents)
        self.architecture = BY_NAME[spec.architecture]
        if peers.size > 1 and not self.architecture.is_chosen_by_rank:
            raise InputError(f"a {spec.architecture} dictionary is trained by one process; choose topk, batchtopk or matryoshka to share it among {peers.size}")
        self.device = training_device(config.device)
        first_rows_ND = first_rows_ND.cpu()
        scale = input_scale(first_rows_ND, config.outlier_ratio)
        self.scale: InputScale = scale.to(self.device)
        self.peak_learning_rate = config.learning_rate or chosen_learning_rate(steps, spec.n_latents)
        self.kernels: Kernels = choose_kernels(config.kernels, self.device.type)[0]
        if peers.size > 1:
            self.kernels = ShardedKernels(self.kernels, peers, spec.n_latents)
        usual_ND = scale.normalise(first_rows_ND)
        usual_ND = usual_ND[scale.is_usual_N(usual_ND)]
        place = {"device": self.device, "own": self.own}
        self.weights = initial_weights(spec, self.architecture, usual_ND, self.kernels, config.init_from_rows, config.init_part, **place)
        self._calibration_ND = usual_ND[:CALIBRATION_ROWS].clone() if self.architecture.is_cut_by_batch else usual_ND[:0]
        self._cut: float | None = None
        first = 1 / spec.d_model if config.sparsity_coefficient is None else config.sparsity_coefficient
        self.penalty = Penalty(first, float(spec.k), first)
        self._first, self._second = self.weights.zeros_like(), self.weights.zeros_like()
        self.last_active_F = torch.zeros(self.own.stop - self.own.start, dtype=torch.int64, device=self.device)
        self._mean_norm: float | None = None
        self.step_count = 0
        self.tokens = 0
        self.outlier_rows = 0

    def learning_rate(self) -> float:
        """The learning rate of the step to come."""
        warmup = max(1, round(self.steps * self.config.warmup_share))
        decay = max(1, round(self.steps * self.config.decay_share))
        return self.peak_learning_rate * min(1.0, (self.step_count + 1) / warmup, (self.steps - self.step_count) / decay)

    def dead_share(self) -> float:
        """Share of all latents that are dead; the same in every process."""
        return self.peers.total(self.dead_F().sum()).item() / self.spec.n_latents

    def dead_F(self) -> Tensor:
        """Which latents of this process were not active for `dead_after_tokens` rows [F] bool."""
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
        n_active = int(self.peers.total((lesson.codes.values_BK > 0).sum()))
        self._revive(x_BD, lesson.error_BD)
        loss = lesson.loss + self._add_aux(lesson.grads, centred_BD, lesson.error_BD)
        gradient_norm = self._update(lesson.grads)
        if self.architecture.is_penalised and self.config.sparsity_coefficient is None:
            self.penalty = self.penalty.after(n_active / len(x_BD), self.spec.k)
            self.architecture.shift(self.weights, self.penalty.threshold_shift(self.spec.k))
        return StepResult(len(x_BD), loss, lesson.error_BD.square().sum().item(), x_BD.square().sum().item(), n_active, gradient_norm)

    def finished(self) -> SparseAutoencoder | None:
        """The dictionary on raw activations; None in a process that does not lead."""
        threshold = self._threshold() if self.architecture.is_cut_by_batch else None
        weights = self._whole(self.weights)
        if not self.peers.leads:
            return None
        sae = SparseAutoencoder(self.spec)
        with torch.no_grad():
            sae.W_enc_DF.copy_(weights["W_enc_FD"].T)
            for name in ("b_enc_F", "W_dec_FD", "b_dec_D"):
                getattr(sae, name).copy_(weights[name])
            self.architecture.finish(sae, self.weights)
            if threshold is not None:
                sae.threshold_F.fill_(threshold)
        fold_input_scale(sae, self.scale.to("cpu"))
        return sae

    def state(self) -> dict[str, Tensor]:
        """Copies, on the CPU, of all that changes while training: what `restore` needs to go on as if nothing had happened. Fits into a safetensors file.

        Of a dictionary that is shared it holds, in the leading process, all latents: any number of processes can take it up.
        """
        groups = {"weights": self.weights, "first": self._first, "second": self._second}
        state = {f"{group}.{name}": tensor for group, weights in groups.items() for name, tensor in self._whole(weights).items()}
        state |= {"last_active_F": self.peers.collected(self.last_active_F)}
        state |= {"calibration_ND": _copied(self._calibration_ND), "scale.mean_D": _copied(self.scale.mean_D)}
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
        self._check_state(state)
        for group, weights in {"weights": self.weights, "first": self._first, "second": self._second}.items():
            for name, tensor in weights.named().items():
                whole = state[f"{group}.{name}"]
                tensor.copy_(whole if name == SHARED else whole[self.own])
        self.last_active_F = state["last_active_F"][self.own].to(self.device, copy=True)
        self._calibration_ND = state["calibration_ND"].clone()
        scale, base, mean_l0, weight, cut, mean_norm = state["numbers"].tolist()
        self.scale = InputScale(state["scale.mean_D"].to(self.device, copy=True), scale, self.config.outlier_ratio)
        self.penalty = Penalty(base, mean_l0, weight)
        self._cut = None if cut < 0 else cut
        self._mean_norm = None if mean_norm < 0 else mean_norm
        self.step_count, self.tokens, self.outlier_rows, self.kernels.n_batches, rough_search = state["counts"].tolist()
        self.kernels.rough_search = bool(rough_search)

    def _check_state(self, state: Mapping[str, Tensor]) -> None:
        groups = {"weights": self.weights, "first": self._first, "second": self._second}
        expected = {f"{group}.{name}": self._whole_shape(name, tensor) for group, one in groups.items() for name, tensor in one.named().items()}
        expected |= {"last_active_F": (self.spec.n_latents,), "scale.mean_D": (self.spec.d_model,), "numbers": (6,), "counts": (5,)}
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        wrong = [name for name in sorted({*expected, *found} - {"calibration_ND"}) if expected.get(name) != found.get(name)]
        if wrong or "calibration_ND" not in state:
            name = wrong[0] if wrong else "calibration_ND"
            raise InputError(f"the training state does not fit this SAE: {name} is {found.get(name)}, expected {expected.get(name)}; start this training anew")

    def _whole_shape(self, name: str, tensor: Tensor) -> tuple[int, ...]:
        return tuple(tensor.shape) if name == SHARED else (self.spec.n_latents, *tensor.shape[1:])

    def _whole(self, weights: Weights) -> dict[str, Tensor]:
        """Copies on the CPU, in the leading process with the latents of all."""
        return {name: _copied(tensor) if name == SHARED else self.peers.collected(tensor) for name, tensor in weights.named().items()}

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

    def _revive(self, x_BD: Tensor, error_BD: Tensor) -> None:
        every = self.architecture.revive_every if self.config.revive_every is None else self.config.revive_every
        # A frozen decoder keeps its directions.
        if every == 0 or self.step_count % every or self.step_count >= REVIVED_UNTIL * self.steps or self.spec.frozen_decoder:
            return
        # From the part of the rows that the start is drawn from: all seeds see the same batch, and would start latents anew at the same rows of it.
        number, n_parts = self.config.init_part
        moments, starts_BD = (self._first, self._second), error_BD[part_N(x_BD, n_parts) == number]
        revived_F = revive(self.weights, moments, self.dead_F(), starts_BD, self.peers, seed=(self.spec.seed * 1_000_003 + self.step_count) % 2**63)
        self.last_active_F[revived_F] = self.tokens

    def _add_aux(self, grads: Weights, centred_BD: Tensor, error_BD: Tensor) -> float:
        dead_A = torch.nonzero(self.dead_F()).flatten()
        if self.config.aux_coefficient == 0 or int(self.peers.total(torch.tensor(len(dead_A)))) == 0:
            return 0.0
        aux_k = self.config.aux_k or max(1, self.spec.d_model // 2)
        rows, strength = slice(min(max(len(error_BD) // 4, AUX_ROWS[0]), AUX_ROWS[1])), self.config.aux_coefficient
        return add_aux_gradients(grads, centred_BD[rows], error_BD[rows], self.weights, dead_A, aux_k=aux_k, coefficient=strength, peers=self.peers)

    def _update(self, grads: Weights) -> float:
        norm = self._norm(grads)
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

    def _norm(self, grads: Weights) -> float:
        norms = {name: torch.linalg.vector_norm(grad) for name, grad in grads.named().items() if not (self.spec.frozen_decoder and name == "W_dec_FD")}
        if self.peers.size > 1:
            own = torch.stack([norm for name, norm in norms.items() if name != SHARED])
            norms = {"all": torch.linalg.vector_norm(self.peers.total(own.square()).sqrt()), SHARED: norms[SHARED]}
        return torch.linalg.vector_norm(torch.stack(list(norms.values()))).item()

    def _clipping(self, norm: float) -> float:
        if self._mean_norm is None:
            self._mean_norm = norm
        shrink = min(1.0, self.config.clip_factor * self._mean_norm / norm) if norm > 0 else 1.0
        self._mean_norm += 0.05 * (norm * shrink - self._mean_norm)
        return shrink


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
