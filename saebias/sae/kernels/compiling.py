"""How loops are compiled, and the one loop that all others use."""

from __future__ import annotations

import numba
import numpy as np

compiled = numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")
"""Compiled at the first call and kept on disk. Sums may be reordered (vectorised); NaN and infinity keep their meaning."""


@compiled
def dot(left_D, right_D):
    """The inner product of two float32 vectors of one length, summed in float32."""
    total = np.float32(0)
    for d in range(left_D.size):
        total += left_D[d] * right_D[d]
    return total
