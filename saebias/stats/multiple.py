"""Many tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """q_F, the smallest false discovery rate at which each test is rejected (Benjamini & Hochberg 1995, JRSS B 57:289).

    Every latent tested counts, dead ones with p = 1 too. Raises InputError for a p that is NaN or outside [0, 1]: dropping one would shrink the family.
    """
    p_F = np.asarray(p, dtype=np.float64)
    if p_F.ndim != 1 or len(p_F) == 0:
        raise InputError(f"p has shape {p_F.shape}; hand in one p per test")
    bad = ~((p_F >= 0) & (p_F <= 1))
    if bad.any():
        raise InputError(f"p[{int(np.flatnonzero(bad)[0])}] is {p_F[bad][0]}; give every test a p in [0, 1] (1 where the column is constant)")
    order = np.argsort(p_F, kind="stable")
    raw_F = p_F[order] * len(p_F) / np.arange(1, len(p_F) + 1)
    q_F = np.empty_like(p_F)
    q_F[order] = np.minimum(np.minimum.accumulate(raw_F[::-1])[::-1], 1.0)
    return q_F
