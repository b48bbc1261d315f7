"""Sparse decode, its dot products and the weight gradients as Triton kernels, for dictionaries on a CUDA device.

What was run and what not: the kernels and whole trainings built on them were compared with the plain ones under Triton's interpreter on a CPU, for every
architecture. They were not run on a GPU and no speed was measured; before a training uses them they are tried on a few rows (`triton_trial`).
Shapes: B rows, D model width, F latents, K places for active latents of a row, P nested prefixes, R rows of any kind, S places in some order.
"""

from __future__ import annotations

import os

import torch
import triton  # ty: ignore[import-not-found]
import triton.language as tl  # ty: ignore[import-not-found]
from torch import Tensor

from saebias.sae.kernels.contract import Rebuilt, SparseCodes, Weights
from saebias.sae.kernels.plain import PlainKernels, groups_of

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


@triton.jit
def _row_dots(out, left, left_of, right, right_of, wanted, width, BLOCK: tl.constexpr):
    """out[s] = left[left_of[s]] . right[right_of[s]] where wanted[s] is not 0, else 0, one program an s."""
    s = tl.program_id(0)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    if tl.load(wanted + s) != 0:
        from_left = left + tl.load(left_of + s) * width
        from_right = right + tl.load(right_of + s) * width
        for start in range(0, width, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            inside = columns < width
            total += tl.load(from_left + columns, mask=inside, other=0.0) * tl.load(from_right + columns, mask=inside, other=0.0)
    tl.store(out + s, tl.sum(total))


def runs_here(tensor: Tensor) -> bool:
    """Whether the kernels take this tensor: float32 on a CUDA device, or anywhere under the interpreter (TRITON_INTERPRET=1)."""
    return tensor.dtype == torch.float32 and (tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")


def weighted_rows(rows_RD: Tensor, row_of_S: Tensor, weight_S: Tensor, starts: Tensor) -> Tensor:
    """For each i the sum over s = starts[i] .. starts[i + 1] of weight[s] rows[row_of[s]]; `starts` has one number more than the result has rows."""
    n_sums, width = len(starts) - 1, rows_RD.shape[1]
    out = torch.empty(n_sums, width, device=rows_RD.device)
    grid = (n_sums, triton.cdiv(width, BLOCK))
    # Triton starts kernels on the current device, whichever the tensors lie on.
    with torch.cuda.device_of(rows_RD):
        _weighted_rows[grid](out, rows_RD.contiguous(), row_of_S.contiguous(), weight_S.contiguous(), starts, width, BLOCK=BLOCK)
    return out


def row_dots(left_RD: Tensor, left_of_BK: Tensor, right_RD: Tensor, right_of_BK: Tensor, wanted_BK: Tensor) -> Tensor:
    """left[left_of] . right[right_of] at the wanted places [B, K], 0 elsewhere."""
    out_BK = torch.empty(right_of_BK.shape, device=left_RD.device)
    arrays = (left_RD.contiguous(), left_of_BK.contiguous(), right_RD.contiguous(), right_of_BK.contiguous(), wanted_BK.to(torch.int8).contiguous())
    with torch.cuda.device_of(left_RD):
        _row_dots[(right_of_BK.numel(),)](out_BK, *arrays, left_RD.shape[1], BLOCK=BLOCK)
    return out_BK


def decode(values_BK: Tensor, indices_BK: Tensor, W_dec_FD: Tensor) -> Tensor:
    """What the codes add to b_dec [B, D]."""
    n_rows, n_places = indices_BK.shape
    starts = torch.arange(0, n_rows * n_places + 1, n_places, device=W_dec_FD.device)
    return weighted_rows(W_dec_FD, indices_BK.flatten(), values_BK.flatten(), starts)


class TritonKernels(PlainKernels):
    """The plain kernels with decode, dot products and weight gradients in Triton; tensors elsewhere go the plain way."""

    name = "triton"

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights, prefixes: tuple[int, ...] = ()) -> Rebuilt:
        """See `Kernels.rebuild`."""
        if not runs_here(x_BD):
            return super().rebuild(x_BD, codes, weights, prefixes)
        groups_BK = groups_of(codes.indices_BK, weights, prefixes)
        own = [decode(codes.values_BK * (groups_BK == p), codes.indices_BK, weights.W_dec_FD) for p in range(max(1, len(prefixes)))]
        own_PBD = torch.stack(own).cumsum(0) + (weights.b_dec_D - x_BD)
        errors_PBD = own_PBD.flip(0).cumsum(0).flip(0)
        error_of_BK = groups_BK * len(x_BD) + torch.arange(len(x_BD), device=x_BD.device)[:, None]
        dots_BK = row_dots(errors_PBD.flatten(0, 1), error_of_BK, weights.W_dec_FD, codes.indices_BK, codes.values_BK > 0)
        return Rebuilt(errors_PBD, dots_BK, own_PBD.square().sum().item())

    def dots(self, rows_BD: Tensor, indices_BK: Tensor, wanted_BK: Tensor, weights: Weights) -> Tensor:
        """See `Kernels.dots`."""
        if not runs_here(rows_BD):
            return super().dots(rows_BD, indices_BK, wanted_BK, weights)
        row_of_BK = torch.arange(len(rows_BD), device=rows_BD.device)[:, None].expand_as(indices_BK)
        return row_dots(rows_BD, row_of_BK, weights.W_dec_FD, indices_BK, wanted_BK)

    def gradients(
        self, centred_BD: Tensor, codes: SparseCodes, errors_PBD: Tensor, grad_pre_BK: Tensor, weights: Weights, prefixes: tuple[int, ...] = ()
    ) -> Weights:
        """See `Kernels.gradients`."""
        if not runs_here(centred_BD):
            return super().gradients(centred_BD, codes, errors_PBD, grad_pre_BK, weights, prefixes)
        scale, n_latents = 2.0 / centred_BD.numel(), len(weights.b_enc_F)
        values, grad_pre, indices = codes.values_BK.flatten(), grad_pre_BK.flatten(), codes.indices_BK.flatten()
        # Unused places are sorted behind the last latent: they may all name the same one, whose program would run through them all.
        used = (values != 0) | (grad_pre != 0)
        ordered, order = torch.sort(torch.where(used, indices, n_latents), stable=True)
        starts = torch.searchsorted(ordered, torch.arange(n_latents + 1, device=ordered.device))
        rows_S = order // codes.indices_BK.shape[1]
        error_rows_S = groups_of(codes.indices_BK, weights, prefixes).flatten()[order] * len(centred_BD) + rows_S
        grad_b_enc_F = torch.zeros_like(weights.b_enc_F).index_add_(0, indices, grad_pre)
        return Weights(
            W_enc_FD=weighted_rows(centred_BD, rows_S, grad_pre[order], starts),
            b_enc_F=grad_b_enc_F,
            W_dec_FD=weighted_rows(errors_PBD.flatten(0, 1), error_rows_S, values[order] * scale, starts),
            b_dec_D=errors_PBD[0].sum(0) * scale - grad_b_enc_F @ weights.W_enc_FD,
        )
