"""The rows that every trainer of a comparison is handed, and the clock that sits in their hand-out.

Shapes: N rows, B rows of a batch, D model width, F latents.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """What is trained, and for how long; `seed` is that of the initial weights."""

    d_model: int
    n_latents: int
    k: int
    batch_size: int
    steps: int
    seed: int = 0


def activation_like_rows(n_rows: int, d_model: int, *, seed: int) -> Tensor:
    """Random rows [N, D] with a falling spectrum and a mean away from 0, as residual streams have."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(max(1, d_model // 4), d_model, generator=generator)
    low_ND = torch.randn(n_rows, len(mixing), generator=generator) @ mixing * 0.3
    return low_ND + 0.3 * torch.randn(n_rows, d_model, generator=generator) + torch.randn(d_model, generator=generator)


@dataclass
class ShuffledRows:
    """Batches [B, D] float32 of an array in a random order, pass after pass; each `iter` starts again with the same order."""

    x_ND: np.ndarray
    batch_size: int
    seed: int

    def __iter__(self) -> Iterator[Tensor]:
        rng = np.random.default_rng(self.seed)
        left = np.empty(0, dtype=np.int64)
        while True:
            while len(left) < self.batch_size:
                left = np.concatenate([left, rng.permutation(len(self.x_ND))])
            batch, left = left[: self.batch_size], left[self.batch_size :]
            yield torch.from_numpy(self.x_ND[batch].astype(np.float32, copy=False))


@dataclass
class ClockedRows:
    """Batches of `rows`, noting the processor time that the trainer spends between two of them: one whole step, whatever it does in it.

    Between two batches one float32 encoder product of the same shape is timed too, outside the step: both see the same load of the machine.
    """

    rows: ShuffledRows
    n_latents: int
    step_seconds: list[float] = field(default_factory=list)
    product_seconds: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[Tensor]:
        W_FD = torch.randn(self.n_latents, self.rows.x_ND.shape[1], generator=torch.Generator().manual_seed(0))
        product_BF = torch.empty(self.rows.batch_size, self.n_latents)
        for batch_BD in self.rows:
            start = time.process_time()
            with torch.no_grad():
                torch.mm(batch_BD, W_FD.T, out=product_BF)
            handed_out = time.process_time()
            self.product_seconds.append(handed_out - start)
            yield batch_BD
            self.step_seconds.append(time.process_time() - handed_out)
