"""The training loss of a sparse dictionary and its gradients, written out so that no dense product is done twice.

Loss of a batch: mean over rows and dimensions of (x_hat - x)^2, plus `aux_coefficient` times the same for the residual as seen by dead latents (AuxK).
Shapes: B rows, D model width, F latents, K active latents a row, A dead latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor


@dataclass
class Weights:
    """The parameters while they are trained, one row a latent in both matrices; also used for their gradients."""

    W_enc_FD: Tensor
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor

    def tensors(self) -> list[Tensor]:
        """The four tensors in a fixed order."""
        return [self.W_enc_FD, self.b_enc_F, self.W_dec_FD, self.b_dec_D]


@dataclass(frozen=True)
class SparseCodes:
    """The codes of a batch: values [B, K] >= 0 and latent indices [B, K]; places with value 0 are unused."""

    values_BK: Tensor
    indices_BK: Tensor


def decode(codes: SparseCodes, weights: Weights) -> Tensor:
    """The reconstruction [B, D]."""
    return functional.embedding_bag(codes.indices_BK, weights.W_dec_FD, per_sample_weights=codes.values_BK, mode="sum") + weights.b_dec_D


def reconstruction_gradients(x_BD: Tensor, codes: SparseCodes, error_BD: Tensor, weights: Weights) -> Weights:
    """Gradients of mean((x_hat - x)^2) for all four parameters, given `error = x_hat - x`.

    Only active latents are touched; a place with value 0 gets no gradient (the mask of the ReLU). The part of the gradient of b_dec that comes through
    the encoder, -sum_b W_enc^T g_b, is one product of W_enc with the summed gradients instead of a product over the batch.
    """
    grad_x_hat_BD = error_BD * (2.0 / error_BD.numel())
    grad_values_BK = _dots_with_rows(grad_x_hat_BD, weights.W_dec_FD, codes.indices_BK) * (codes.values_BK > 0)
    n_latents = len(weights.b_enc_F)
    by_latent = _group_by_latent(codes.indices_BK, n_latents)
    grad_b_enc_F = torch.zeros_like(weights.b_enc_F).index_add_(0, codes.indices_BK.flatten(), grad_values_BK.flatten())
    return Weights(
        W_enc_FD=_weighted_sums(x_BD - weights.b_dec_D, grad_values_BK, by_latent),
        b_enc_F=grad_b_enc_F,
        W_dec_FD=_weighted_sums(grad_x_hat_BD, codes.values_BK, by_latent),
        b_dec_D=grad_x_hat_BD.sum(0) - grad_b_enc_F @ weights.W_enc_FD,
    )


def add_aux_gradients(grads: Weights, x_BD: Tensor, error_BD: Tensor, weights: Weights, dead_A: Tensor, *, aux_k: int, coefficient: float) -> float:
    """Add the gradients of AuxK to `grads` and return its loss: the `aux_k` dead latents that answer most in each row learn to rebuild the residual.

    After Gao et al. 2024 (arXiv:2406.04093, section 3.2 and appendix A.2) with one change: the ReLU is passed straight through on the way back. A dead latent
    is often negative on every row, and with the mask its encoder row would never move again.
    """
    k = min(aux_k, len(dead_A))
    W_enc_AD, W_dec_AD = weights.W_enc_FD[dead_A], weights.W_dec_FD[dead_A]
    centred_BD = x_BD - weights.b_dec_D
    pre_BA = torch.addmm(weights.b_enc_F[dead_A], centred_BD, W_enc_AD.T)
    top_BK, places_BK = pre_BA.topk(k, dim=1, sorted=False)
    codes_BA = torch.zeros_like(pre_BA).scatter_(1, places_BK, torch.relu(top_BK))
    # x - x_hat is a constant here: the main codes do not learn from what the dead ones miss.
    miss_BD = codes_BA @ W_dec_AD + error_BD
    grad_BD = miss_BD * (2.0 * coefficient / miss_BD.numel())
    chosen_BA = torch.zeros_like(pre_BA).scatter_(1, places_BK, 1.0)
    grad_codes_BA = (grad_BD @ W_dec_AD.T).mul_(chosen_BA)
    grads.W_dec_FD.index_add_(0, dead_A, codes_BA.T @ grad_BD)
    grads.W_enc_FD.index_add_(0, dead_A, grad_codes_BA.T @ centred_BD)
    grads.b_enc_F.index_add_(0, dead_A, grad_codes_BA.sum(0))
    return coefficient * miss_BD.square().mean().item()


def remove_radial_part(grad_FD: Tensor, W_dec_FD: Tensor) -> None:
    """Take from each decoder row's gradient what points along the (unit) row, in place: the row is brought back to unit length after the step anyway."""
    grad_FD.addcmul_((grad_FD * W_dec_FD).sum(1, keepdim=True), W_dec_FD, value=-1.0)


@dataclass(frozen=True)
class _ByLatent:
    order: Tensor
    """Flat places of a [B, K] array, sorted by latent."""
    rows: Tensor
    """Row of each such place."""
    starts_F: Tensor


def _group_by_latent(indices_BK: Tensor, n_latents: int) -> _ByLatent:
    # int32 keys take the radix sort of torch, several times faster than a comparison sort.
    ordered, order = torch.sort(indices_BK.flatten().int(), stable=True)
    starts_F = torch.searchsorted(ordered, torch.arange(n_latents, dtype=torch.int32, device=ordered.device))
    return _ByLatent(order, order // indices_BK.shape[1], starts_F)


def _weighted_sums(rows_BD: Tensor, weights_BK: Tensor, by_latent: _ByLatent) -> Tensor:
    """For each latent the sum over its active rows of weight times row [F, D]: one bag of rows a latent."""
    return functional.embedding_bag(by_latent.rows, rows_BD, offsets=by_latent.starts_F, per_sample_weights=weights_BK.flatten()[by_latent.order], mode="sum")


def _dots_with_rows(vectors_BD: Tensor, table_FD: Tensor, indices_BK: Tensor) -> Tensor:
    """vectors[b] . table[indices[b, k]] [B, K]: the gradient of a weighted bag for its weights, so no gathered copy is made."""
    with torch.enable_grad():
        probe_BK = torch.zeros(indices_BK.shape, dtype=table_FD.dtype, device=table_FD.device, requires_grad=True)
        bags_BD = functional.embedding_bag(indices_BK, table_FD.detach(), per_sample_weights=probe_BK, mode="sum")
    return torch.autograd.grad(bags_BD, probe_BK, vectors_BD)[0]
