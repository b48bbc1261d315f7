"""The training kernels in plain torch: the reference, and what runs where nothing is compiled.

Shapes: B rows, D model width, F latents, K places for active latents of a row, P nested prefixes of the latents, R rows of any kind.
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

    def __init__(self) -> None:
        self.rough_search = False
        self.n_batches = 0

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

    def encode_above(self, centred_BD: Tensor, weights: Weights, bounds_F: Tensor) -> tuple[Tensor, Tensor]:
        """See `Kernels.encode_above`."""
        pre_BF = torch.addmm(weights.b_enc_F, centred_BD, weights.W_enc_FD.T)
        reached_BF = pre_BF > bounds_F
        # How far above the bound: -inf never wins a place, and the places are those of the largest.
        above_BF = torch.where(reached_BF, pre_BF, -torch.inf)
        n_places = max(1, int(reached_BF.sum(1).max()))
        return above_BF.topk(n_places, dim=1, sorted=False)

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights, prefixes: tuple[int, ...] = ()) -> Rebuilt:
        """See `Kernels.rebuild`."""
        groups_BK = groups_of(codes.indices_BK, weights, prefixes)
        # The dots are the gradient of the bags for their weights.
        with torch.enable_grad():
            values_BK = codes.values_BK.detach().requires_grad_()
            bags = [decoded(codes.indices_BK, weights, values_BK * (groups_BK == p)) for p in range(max(1, len(prefixes)))]
        own_PBD = torch.stack([bag_BD.detach() for bag_BD in bags]).cumsum(0) + (weights.b_dec_D - x_BD)
        errors_PBD = own_PBD.flip(0).cumsum(0).flip(0)
        (dots_BK,) = torch.autograd.grad(bags, values_BK, list(errors_PBD))
        return Rebuilt(errors_PBD, dots_BK * (codes.values_BK > 0), own_PBD.square().sum().item())

    def dots(self, rows_BD: Tensor, indices_BK: Tensor, wanted_BK: Tensor, weights: Weights) -> Tensor:
        """See `Kernels.dots`."""
        with torch.enable_grad():
            ones_BK = torch.ones(indices_BK.shape, dtype=rows_BD.dtype, device=rows_BD.device, requires_grad=True)
            bags_BD = decoded(indices_BK, weights, ones_BK)
        (dots_BK,) = torch.autograd.grad(bags_BD, ones_BK, rows_BD)
        return dots_BK * wanted_BK

    def gradients(
        self, centred_BD: Tensor, codes: SparseCodes, errors_PBD: Tensor, grad_pre_BK: Tensor, weights: Weights, prefixes: tuple[int, ...] = ()
    ) -> Weights:
        """See `Kernels.gradients`."""
        scale = 2.0 / centred_BD.numel()
        indices = codes.indices_BK.flatten()
        n_latents = len(weights.b_enc_F)
        # int32 keys take torch's radix sort, several times faster than a comparison sort.
        ordered, order = torch.sort(indices.int(), stable=True)
        starts_F = torch.searchsorted(ordered, torch.arange(n_latents, dtype=torch.int32, device=ordered.device))
        rows = order // codes.indices_BK.shape[1]
        error_rows = groups_of(codes.indices_BK, weights, prefixes).flatten()[order] * len(centred_BD) + rows

        def weighted_sums(rows_of: Tensor, rows_RD: Tensor, weights_BK: Tensor) -> Tensor:
            return functional.embedding_bag(rows_of, rows_RD, offsets=starts_F, per_sample_weights=weights_BK.flatten()[order], mode="sum")

        grad_b_enc_F = torch.zeros_like(weights.b_enc_F).index_add_(0, indices, grad_pre_BK.flatten())
        return Weights(
            W_enc_FD=weighted_sums(rows, centred_BD, grad_pre_BK),
            b_enc_F=grad_b_enc_F,
            W_dec_FD=weighted_sums(error_rows, errors_PBD.flatten(0, 1), codes.values_BK * scale),
            # What b_dec does through the encoder, -sum_b W_enc^T g_b, is one product with the summed gradients instead of one over the batch.
            b_dec_D=errors_PBD[0].sum(0) * scale - grad_b_enc_F @ weights.W_enc_FD,
        )

    def adam(self, weights: Weights, grads: Weights, first: Weights, second: Weights, step: AdamStep) -> None:
        """See `Kernels.adam`."""
        if step.shrink != 1.0:
            for grad in grads.tensors():
                grad.mul_(step.shrink)
        radial_F1 = (grads.W_dec_FD * weights.W_dec_FD).sum(1, keepdim=True)
        grads.W_dec_FD.addcmul_(radial_F1, weights.W_dec_FD, value=-1.0)
        learned = [i for i in range(len(weights.tensors())) if not (step.frozen_decoder and i == 2)]
        params, gradients, firsts, seconds = ([w.tensors()[i] for i in learned] for w in (weights, grads, first, second))
        # The fused update wants the counts on the device of the weights.
        counts = [torch.tensor(float(step.count - 1), device=param.device) for param in params]
        adam(
            params, gradients, firsts, seconds, [], counts, fused=True, amsgrad=False, maximize=False,
            beta1=step.beta1, beta2=step.beta2, lr=step.learning_rate, weight_decay=0.0, eps=step.epsilon,
        )  # fmt: skip
        if not step.frozen_decoder:
            weights.W_dec_FD.div_(torch.linalg.vector_norm(weights.W_dec_FD, dim=1, keepdim=True))


def decoded(indices_BK: Tensor, weights: Weights, values_BK: Tensor) -> Tensor:
    """What the codes add to b_dec [B, D]; differentiable for the values."""
    return functional.embedding_bag(indices_BK, weights.W_dec_FD.detach(), per_sample_weights=values_BK, mode="sum")


def groups_of(indices_BK: Tensor, weights: Weights, prefixes: tuple[int, ...]) -> Tensor:
    """The group of each latent [B, K] int64: the number of the first of the nested prefixes that has it, 0 where there are none."""
    ends_P = torch.tensor(prefixes or (len(weights.b_enc_F),), device=indices_BK.device)
    return torch.bucketize(indices_BK, ends_P, right=True)
