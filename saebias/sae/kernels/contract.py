"""What a set of training kernels takes and gives.

Shapes: B rows, D model width, F latents, K places for active latents of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
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

    def tensors(self) -> list[Tensor]:
        """The four tensors in a fixed order."""
        return [self.W_enc_FD, self.b_enc_F, self.W_dec_FD, self.b_dec_D]

    def zeros_like(self) -> Weights:
        """Four tensors of zeros with the same shapes."""
        return Weights(*(torch.zeros_like(tensor) for tensor in self.tensors()))


@dataclass(frozen=True)
class SparseCodes:
    """The codes of a batch: values [B, K] >= 0 and latent indices [B, K] int64; a place with value 0 is unused."""

    values_BK: Tensor
    indices_BK: Tensor


@dataclass(frozen=True)
class Rebuilt:
    """What the decoder makes of codes: `error = x_hat - x` [B, D], and error . W_dec[latent] at each used place [B, K], 0 at the unused ones."""

    error_BD: Tensor
    error_dots_BK: Tensor


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
    """The four pieces of a training step that touch every weight or every row."""

    name: str

    def encode(self, centred_BD: Tensor, weights: Weights, k: int) -> SparseCodes:
        """The k largest positive pre-activations of each row of `x - b_dec`."""
        ...

    def encode_batch(self, centred_BD: Tensor, weights: Weights, k: int, hint: float | None) -> tuple[SparseCodes, float]:
        """The B k largest positive pre-activations of the whole batch, and the smallest of them (0 when fewer are positive).

        `hint` is that smallest value of the batch before, None for the first: it makes the search faster and never changes what is found.
        """
        ...

    def rebuild(self, x_BD: Tensor, codes: SparseCodes, weights: Weights) -> Rebuilt:
        """Decode and compare with `x`."""
        ...

    def gradients(self, centred_BD: Tensor, codes: SparseCodes, rebuilt: Rebuilt, weights: Weights) -> Weights:
        """Gradients of mean((x_hat - x)^2) for all four parameters; a place with value 0 gets none (the mask of the ReLU)."""
        ...

    def adam(self, weights: Weights, grads: Weights, first: Weights, second: Weights, step: AdamStep) -> None:
        """One Adam update in place, `first` and `second` being the moments.

        Decoder rows have unit norm: their gradient loses its radial part before, and they are brought back to unit norm after the step.
        """
        ...
