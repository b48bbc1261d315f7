"""The training kernels of a process that holds some of the latents of a dictionary.

Each finds and decodes its own; who is among the k largest, and what the reconstruction comes to, is settled between the processes.
Shapes: B rows, D model width, F latents of this process, K places for active latents of a row, P nested prefixes of all latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saebias.sae.kernels.contract import AdamStep, Kernels, Rebuilt, SparseCodes, Weights
from saebias.sae.kernels.plain import decoded, groups_of
from saebias.sae.peers import Peers


class ShardedKernels:
    """What `inner` computes on the latents `own` of this process, made whole with what the other processes of `peers` have."""

    def __init__(self, inner: Kernels, peers: Peers, n_latents: int) -> None:
        self.name = inner.name
        self._inner, self._peers, self._own = inner, peers, peers.own(n_latents)
        self._n_own = self._own.stop - self._own.start
        # The cut of the own latents alone, which lies below that of all.
        self._own_cut: float | None = None

    @property
    def rough_search(self) -> bool:
        """See `Kernels.rough_search`."""
        return self._inner.rough_search

    @rough_search.setter
    def rough_search(self, value: bool) -> None:
        self._inner.rough_search = value

    @property
    def n_batches(self) -> int:
        """See `Kernels.n_batches`."""
        return self._inner.n_batches

    @n_batches.setter
    def n_batches(self, value: int) -> None:
        self._inner.n_batches = value

    def encode(self, centred_BD: Tensor, weights: Weights, k: int) -> SparseCodes:
        """See `Kernels.encode`; places of latents that did not win have value 0."""
        found = self._inner.encode(centred_BD, weights, min(k, self._n_own))
        return SparseCodes(found.values_BK * self._peers.winning(found.values_BK, k), found.indices_BK)

    def encode_batch(self, centred_BD: Tensor, weights: Weights, k: int, hint: float | None) -> tuple[SparseCodes, float]:
        """See `Kernels.encode_batch`."""
        k_own, n_wanted = min(k, self._n_own), k * len(centred_BD)
        found, self._own_cut = self._inner.encode_batch(centred_BD, weights, k_own, None if hint is None else self._own_cut)
        largest = found.values_BK.flatten().topk(min(k_own * len(centred_BD), found.values_BK.numel())).values
        offered = torch.nn.functional.pad(largest, (0, n_wanted - len(largest)))
        cut = torch.cat(self._peers.gathered(offered)).topk(n_wanted).values[-1].item()
        return SparseCodes(found.values_BK * (found.values_BK >= cut), found.indices_BK), cut

    def encode_above(self, centred_BD: Tensor, weights: Weights, bounds_F: Tensor) -> tuple[Tensor, Tensor]:
        """See `Kernels.encode_above`; only the own latents."""
        return self._inner.encode_above(centred_BD, weights, bounds_F)

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights, prefixes: tuple[int, ...] = ()) -> Rebuilt:
        """See `Kernels.rebuild`; the dot products are those of the own latents."""
        groups_BK = groups_of(codes.indices_BK, weights, self._own_ends(prefixes))
        parts = [decoded(codes.indices_BK, weights, codes.values_BK * (groups_BK == p)) for p in range(max(1, len(prefixes)))]
        own_PBD = self._peers.total(torch.stack(parts)).cumsum(0) + (weights.b_dec_D - x_BD)
        errors_PBD = own_PBD.flip(0).cumsum(0).flip(0)
        dots_BK = torch.zeros_like(codes.values_BK)
        for p, error_BD in enumerate(errors_PBD):
            dots_BK += self._inner.dots(error_BD.contiguous(), codes.indices_BK, (codes.values_BK > 0) & (groups_BK == p), weights)
        return Rebuilt(errors_PBD, dots_BK, own_PBD.square().sum().item())

    def dots(self, rows_BD: Tensor, indices_BK: Tensor, wanted_BK: Tensor, weights: Weights) -> Tensor:
        """See `Kernels.dots`."""
        return self._inner.dots(rows_BD, indices_BK, wanted_BK, weights)

    def gradients(
        self, centred_BD: Tensor, codes: SparseCodes, errors_PBD: Tensor, grad_pre_BK: Tensor, weights: Weights, prefixes: tuple[int, ...] = ()
    ) -> Weights:
        """See `Kernels.gradients`; those of the own latents, and of the one decoder bias that all share."""
        grads = self._inner.gradients(centred_BD, codes, errors_PBD, grad_pre_BK, weights, self._own_ends(prefixes))
        # What the bias does to the reconstruction is felt once, what it does through the encoder by every process for its latents.
        directly_D = errors_PBD[0].sum(0) * (2.0 / centred_BD.numel())
        grads.b_dec_D = directly_D + self._peers.total(grads.b_dec_D - directly_D)
        return grads

    def adam(self, weights: Weights, grads: Weights, first: Weights, second: Weights, step: AdamStep) -> None:
        """See `Kernels.adam`."""
        self._inner.adam(weights, grads, first, second, step)

    def _own_ends(self, prefixes: tuple[int, ...]) -> tuple[int, ...]:
        """Where the nested prefixes end among the own latents: some at their beginning, some at their end."""
        return tuple(min(max(end - self._own.start, 0), self._n_own) for end in prefixes)
