"""Whether pairs of variables go together differently in two groups, by permutation: codes that are mostly 0 do not obey Fisher's normal law.

Shapes: U units (clusters of one group), K variables, P pairs, R permutations.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

# Memory of one block of permuted sums, in numbers.
_CHUNK_ELEMENTS = 4_000_000
_LIMIT = 1 - 1e-9


def correlation_change_p(first_UK: np.ndarray, second_UK: np.ndarray, pairs_P2: np.ndarray, *, n_permutations: int, seed: int) -> np.ndarray:
    """Two-sided p [P] that the rank correlation of each pair of columns is the same in both groups of units.

    Statistic: the difference of Fisher-transformed rank correlations. Ranks are taken within each group, so that a variable that is larger or commoner in one
    group is no evidence; then the units' ranks, whole rows, change group: p = (1 + #{|d_r| >= |d|}) / (R + 1). Zeros of both variables tie, which makes the
    normal law of Fisher's z call a false pair in most draws of permuted labels.
    """
    ranks_UK = np.concatenate([_even_ranks(first_UK), _even_ranks(second_UK)])
    n_first, n = len(first_UK), len(ranks_UK)
    label_U = np.arange(n) < n_first
    rng = np.random.default_rng(seed)
    p_P = np.empty(len(pairs_P2))
    step = max(1, min(len(pairs_P2), _CHUNK_ELEMENTS // n, 512))
    blocks = [slice(start, start + step) for start in range(0, len(pairs_P2), step)]
    squares_UK = ranks_UK**2
    observed_P = np.concatenate([_difference(label_U[None], ranks_UK, squares_UK, pairs_P2[block])[0] for block in blocks])
    count_P = np.ones(len(pairs_P2))
    draws = max(1, min(n_permutations, _CHUNK_ELEMENTS // max(n, step)))
    for start in range(0, n_permutations, draws):
        labels_RU = rng.permuted(np.broadcast_to(label_U, (min(draws, n_permutations - start), n)), axis=1)
        for block in blocks:
            drawn_RP = _difference(labels_RU, ranks_UK, squares_UK, pairs_P2[block])
            count_P[block] += (np.abs(drawn_RP) >= np.abs(observed_P[block]) * (1 - 1e-9)).sum(axis=0)
    p_P[:] = count_P / (n_permutations + 1)
    return p_P


def _even_ranks(x_UK: np.ndarray) -> np.ndarray:
    """Ranks within a group, centred and on a scale that does not know the group's size."""
    return stats.rankdata(x_UK, axis=0) / (len(x_UK) + 1) - 0.5


def _difference(labels_RU: np.ndarray, ranks_UK: np.ndarray, squares_UK: np.ndarray, pairs_P2: np.ndarray) -> np.ndarray:
    """atanh of the correlation in the units marked minus that in the others [R, P]; a side that is constant has correlation 0."""
    products_UP = ranks_UK[:, pairs_P2[:, 0]] * ranks_UK[:, pairs_P2[:, 1]]
    sides = []
    for labels in (labels_RU.astype(np.float64), (~labels_RU).astype(np.float64)):
        n_R1 = labels.sum(axis=1, keepdims=True)
        mean_RK = labels @ ranks_UK / n_R1
        variance_RK = labels @ squares_UK / n_R1 - mean_RK**2
        a, b = pairs_P2.T
        covariance_RP = labels @ products_UP / n_R1 - mean_RK[:, a] * mean_RK[:, b]
        scale_RP = np.sqrt(np.maximum(variance_RK[:, a] * variance_RK[:, b], 0))
        r_RP = np.divide(covariance_RP, scale_RP, out=np.zeros_like(covariance_RP), where=scale_RP > 1e-12)
        sides.append(np.arctanh(np.clip(r_RP, -_LIMIT, _LIMIT)))
    return sides[0] - sides[1]
