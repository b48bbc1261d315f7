"""The training kernels compiled with numba: the same results as the plain ones, several times faster.

Shapes: B rows, D model width, F latents, K places for active latents of a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
import torch.nn.functional as functional
from llvmlite.binding import get_host_cpu_features
from torch import Tensor

from saebias.sae.kernels import search_loops, step_loops
from saebias.sae.kernels.batch_search import BOUND_SHARE, CHUNK_BYTES, HINT_ROWS, SAFE_SHARE, TINY, arrays_of, find_reaching, n_groups_for, with_outputs
from saebias.sae.kernels.contract import AdamStep, Rebuilt, SparseCodes, Weights
from saebias.sae.kernels.plain import PlainKernels

MIN_RECALL = 0.999
"""Share of the true k largest that the bfloat16 search must find; below it the search is given up."""
CHECKED_ROWS = 128


class CompiledKernels:
    """Loops over active latents only, shared among threads by ranges of rows or latents; float32 on the CPU.

    With `rough_search` the encoder product is done in bfloat16, and only its best candidates are computed in float32. Every `check_every` batches the search
    is compared with the float32 product on some rows, and is given up for good when it misses more than one in a thousand.
    """

    name = "numba"

    def __init__(self, *, n_threads: int | None = None, rough_search: bool | None = None, check_every: int = 50) -> None:
        self.n_threads = n_threads or torch.get_num_threads()
        self.rough_search = has_bfloat16_products() if rough_search is None else rough_search
        self.check_every = check_every
        self.last_recall: float | None = None
        self.n_batches = 0
        self._pool = ThreadPoolExecutor(self.n_threads) if self.n_threads > 1 else None

    def encode(self, centred_BD: Tensor, weights: Weights, k: int) -> SparseCodes:
        """See `Kernels.encode`."""
        if self.rough_search:
            if self.n_batches % self.check_every == 0:
                self._check_recall(centred_BD[:CHECKED_ROWS], weights, k)
            self.n_batches += 1
        return self._encode(centred_BD, weights, k, rough=self.rough_search)

    def encode_batch(self, centred_BD: Tensor, weights: Weights, k: int, hint: float | None) -> tuple[SparseCodes, float]:
        """See `Kernels.encode_batch`."""
        if hint is None:
            hint = PlainKernels().encode_batch(centred_BD[:HINT_ROWS], weights, k, None)[1]
        n_wanted, bound = k * len(centred_BD), BOUND_SHARE * hint
        for attempt in itertools.count():
            # A rough search that does not settle is not asked again.
            is_rough = self.rough_search and attempt < 3
            found = find_reaching(centred_BD, weights, max(bound, TINY), k, is_rough=is_rough, may_move=attempt == 0, share=self._share)
            if len(found.values) >= n_wanted:
                cut = float(np.partition(found.values, len(found.values) - n_wanted)[len(found.values) - n_wanted])
                if not found.is_rough or (found.bound <= SAFE_SHARE * cut and not self._misses_some(centred_BD, weights, found.bound, cut)):
                    break
                bound = BOUND_SHARE * cut
            elif found.bound <= TINY:
                cut = 0.0
                break
            else:
                bound = 0.85 * found.bound if found.bound > 0.1 * hint else 0.0
        self.n_batches += 1
        n_places = max(1, search_loops.most_reaching(found.values, found.counts_B, np.float32(cut)))
        values_BK, indices_BK = torch.empty(len(centred_BD), n_places), torch.empty(len(centred_BD), n_places, dtype=torch.int64)
        search_loops.rows_reaching(found.values, found.indices, found.counts_B, np.float32(cut), *arrays_of(values_BK, indices_BK))
        return SparseCodes(values_BK, indices_BK), cut

    def encode_above(self, centred_BD: Tensor, weights: Weights, bounds_F: Tensor) -> tuple[Tensor, Tensor]:
        """See `Kernels.encode_above`."""
        chunk = max(64, CHUNK_BYTES // (4 * len(weights.b_enc_F)))
        pre_CF = torch.empty(min(chunk, len(centred_BD)), len(weights.b_enc_F))
        found: list[tuple[Tensor, Tensor]] = []
        for centred_CD in centred_BD.split(chunk):
            pre = torch.addmm(weights.b_enc_F, centred_CD, weights.W_enc_FD.T, out=pre_CF[: len(centred_CD)])
            counts_C = np.empty(len(pre), np.int64)
            arrays = arrays_of(pre, bounds_F)
            self._share(len(pre), partial(with_outputs, partial(search_loops.count_above, *arrays), (counts_C,)))
            values_CK = torch.empty(len(pre), max(1, int(counts_C.max(initial=0))))
            indices_CK = torch.empty(values_CK.shape, dtype=torch.int64)
            self._share(len(pre), partial(with_outputs, partial(search_loops.all_above, *arrays), arrays_of(values_CK, indices_CK)))
            found.append((values_CK, indices_CK))
        n_places = max(values_CK.shape[1] for values_CK, _ in found)
        values = [functional.pad(values_CK, (0, n_places - values_CK.shape[1]), value=-torch.inf) for values_CK, _ in found]
        return torch.cat(values), torch.cat([functional.pad(indices_CK, (0, n_places - indices_CK.shape[1])) for _, indices_CK in found])

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights, prefixes: tuple[int, ...] = ()) -> Rebuilt:
        """See `Kernels.rebuild`."""
        errors_PBD, dots_BK = torch.empty(max(1, len(prefixes)), *x_BD.shape), torch.empty_like(codes.values_BK)
        squared_B = torch.empty(len(x_BD))
        arrays = arrays_of(x_BD, codes.values_BK, codes.indices_BK, weights.W_dec_FD, weights.b_dec_D)
        ends_P, out = _ends(weights, prefixes), arrays_of(errors_PBD, dots_BK, squared_B)
        self._share(len(x_BD), lambda first, last: step_loops.rebuild_rows(*arrays, ends_P, first, last, *out))
        return Rebuilt(errors_PBD, dots_BK, squared_B.sum().item())

    def dots(self, rows_BD: Tensor, indices_BK: Tensor, wanted_BK: Tensor, weights: Weights) -> Tensor:
        """See `Kernels.dots`."""
        dots_BK = torch.empty(indices_BK.shape)
        arrays, out = arrays_of(rows_BD, indices_BK, wanted_BK, weights.W_dec_FD), arrays_of(dots_BK)
        self._share(len(rows_BD), lambda first, last: step_loops.dots_at(*arrays, first, last, *out))
        return dots_BK

    def gradients(
        self, centred_BD: Tensor, codes: SparseCodes, errors_PBD: Tensor, grad_pre_BK: Tensor, weights: Weights, prefixes: tuple[int, ...] = ()
    ) -> Weights:
        """See `Kernels.gradients`."""
        scale = np.float32(2.0 / centred_BD.numel())
        n_latents = len(weights.b_enc_F)
        starts_F1, places = np.empty(n_latents + 1, np.int64), np.empty(codes.values_BK.numel(), np.int64)
        values, grad_pre, indices = arrays_of(codes.values_BK, grad_pre_BK, codes.indices_BK)
        step_loops.group_by_latent(values, grad_pre, indices, starts_F1, places)
        grads = Weights(torch.empty_like(weights.W_enc_FD), torch.empty_like(weights.b_enc_F), torch.empty_like(weights.W_dec_FD), weights.b_dec_D)
        arrays = (*arrays_of(centred_BD, errors_PBD), _ends(weights, prefixes), values, grad_pre, starts_F1, places, scale)
        out = arrays_of(grads.W_enc_FD, grads.b_enc_F, grads.W_dec_FD)
        self._share(n_latents, lambda first, last: step_loops.weight_gradients(*arrays, first, last, *out))
        grads.b_dec_D = errors_PBD[0].sum(0) * float(scale) - grads.b_enc_F @ weights.W_enc_FD
        return grads

    def adam(self, weights: Weights, grads: Weights, first: Weights, second: Weights, step: AdamStep) -> None:
        """See `Kernels.adam`."""
        numbers = (
            step.learning_rate / (1 - step.beta1**step.count), step.shrink, step.beta1, step.beta2, (1 - step.beta2**step.count) ** -0.5, step.epsilon
        )  # fmt: skip
        floats = tuple(np.float32(number) for number in numbers)
        matrices = zip(weights.tensors(), grads.tensors(), first.tensors(), second.tensors(), strict=True)
        for i, tensors in enumerate(matrices):
            if i == 2 and step.frozen_decoder:
                continue
            arrays = arrays_of(*tensors)
            if arrays[0].ndim == 1:
                step_loops.adam_row(*arrays, *floats)
            else:
                self._share(len(arrays[0]), lambda f, l, a=arrays, unit=i == 2: step_loops.adam_rows(*a, *floats, unit, f, l))

    def _encode(self, centred_BD: Tensor, weights: Weights, k: int, *, rough: bool) -> SparseCodes:
        n_latents = len(weights.b_enc_F)
        values_BK = torch.empty(len(centred_BD), k)
        indices_BK = torch.empty(len(centred_BD), k, dtype=torch.int64)
        chunk = max(64, CHUNK_BYTES // (n_latents * (2 if rough else 4)))
        search = self._rough_search(weights, k, chunk) if rough else self._exact_search(weights, k, chunk)
        for start in range(0, len(centred_BD), chunk):
            piece = slice(start, start + chunk)
            search(centred_BD[piece], values_BK[piece], indices_BK[piece])
        return SparseCodes(values_BK, indices_BK)

    def _exact_search(self, weights: Weights, k: int, chunk: int) -> Callable[[Tensor, Tensor, Tensor], None]:
        pre_CF = torch.empty(chunk, len(weights.b_enc_F))
        n_groups = n_groups_for(len(weights.b_enc_F), k)

        def search(centred_CD: Tensor, values_CK: Tensor, indices_CK: Tensor) -> None:
            pre = torch.addmm(weights.b_enc_F, centred_CD, weights.W_enc_FD.T, out=pre_CF[: len(centred_CD)])
            numbers, bits = arrays_of(pre, pre.view(torch.int32))
            out = arrays_of(values_CK, indices_CK)
            self._share(len(pre), lambda first, last: search_loops.largest_positive(numbers, bits, n_groups, first, last, *out))

        return search

    def _rough_search(self, weights: Weights, k: int, chunk: int) -> Callable[[Tensor, Tensor, Tensor], None]:
        rough_CF = torch.empty(chunk, len(weights.b_enc_F), dtype=torch.bfloat16)
        W_rough_DF, b_rough_F = weights.W_enc_FD.bfloat16().T, weights.b_enc_F.bfloat16()
        n_candidates = k + k // 2
        n_groups = n_groups_for(len(weights.b_enc_F), n_candidates)

        def search(centred_CD: Tensor, values_CK: Tensor, indices_CK: Tensor) -> None:
            rough = torch.addmm(b_rough_F, centred_CD.bfloat16(), W_rough_DF, out=rough_CF[: len(centred_CD)]).view(torch.int16).numpy()
            arrays = arrays_of(centred_CD, weights.W_enc_FD, weights.b_enc_F)
            out = arrays_of(values_CK, indices_CK)
            self._share(len(rough), lambda first, last: search_loops.largest_refined(rough, n_candidates, n_groups, *arrays, first, last, *out))

        return search

    def _misses_some(self, centred_BD: Tensor, weights: Weights, bound: float, cut: float) -> bool:
        """Whether the rough search below `bound` loses too much of what reaches `cut`, looked at now and then; it is then given up."""
        if self.n_batches % self.check_every:
            return False
        rows_CD = centred_BD[:CHECKED_ROWS]
        wanted_CF = torch.addmm(weights.b_enc_F, rows_CD, weights.W_enc_FD.T) >= cut
        rough_CF = torch.addmm(weights.b_enc_F.bfloat16(), rows_CD.bfloat16(), weights.W_enc_FD.bfloat16().T) >= bound
        return self._judge(int((wanted_CF & rough_CF).sum()), int(wanted_CF.sum()))

    def _check_recall(self, centred_BD: Tensor, weights: Weights, k: int) -> None:
        exact, rough = (self._encode(centred_BD, weights, k, rough=rough) for rough in (False, True))
        shape = (len(centred_BD), len(weights.b_enc_F))
        found_BF = torch.zeros(shape, dtype=torch.bool).scatter_(1, rough.indices_BK, rough.values_BK > 0)
        wanted_BK = exact.values_BK > 0
        n_wanted = int(wanted_BK.sum())
        self._judge(int((found_BF.gather(1, exact.indices_BK) & wanted_BK).sum()), n_wanted)

    def _judge(self, n_found: int, n_wanted: int) -> bool:
        self.last_recall = n_found / n_wanted if n_wanted else 1.0
        if self.last_recall < MIN_RECALL:
            self.rough_search = False
        return not self.rough_search

    def _share(self, n: int, work: Callable[[int, int], None]) -> None:
        if self._pool is None:
            work(0, n)
            return
        bounds = [n * i // self.n_threads for i in range(self.n_threads + 1)]
        for done in [self._pool.submit(work, first, last) for first, last in itertools.pairwise(bounds)]:
            done.result()


def select_largest(pre_NF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest positive numbers of each row (values [N, K], indices [N, K] int64), padded with value 0; float32, contiguous, no gradient."""
    values_NK, indices_NK = torch.empty(len(pre_NF), k), torch.empty(len(pre_NF), k, dtype=torch.int64)
    arrays = arrays_of(pre_NF, pre_NF.view(torch.int32), values_NK, indices_NK)
    search_loops.largest_positive(*arrays[:2], n_groups_for(pre_NF.shape[1], k), 0, len(pre_NF), *arrays[2:])
    return values_NK, indices_NK


def has_bfloat16_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    features = get_host_cpu_features()
    return features["avx512bf16"] or features["amx-bf16"]


def _ends(weights: Weights, prefixes: tuple[int, ...]) -> np.ndarray:
    return np.array(prefixes or (len(weights.b_enc_F),), np.int64)
