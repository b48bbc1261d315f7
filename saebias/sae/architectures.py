"""What the kinds of dictionaries do differently while they learn: one value for each, with a function for each difference.

Shapes: B rows, D model width, F latents, K places for active latents of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from saebias.sae.kernels.contract import Kernels, SparseCodes, Weights
from saebias.sae.module import SaeSpec, SparseAutoencoder


@dataclass(frozen=True)
class Situation:
    """What a dictionary knows when a batch comes."""

    spec: SaeSpec
    weights: Weights
    kernels: Kernels
    penalty: float = 0.0
    """Weight of the sparsity penalty, where there is one."""
    bandwidth: float = 1.0
    """Width of the rectangle through which the thresholds of jumprelu feel the pre-activations near them."""
    cut: float | None = None
    """The smallest pre-activation that the batch before kept, where the batch shares k B places."""


@dataclass(frozen=True)
class Lesson:
    """What a batch teaches: codes, error of the reconstruction, loss and its gradients."""

    codes: SparseCodes
    error_BD: Tensor
    loss: float
    grads: Weights
    cut: float | None = None


@dataclass(frozen=True)
class Architecture:
    """One kind of dictionary."""

    start: Callable[[Weights, float], None]
    """Set biases and thresholds so that pre-activations above a cut are active; adds the tensors that only this kind has."""
    encode: Callable[[Situation, Tensor], SparseCodes]
    """Codes of `x - b_dec` [B, D], as the training sees them."""
    learn: Callable[[Situation, Tensor, Tensor], Lesson]
    """Loss and gradients of normalised rows `x` [B, D], given also as `x - b_dec`."""
    finish: Callable[[SparseAutoencoder, Weights], None] = lambda sae, weights: None
    """Copy what only this kind has into the module."""
    shift: Callable[[Weights, float], None] = lambda weights, amount: None
    """Raise the logarithms of the thresholds, if it has any that learn."""
    is_chosen_by_rank: bool = False
    """Whether the largest pre-activations are the active ones, which processes with a share of the latents each can settle between them."""
    revive_every: int = 0
    """Steps between two times that dead latents start anew, 0 for never."""
    is_penalised: bool = False
    """Whether a penalty makes it sparse; otherwise k does."""
    is_cut_by_batch: bool = False
    """Whether the rows of a batch share their active places, so that inference needs a threshold."""


def _start_plain(weights: Weights, cut: float) -> None:
    weights.b_enc_F.zero_()


def _encode_rows(s: Situation, centred_BD: Tensor) -> SparseCodes:
    return s.kernels.encode(centred_BD, s.weights, s.spec.k)


def _learn_rows(s: Situation, x_BD: Tensor, centred_BD: Tensor) -> Lesson:
    return _learn_error(s, x_BD, centred_BD, _encode_rows(s, centred_BD))


def _encode_batch(s: Situation, centred_BD: Tensor) -> SparseCodes:
    return s.kernels.encode_batch(centred_BD, s.weights, s.spec.k, s.cut)[0]


def _learn_batch(s: Situation, x_BD: Tensor, centred_BD: Tensor) -> Lesson:
    return _learn_error(s, x_BD, centred_BD, *s.kernels.encode_batch(centred_BD, s.weights, s.spec.k, s.cut))


def _learn_error(s: Situation, x_BD: Tensor, centred_BD: Tensor, codes: SparseCodes, cut: float | None = None) -> Lesson:
    """The loss is mean((x_hat - x)^2), or with nested prefixes (Bussmann et al. 2025, arXiv:2503.17547) the sum of that over the prefixes."""
    rebuilt = s.kernels.rebuild(x_BD, codes, s.weights, s.spec.prefixes)
    grad_pre_BK = rebuilt.error_dots_BK * (2.0 / x_BD.numel())
    grads = s.kernels.gradients(centred_BD, codes, rebuilt.errors_PBD, grad_pre_BK, s.weights, s.spec.prefixes)
    return Lesson(codes, rebuilt.error_BD, rebuilt.squared_error / x_BD.numel(), grads, cut)


def _start_shifted(weights: Weights, cut: float) -> None:
    weights.b_enc_F.fill_(-cut)


def _shift_biases(weights: Weights, amount: float, share: float = 1.0) -> None:
    # In the scale of pre-activations: inputs have variance 1.
    weights.b_enc_F -= share * amount * torch.linalg.vector_norm(weights.W_enc_FD, dim=1).mean()


def _encode_positive(s: Situation, centred_BD: Tensor) -> SparseCodes:
    pre_BK, indices_BK = s.kernels.encode_above(centred_BD, s.weights, torch.zeros_like(s.weights.b_enc_F))
    return SparseCodes(torch.relu(pre_BK), indices_BK)


def _learn_relu(s: Situation, x_BD: Tensor, centred_BD: Tensor) -> Lesson:
    """mean((x_hat - x)^2) + penalty times the sum over latents of |f| |W_dec row|, averaged over rows.

    Decoder rows have unit norm, and the penalty's gradient for a row points along it: the optimizer takes that part off.
    """
    codes = _encode_positive(s, centred_BD)
    rebuilt = s.kernels.rebuild(x_BD, codes, s.weights)
    slope = s.penalty / len(x_BD)
    grad_pre_BK = rebuilt.error_dots_BK * (2.0 / x_BD.numel()) + slope * (codes.values_BK > 0)
    grads = s.kernels.gradients(centred_BD, codes, rebuilt.errors_PBD, grad_pre_BK, s.weights)
    return Lesson(codes, rebuilt.error_BD, rebuilt.squared_error / x_BD.numel() + slope * codes.values_BK.sum().item(), grads)


def _start_jumprelu(weights: Weights, cut: float) -> None:
    weights.b_enc_F.zero_()
    # The logarithm keeps thresholds positive, and a step of the optimizer is then a share of the threshold.
    weights.extra["log_threshold_F"] = torch.full_like(weights.b_enc_F, max(cut, 1e-4)).log()


def _encode_jumprelu(s: Situation, centred_BD: Tensor) -> SparseCodes:
    pre_BK, indices_BK = s.kernels.encode_above(centred_BD, s.weights, s.weights.extra["log_threshold_F"].exp())
    return SparseCodes(torch.relu(pre_BK), indices_BK)


def _learn_jumprelu(s: Situation, x_BD: Tensor, centred_BD: Tensor) -> Lesson:
    """mean((x_hat - x)^2) + penalty times L0 averaged over rows; Rajamanoharan et al. 2024 (arXiv:2407.14435).

    With the rectangle R(u) = 1 for |u| < 1/2 and bandwidth e, a code p H(p - t) has for its threshold t the pseudo-derivative -(t / e) R((p - t) / e),
    and the step H(p - t) has -(1 / e) R((p - t) / e). Pre-activations below the threshold but inside the rectangle take part, too.
    """
    threshold_F = s.weights.extra["log_threshold_F"].exp()
    pre_BK, indices_BK = s.kernels.encode_above(centred_BD, s.weights, threshold_F - s.bandwidth / 2)
    threshold_BK = threshold_F[indices_BK]
    active_BK = pre_BK > threshold_BK
    codes = SparseCodes(torch.where(active_BK, pre_BK, 0.0), indices_BK)
    rebuilt = s.kernels.rebuild(x_BD, codes, s.weights)
    near_BK = (pre_BK - threshold_BK).abs() < s.bandwidth / 2
    dots_BK = rebuilt.error_dots_BK + s.kernels.dots(rebuilt.error_BD, indices_BK, near_BK & ~active_BK, s.weights)
    grad_codes_BK, slope = dots_BK * (2.0 / x_BD.numel()), s.penalty / len(x_BD)
    grads = s.kernels.gradients(centred_BD, codes, rebuilt.errors_PBD, grad_codes_BK * active_BK, s.weights)
    grad_threshold_BK = (grad_codes_BK * threshold_BK + slope) * near_BK / -s.bandwidth
    # d t / d log t = t
    grads.extra["log_threshold_F"] = _sum_by_latent(grad_threshold_BK, indices_BK, threshold_F) * threshold_F
    return Lesson(codes, rebuilt.error_BD, rebuilt.squared_error / x_BD.numel() + slope * int(active_BK.sum()), grads)


def _shift_jumprelu(weights: Weights, amount: float) -> None:
    weights.extra["log_threshold_F"] += amount


def _finish_jumprelu(sae: SparseAutoencoder, weights: Weights) -> None:
    sae.threshold_F.copy_(weights.extra["log_threshold_F"].exp())


def _start_gated(weights: Weights, cut: float) -> None:
    weights.b_enc_F.fill_(-cut)
    weights.extra |= {name: torch.zeros_like(weights.b_enc_F) for name in ("r_mag_F", "b_mag_F")}


def _magnitudes(s: Situation, gate_BK: Tensor, indices_BK: Tensor) -> tuple[Tensor, Tensor]:
    gain_BK = s.weights.extra["r_mag_F"].exp()[indices_BK]
    # -inf marks an unused place, and stays negative here.
    return torch.relu((gate_BK - s.weights.b_enc_F[indices_BK]) * gain_BK + s.weights.extra["b_mag_F"][indices_BK]), gain_BK


def _encode_gated(s: Situation, centred_BD: Tensor) -> SparseCodes:
    gate_BK, indices_BK = s.kernels.encode_above(centred_BD, s.weights, torch.zeros_like(s.weights.b_enc_F))
    return SparseCodes(_magnitudes(s, gate_BK, indices_BK)[0], indices_BK)


def _learn_gated(s: Situation, x_BD: Tensor, centred_BD: Tensor) -> Lesson:
    """mean((x_hat - x)^2) + penalty times the summed open gates + the error of what the open gates alone rebuild with a copy of the decoder held fixed.

    Rajamanoharan et al. 2024a (arXiv:2404.16014): the gate learns from the last two, the magnitude from the first.
    """
    gate_BK, indices_BK = s.kernels.encode_above(centred_BD, s.weights, torch.zeros_like(s.weights.b_enc_F))
    magnitude_BK, gain_BK = _magnitudes(s, gate_BK, indices_BK)
    codes, gates = SparseCodes(magnitude_BK, indices_BK), SparseCodes(torch.relu(gate_BK), indices_BK)
    rebuilt, by_gates = s.kernels.rebuild(x_BD, codes, s.weights), s.kernels.rebuild(x_BD, gates, s.weights)
    scale, slope = 2.0 / x_BD.numel(), s.penalty / len(x_BD)
    grad_magnitude_BK = rebuilt.error_dots_BK * scale
    grad_gate_BK = by_gates.error_dots_BK * scale + slope * (gates.values_BK > 0)
    grads = s.kernels.gradients(centred_BD, codes, rebuilt.errors_PBD, grad_magnitude_BK * gain_BK + grad_gate_BK, s.weights)
    b_mag_BK = s.weights.extra["b_mag_F"][indices_BK]
    # The shared encoder felt both ways, its bias belongs to the gate alone.
    grads.b_enc_F = _sum_by_latent(grad_gate_BK, indices_BK, grads.b_enc_F)
    grads.extra = {
        "r_mag_F": _sum_by_latent(grad_magnitude_BK * (magnitude_BK - b_mag_BK), indices_BK, grads.b_enc_F),
        "b_mag_F": _sum_by_latent(grad_magnitude_BK, indices_BK, grads.b_enc_F),
    }
    squared = rebuilt.squared_error + by_gates.squared_error
    return Lesson(codes, rebuilt.error_BD, squared / x_BD.numel() + slope * gates.values_BK.sum().item(), grads)


def _finish_gated(sae: SparseAutoencoder, weights: Weights) -> None:
    sae.r_mag_F.copy_(weights.extra["r_mag_F"])
    sae.b_mag_F.copy_(weights.extra["b_mag_F"])


def _sum_by_latent(numbers_BK: Tensor, indices_BK: Tensor, like_F: Tensor) -> Tensor:
    return torch.zeros_like(like_F).index_add_(0, indices_BK.flatten(), numbers_BK.flatten())


_BY_BATCH = Architecture(_start_plain, _encode_batch, _learn_batch, is_chosen_by_rank=True, is_cut_by_batch=True)
MATRYOSHKA_REVIVAL = 8
"""Steps. Late prefixes lose their places to early ones and die. Means of three seeds, each starting latents at its own third of the rows, without and with it,
FVU and dead on rows never trained on: layer 5 of the shipped captioner (31,904 rows four times, 1,536 latents, k = 32) .0216 and 67 %, .0203 and 51 %;
planted rows with 512 features (60,000 rows four times, 1,024 latents, k = 8) .1656 and 51 %, .1495 and 49 %. No gain on layer 15 of SmolLM2-135M
(61,440 rows once, 2,304 latents, k = 32): .2572 and 9 %, .2573 and 14 %. For topk it helped on neither model."""
BY_NAME = {
    "topk": Architecture(_start_plain, _encode_rows, _learn_rows, is_chosen_by_rank=True),
    "batchtopk": _BY_BATCH,
    "matryoshka": replace(_BY_BATCH, revive_every=MATRYOSHKA_REVIVAL),
    "jumprelu": Architecture(_start_jumprelu, _encode_jumprelu, _learn_jumprelu, _finish_jumprelu, _shift_jumprelu, is_penalised=True),
    "gated": Architecture(_start_gated, _encode_gated, _learn_gated, _finish_gated, partial(_shift_biases, share=0.2), is_penalised=True),
    "relu": Architecture(_start_shifted, _encode_positive, _learn_relu, shift=_shift_biases, is_penalised=True),
}
"""The kinds that are trained, by the name in `SaeSpec`; matryoshka is batchtopk with nested prefixes."""
