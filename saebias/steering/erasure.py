"""Concept erasure: the smallest change of the activations after which no linear probe finds the concept.

LEACE, Belrose et al. 2023 (arXiv:2306.03819), for one binary concept: x - W^+ P W (x - mean), W the whitening of x, P the projection on the whitened
cross-covariance with the label. Shapes: N rows, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.steering.edits import on_rows

# Directions with less than this share of the largest variance are taken for rounding.
_SMALLEST_VARIANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Eraser:
    """x -> x - strength * ((x - mean) . read) * write: rank one, because the concept is binary."""

    mean_D: Tensor
    read_D: Tensor
    write_D: Tensor

    @torch.no_grad()
    def edit(self, x_BTD: Tensor, mask_BT: Tensor, *, strength: float = 1.0) -> Tensor:
        """Arm A10: the activations with the concept erased where the mask is True."""

        def change(x_ND: Tensor) -> Tensor:
            return x_ND - strength * ((x_ND - self.mean_D.to(x_ND)) @ self.read_D.to(x_ND))[:, None] * self.write_D.to(x_ND)

        return on_rows(x_BTD, mask_BT, change)


@torch.no_grad()
def fit_eraser(x_ND: Tensor, is_first_N: Tensor) -> Eraser:
    """The LEACE eraser of a binary label; InputError when a group is empty or the groups have the same mean (nothing to erase).

    Fit it on images that nothing is reported on: erasure is exact on the rows it was fitted to.
    """
    n_first = int(is_first_N.sum())
    if n_first in (0, len(is_first_N)):
        raise InputError(f"erasure over {len(is_first_N)} rows has {n_first} in one group; both groups need a row")
    x_ND, z_N = x_ND.double(), is_first_N.double()
    mean_D = x_ND.mean(0)
    centred_ND = x_ND - mean_D
    cross_D = centred_ND.T @ (z_N - z_N.mean()) / len(x_ND)
    variance_D, axes_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / len(x_ND))
    kept = variance_D > _SMALLEST_VARIANCE * variance_D.max()
    root_D = variance_D[kept].sqrt()
    whitened = (axes_DD[:, kept].T @ cross_D) / root_D
    length = torch.linalg.vector_norm(whitened)
    if not length > 0:
        raise InputError("both groups have the same mean activations; there is nothing to erase")
    unit = whitened / length
    return Eraser(mean_D, axes_DD[:, kept] @ (unit / root_D), axes_DD[:, kept] @ (unit * root_D))
