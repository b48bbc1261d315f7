"""Sparse decode and weight gradients as Triton kernels, for dictionaries on a CUDA device.

What was run and what not: both kernels and the step built on them were compared with the plain ones under Triton's interpreter on a CPU, on random codes with
empty rows and unused latents. They were not run on a GPU and no speed was measured. `SaeTrainer` keeps its weights on the CPU, so nothing chooses these
kernels by itself: they are taken where tensors lie on a CUDA device, and plain torch computes the same elsewhere.
Shapes: B rows, D model width, F latents, K places for active latents of a row, R rows of any kind, S places sorted by latent.
"""

from __future__ import annotations

import os

import torch
import triton  # ty: ignore[import-not-found]
import triton.language as tl  # ty: ignore[import-not-found]
from torch import Tensor

from saebias.sae.kernels.contract import Rebuilt, SparseCodes, Weights
from saebias.sae.kernels.plain import PlainKernels

BLOCK = 128
"""Dimensions that one program works on: a row of 576 is five programs."""


@triton.jit
def _weighted_rows(out, rows, row_of, weight, starts, width, BLOCK: tl.constexpr):
    """out[i] = the sum over s in starts[i] .. starts[i + 1] of weight[s] rows[row_of[s]], one program an i and a block of dimensions."""
    i = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    first = tl.load(starts + i)
    last = tl.load(starts + i + 1)
    for s in range(first, last):
        row = tl.load(row_of + s)
        total += tl.load(weight + s) * tl.load(rows + row * width + columns, mask=inside, other=0.0)
    tl.store(out + i.to(tl.int64) * width + columns, total, mask=inside)


def runs_here(tensor: Tensor) -> bool:
    """Whether the kernels take this tensor: float32 on a CUDA device, or anywhere under the interpreter (TRITON_INTERPRET=1)."""
    return tensor.dtype == torch.float32 and (tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")


def weighted_rows(rows_RD: Tensor, row_of_S: Tensor, weight_S: Tensor, starts: Tensor) -> Tensor:
    """For each i the sum over s = starts[i] .. starts[i + 1] of weight[s] rows[row_of[s]]; `starts` has one number more than the result has rows."""
    n_sums, width = len(starts) - 1, rows_RD.shape[1]
    out = torch.empty(n_sums, width, device=rows_RD.device)
    grid = (n_sums, triton.cdiv(width, BLOCK))
    _weighted_rows[grid](out, rows_RD.contiguous(), row_of_S.contiguous(), weight_S.contiguous(), starts, width, BLOCK=BLOCK)
    return out


def decode(codes: SparseCodes, W_dec_FD: Tensor) -> Tensor:
    """What the codes add to b_dec [B, D]."""
    n_rows, n_places = codes.indices_BK.shape
    starts = torch.arange(0, n_rows * n_places + 1, n_places, device=W_dec_FD.device)
    return weighted_rows(W_dec_FD, codes.indices_BK.flatten(), codes.values_BK.flatten(), starts)


class TritonKernels(PlainKernels):
    """The plain kernels with decode and weight gradients in Triton; codes with nested prefixes, and tensors elsewhere, go the plain way."""

    name = "triton"

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights, prefixes: tuple[int, ...] = ()) -> Rebuilt:
        """See `Kernels.rebuild`."""
        if len(prefixes) > 1 or not runs_here(x_BD):
            return super().rebuild(x_BD, codes, weights, prefixes)
        error_BD = decode(codes, weights.W_dec_FD) + (weights.b_dec_D - x_BD)
        dots_BK = torch.stack([(weights.W_dec_FD[index_B] * error_BD).sum(1) for index_B in codes.indices_BK.unbind(1)], dim=1)
        return Rebuilt(error_BD[None], dots_BK * (codes.values_BK > 0), error_BD.square().sum().item())

    def gradients(
        self, centred_BD: Tensor, codes: SparseCodes, errors_PBD: Tensor, grad_pre_BK: Tensor, weights: Weights, prefixes: tuple[int, ...] = ()
    ) -> Weights:
        """See `Kernels.gradients`."""
        if len(prefixes) > 1 or not runs_here(centred_BD):
            return super().gradients(centred_BD, codes, errors_PBD, grad_pre_BK, weights, prefixes)
        scale, n_latents = 2.0 / centred_BD.numel(), len(weights.b_enc_F)
        ordered, order = torch.sort(codes.indices_BK.flatten(), stable=True)
        starts = torch.searchsorted(ordered, torch.arange(n_latents + 1, device=ordered.device))
        rows_S = order // codes.indices_BK.shape[1]
        grad_b_enc_F = torch.zeros_like(weights.b_enc_F).index_add_(0, codes.indices_BK.flatten(), grad_pre_BK.flatten())
        return Weights(
            W_enc_FD=weighted_rows(centred_BD, rows_S, grad_pre_BK.flatten()[order], starts),
            b_enc_F=grad_b_enc_F,
            W_dec_FD=weighted_rows(errors_PBD[0], rows_S, codes.values_BK.flatten()[order] * scale, starts),
            b_dec_D=errors_PBD[0].sum(0) * scale - grad_b_enc_F @ weights.W_enc_FD,
        )
