"""Synthetic rows with known features, and how many of them a dictionary recovers.

Shapes: N rows, D model width, G planted directions, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

RECOVERED = 0.9
"""A planted direction counts as recovered when the latent matched with it has at least this cosine."""


@dataclass(frozen=True)
class PlantedRows:
    """Rows [N, D] that are sparse non-negative sums of the directions [G, D] (unit rows), around a mean away from 0, with a little noise."""

    x_ND: np.ndarray
    directions_GD: np.ndarray


@dataclass(frozen=True)
class Recovery:
    """How well planted directions were found: mean over them of the cosine with the one latent matched to each, and the share above `RECOVERED`."""

    mcc: float
    recovered_share: float


def planted_rows(n_rows: int, d_model: int, n_directions: int, n_active: int, *, seed: int) -> PlantedRows:
    """Rows with `n_active` directions on average, their frequencies falling as 1 / rank^(1/2), their strengths uniform in .5 to 1.5.

    The seed belongs to the data alone: an encoder drawn with it could start from the planted directions themselves.
    """
    rng = np.random.default_rng(seed)
    directions_GD = rng.standard_normal((n_directions, d_model)).astype(np.float32)
    directions_GD /= np.linalg.norm(directions_GD, axis=1, keepdims=True)
    frequency_G = (1 + np.arange(n_directions)) ** -0.5
    frequency_G = np.minimum(frequency_G * n_active / frequency_G.sum(), 0.5).astype(np.float32)
    mean_D = rng.standard_normal(d_model).astype(np.float32)
    pieces = []
    for start in range(0, n_rows, 8192):
        shape = (min(8192, n_rows - start), n_directions)
        codes = (rng.random(shape, dtype=np.float32) < frequency_G) * rng.uniform(0.5, 1.5, shape).astype(np.float32)
        pieces.append(codes @ directions_GD + mean_D + 0.02 * rng.standard_normal((shape[0], d_model)).astype(np.float32))
    return PlantedRows(np.concatenate(pieces), directions_GD)


def recovery(W_dec_FD: np.ndarray, directions_GD: np.ndarray) -> Recovery:
    """The one-to-one matching of latents with planted directions that makes the sum of cosines greatest; latents may be more than directions, not fewer."""
    unit_FD = W_dec_FD / np.maximum(np.linalg.norm(W_dec_FD, axis=1, keepdims=True), 1e-12)
    cosine_GF = directions_GD @ unit_FD.T
    matched = cosine_GF[linear_sum_assignment(cosine_GF, maximize=True)]
    return Recovery(float(matched.mean()), float((matched >= RECOVERED).mean()))
