"""What a set of training kernels takes and gives.

Shapes: B rows, D model width, F latents, K places for active latents of a row, P nested prefixes of the latents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


@dataclass
class Weights:
    """The parameters while they are trained, one row a latent in both matrices; also used for gradients and for Adam's moments."""

    W_enc_FD: Tensor
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    """What only some architectures learn: one number a latent each, such as thresholds."""

    def named(self) -> dict[str, Tensor]:
        """All tensors by name, in a fixed order."""
        return {"W_enc_FD": self.W_enc_FD, "b_enc_F": self.b_enc_F, "W_dec_FD": self.W_dec_FD, "b_dec_D": self.b_dec_D, **self.extra}

    def tensors(self) -> list[Tensor]:
        """All tensors in a fixed order; the decoder is the third."""
        return list(self.named().values())

    def zeros_like(self) -> Weights:
        """Tensors of zeros with the same names and shapes."""
        zeros = {name: torch.zeros_like(tensor) for name, tensor in self.named().items()}
        return Weights(**{name: zeros.pop(name) for name in ("W_enc_FD", "b_enc_F", "W_dec_FD", "b_dec_D")}, extra=zeros)


@dataclass(frozen=True)
class SparseCodes:
    """The codes of a batch: values [B, K] >= 0 and latent indices [B, K] int64; a place with value 0 is unused."""

    values_BK: Tensor
    indices_BK: Tensor


@dataclass(frozen=True)
class Rebuilt:
    """What the decoder makes of codes, for one prefix of the latents (all of them) or for several nested ones.

    Group p are the latents that the p-th prefix has and the one before has not. With `e_p = x_hat_p - x` of the p-th prefix, `errors[p]` is the sum of
    e_p, e_p+1 ...: half the gradient of the summed squared errors for what a latent of group p adds. The last is the error of the whole dictionary.
    """

    errors_PBD: Tensor
    error_dots_BK: Tensor
    """errors[group of the latent] . W_dec[latent] at each used place, 0 at the unused ones."""
    squared_error: float
    """Sum over prefixes and rows of |e_p|^2."""

    @property
    def error_BD(self) -> Tensor:
        """`x_hat - x` of the whole dictionary."""
        return self.errors_PBD[-1]


@dataclass(frozen=True)
class AdamStep:
    """One update: `count` is 1 for the first; gradients are multiplied by `shrink` (clipping) beforehand."""

    learning_rate: float
    count: int
    shrink: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    frozen_decoder: bool = False


class Kernels(Protocol):
    """The pieces of a training step that touch every weight or every row."""

    name: str
    rough_search: bool
    """Whether candidates come from a bfloat16 product."""
    n_batches: int
    """Batches encoded so far: some of them check the rough search."""

    def encode(self, centred_BD: Tensor, weights: Weights, k: int) -> SparseCodes:
        """The k largest positive pre-activations of each row of `x - b_dec`."""
        ...

    def encode_batch(self, centred_BD: Tensor, weights: Weights, k: int, hint: float | None) -> tuple[SparseCodes, float]:
        """The B k largest positive pre-activations of the whole batch, and the smallest of them (0 when fewer are positive).

        `hint` is that smallest value of the batch before, None for the first: it makes the search faster and never changes what is found.
        """
        ...

    def encode_above(self, centred_BD: Tensor, weights: Weights, bounds_F: Tensor) -> tuple[Tensor, Tensor]:
        """All pre-activations larger than their latent's bound: (pre-activations [B, K], indices [B, K] int64), -inf at unused places."""
        ...

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights, prefixes: tuple[int, ...] = ()) -> Rebuilt:
        """Decode and compare with `x`; `prefixes` are the sizes of nested dictionaries, ending with all latents (none: only these)."""
        ...

    def dots(self, rows_BD: Tensor, indices_BK: Tensor, wanted_BK: Tensor, weights: Weights) -> Tensor:
        """rows[b] . W_dec[indices[b, i]] where it is wanted [B, K], 0 elsewhere."""
        ...

    def gradients(
        self, centred_BD: Tensor, codes: SparseCodes, errors_PBD: Tensor, grad_pre_BK: Tensor, weights: Weights, prefixes: tuple[int, ...] = ()
    ) -> Weights:
        """Gradients of a loss for the four parameters that all architectures have.

        The loss has the gradient `grad_pre` for the pre-activation at each place, and 2 / (B D) `errors[p]` for what latents of group p add to x_hat.
        """
        ...

    def adam(self, weights: Weights, grads: Weights, first: Weights, second: Weights, step: AdamStep) -> None:
        """One Adam update in place, `first` and `second` being the moments.

        Decoder rows have unit norm: their gradient loses its radial part before, and they are brought back to unit norm after the step.
        """
        ...
