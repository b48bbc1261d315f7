"""The training kernels in plain torch: the reference, and what runs where nothing is compiled.

Shapes: B rows, D model width, F latents, K places for active latents of a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.optim.adam import adam

from saebias.sae.kernels.contract import AdamStep, Rebuilt, SparseCodes, Weights


class PlainKernels:
    """Sparse products through `embedding_bag`: no dense product but the encoder's, and no gathered copy of a weight matrix."""

    name = "torch"

    def encode(self, centred_BD: Tensor, weights: Weights, k: int) -> SparseCodes:
        """See `Kernels.encode`."""
        values_BK, indices_BK = torch.addmm(weights.b_enc_F, centred_BD, weights.W_enc_FD.T).topk(k, dim=1, sorted=False)
        return SparseCodes(torch.relu(values_BK), indices_BK)

    def encode_batch(self, centred_BD: Tensor, weights: Weights, k: int, hint: float | None) -> tuple[SparseCodes, float]:
        """See `Kernels.encode_batch`."""
        codes_BF = torch.relu(torch.addmm(weights.b_enc_F, centred_BD, weights.W_enc_FD.T))
        largest = codes_BF.flatten().topk(k * len(codes_BF))
        kept_BF = torch.zeros_like(codes_BF).flatten().scatter_(0, largest.indices, largest.values).view_as(codes_BF)
        n_places = max(1, int((kept_BF > 0).sum(1).max()))
        return SparseCodes(*kept_BF.topk(n_places, dim=1, sorted=False)), largest.values[-1].item()

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights) -> Rebuilt:
        """See `Kernels.rebuild`."""
        # The dots are the gradient of the bags for their weights.
        with torch.enable_grad():
            values_BK = codes.values_BK.detach().requires_grad_()
            bags_BD = functional.embedding_bag(codes.indices_BK, weights.W_dec_FD.detach(), per_sample_weights=values_BK, mode="sum")
        error_BD = bags_BD.detach() + weights.b_dec_D - x_BD
        (dots_BK,) = torch.autograd.grad(bags_BD, values_BK, error_BD)
        return Rebuilt(error_BD, dots_BK * (codes.values_BK > 0))

    def gradients(self, centred_BD: Tensor, codes: SparseCodes, rebuilt: Rebuilt, weights: Weights) -> Weights:
        """See `Kernels.gradients`."""
        scale = 2.0 / rebuilt.error_BD.numel()
        indices = codes.indices_BK.flatten()
        n_latents = len(weights.b_enc_F)
        # int32 keys take torch's radix sort, several times faster than a comparison sort.
        ordered, order = torch.sort(indices.int(), stable=True)
        starts_F = torch.searchsorted(ordered, torch.arange(n_latents, dtype=torch.int32))
        rows = order // codes.indices_BK.shape[1]

        def weighted_sums(rows_BD: Tensor, weights_BK: Tensor) -> Tensor:
            return functional.embedding_bag(rows, rows_BD, offsets=starts_F, per_sample_weights=weights_BK.flatten()[order], mode="sum")

        grad_dots_BK = rebuilt.error_dots_BK * scale
        grad_b_enc_F = torch.zeros_like(weights.b_enc_F).index_add_(0, indices, grad_dots_BK.flatten())
        return Weights(
            W_enc_FD=weighted_sums(centred_BD, grad_dots_BK),
            b_enc_F=grad_b_enc_F,
            W_dec_FD=weighted_sums(rebuilt.error_BD, codes.values_BK * scale),
            # What b_dec does through the encoder, -sum_b W_enc^T g_b, is one product with the summed gradients instead of one over the batch.
            b_dec_D=rebuilt.error_BD.sum(0) * scale - grad_b_enc_F @ weights.W_enc_FD,
        )

    def adam(self, weights: Weights, grads: Weights, first: Weights, second: Weights, step: AdamStep) -> None:
        """See `Kernels.adam`."""
        if step.shrink != 1.0:
            for grad in grads.tensors():
                grad.mul_(step.shrink)
        radial_F1 = (grads.W_dec_FD * weights.W_dec_FD).sum(1, keepdim=True)
        grads.W_dec_FD.addcmul_(radial_F1, weights.W_dec_FD, value=-1.0)
        learned = [i for i in range(4) if not (step.frozen_decoder and i == 2)]
        params, gradients, firsts, seconds = ([w.tensors()[i] for i in learned] for w in (weights, grads, first, second))
        counts = [torch.tensor(float(step.count - 1)) for _ in learned]
        adam(
            params, gradients, firsts, seconds, [], counts, fused=True, amsgrad=False, maximize=False,
            beta1=step.beta1, beta2=step.beta2, lr=step.learning_rate, weight_decay=0.0, eps=step.epsilon,
        )  # fmt: skip
        if not step.frozen_decoder:
            weights.W_dec_FD.div_(torch.linalg.vector_norm(weights.W_dec_FD, dim=1, keepdim=True))
