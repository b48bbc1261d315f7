"""Where the rows of a batch share their active latents: the search for all pre-activations that reach a bound, by compiled loops.

Shapes: B rows, C rows of a chunk, D model width, F latents, P places of a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from saebias.sae.kernels import search_loops
from saebias.sae.kernels.contract import Weights

CHUNK_BYTES = 16 << 20
"""Size of the pre-activations that exist at any time."""
TINY = 1e-30
"""Stands for the smallest positive pre-activation in searches among bit patterns."""
HINT_ROWS = 256
BOUND_SHARE = 0.93
"""Where the search of a batch begins, as a share of the cut that is expected: what the rough search gets wrong lies between the two."""
SAFE_SHARE = 0.97
MOVES = 6
SMALLEST_BOUND = 1e-3
"""Below this the first rows of a batch are not asked whether the bound is right: perhaps too few pre-activations are positive."""


@dataclass(frozen=True)
class Found:
    """All pre-activations of a batch that reach a bound, row after row."""

    values: np.ndarray
    indices: np.ndarray
    counts_B: np.ndarray
    bound: float
    is_rough: bool


def find_reaching(centred_BD: Tensor, weights: Weights, bound: float, k: int, *, is_rough: bool, may_move: bool, share: Callable[..., None]) -> Found:
    """All pre-activations of the batch that reach `bound` > 0, or with `may_move` one that the first rows show to be better for finding the k B largest.

    `share(n, work)` calls `work(first, last)` for ranges of n rows. With `is_rough` candidates come from a bfloat16 product.
    """
    n_rows, n_latents = len(centred_BD), len(weights.b_enc_F)
    counts_B = np.empty(n_rows, np.int64)
    # Near 0 a rough sign says nothing.
    is_rough = is_rough and bound > TINY
    kind, bits_kind = (torch.bfloat16, torch.int16) if is_rough else (torch.float32, torch.int32)
    W_DF, b_F = weights.W_enc_FD.to(kind).T, weights.b_enc_F.to(kind)
    chunk = min(n_rows, max(64, CHUNK_BYTES // (n_latents * kind.itemsize)))
    pre_CF = torch.empty(chunk, n_latents, dtype=kind)
    buffers = np.empty((chunk, min(n_latents, 6 * k)), np.float32), np.empty((chunk, min(n_latents, 6 * k)), np.int32)
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    # The first piece is small: on it the bound is put right.
    starts = [0, *range(min(HINT_ROWS, chunk, n_rows), n_rows, chunk)]
    for start, end in itertools.pairwise([*starts, n_rows]):
        centred_CD, counts_C = centred_BD[start:end], counts_B[start:end]
        pre = torch.addmm(b_F, centred_CD.to(kind), W_DF, out=pre_CF[: len(centred_CD)])
        arrays = arrays_of(pre.view(bits_kind), centred_CD, weights.W_enc_FD, weights.b_enc_F)
        buffers = _search_chunk(arrays, bound, k, buffers, counts_C, share)
        for _ in range(MOVES if may_move and start == 0 and bound > TINY else 0):
            if (better := _better_bound(buffers[0], counts_C, k, bound)) == bound:
                break
            # The product stands: only the search is done again.
            bound = better
            buffers = _search_chunk(arrays, bound, k, buffers, counts_C, share)
        piece = np.empty(counts_C.sum(), np.float32), np.empty(counts_C.sum(), np.int32)
        search_loops.used_places(*buffers, counts_C, *piece)
        pieces.append(piece)
    return Found(np.concatenate([v for v, _ in pieces]), np.concatenate([i for _, i in pieces]), counts_B, bound, is_rough)


def _search_chunk(
    arrays: tuple[np.ndarray, ...], bound: float, k: int, buffers: tuple[np.ndarray, np.ndarray], counts_C: np.ndarray, share: Callable[..., None]
) -> tuple[np.ndarray, np.ndarray]:
    bits, *exact = arrays
    kind, bits_kind = (torch.bfloat16, torch.int16) if bits.itemsize == 2 else (torch.float32, torch.int32)
    bits_bound = torch.tensor(bound, dtype=kind).view(bits_kind).numpy()[()]
    search = partial(search_loops.all_reaching, bits, bits_bound, np.float32(bound), n_groups_for(bits.shape[1], k), *exact)
    share(len(counts_C), partial(with_outputs, search, (*buffers, counts_C)))
    if counts_C.max() > buffers[0].shape[1]:
        shape = (len(buffers[0]), int(counts_C.max()))
        buffers = np.empty(shape, np.float32), np.empty(shape, np.int32)
        share(len(counts_C), partial(with_outputs, search, (*buffers, counts_C)))
    return buffers


def _better_bound(values_CP: np.ndarray, counts_C: np.ndarray, k: int, bound: float) -> float:
    """A bound as far below the cut of these rows as it should be, if this one is not."""
    n_wanted = k * len(counts_C)
    if counts_C.sum() < n_wanted:
        return max(0.8 * bound, TINY) if bound > SMALLEST_BOUND else bound
    found = np.empty(counts_C.sum(), np.float32)
    search_loops.used_values(values_CP, counts_C, found)
    cut = float(np.partition(found, len(found) - n_wanted)[len(found) - n_wanted])
    return bound if 0.9 * cut <= bound <= 0.96 * cut else BOUND_SHARE * cut


def n_groups_for(n_latents: int, k: int) -> int:
    """How many groups of latents a search for the k largest looks at first."""
    # The work is one look at each group and one at each latent of about k groups: least when both are equal.
    return min(n_latents, max(2 * k, 32 * round((k * n_latents) ** 0.5 / 32)))


def with_outputs(search: Callable[..., None], outputs: tuple[np.ndarray, ...], first: int, last: int) -> None:
    """Run a compiled loop whose last arguments are a range of rows and where to write."""
    search(first, last, *outputs)


def arrays_of(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """The tensors as arrays that share their memory."""
    return tuple(tensor.numpy() for tensor in tensors)
