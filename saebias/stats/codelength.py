"""Minimum description length of a probe: not only whether a label can be read, but how much data the reading takes.

Online (prequential) code of Voita & Titov 2020 (EMNLP, "Information-Theoretic Probing with MDL"): the labels of each block are coded with a probe trained on
the blocks before it. Shapes: N rows, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, special

from saebias.errors import InputError
from saebias.stats.checks import binary, cluster_index, finite, same_rows

# Ends of the blocks as shares of the clusters, closer together at the start, where a probe learns fastest.
_BLOCK_ENDS = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0)
# Ridge penalties of the probes that share the code; the last one reads nothing and sends every label at one bit.
_PENALTIES = (0.1, 1.0, 10.0, 100.0, np.inf)
_NEWTON_STEPS = 12


@dataclass(frozen=True)
class Codelength:
    """Bits to send the labels: `bits` with the probe, `uniform_bits` without; `compression` = uniform / bits, 1 for a label that cannot be read."""

    bits: float
    uniform_bits: float
    compression: float
    n_rows: int
    n_clusters: int
    n_orders: int


def online_codelength(x: ArrayLike, y: ArrayLike, clusters: ArrayLike, *, seed: int, n_orders: int = 3) -> Codelength:
    """Online codelength of y_N (0/1) given x_ND, averaged over random orders of the clusters; a cluster is never split between blocks.

    The first block is sent at one bit a label, each later one with a logistic regression on all blocks before it, inputs scaled there. Regressions of several
    ridge penalties, and one that reads nothing, are mixed as equally likely codes: the mixture is at most log2(5) bits longer than the best of them, so a label
    that cannot be read costs hardly more than one bit. Raises InputError below 20 clusters.
    """
    x_ND, y_N = finite(x, "x"), binary(y)
    index_N, n_clusters = cluster_index(clusters)
    rows = same_rows(x=x_ND, y=y_N, clusters=index_N)
    if n_clusters < 20:
        raise InputError(f"{n_clusters} clusters: an online codelength needs at least 20")
    rng = np.random.default_rng(seed)
    bits = float(np.mean([_bits_of_order(x_ND, y_N, rng.permutation(n_clusters)[index_N], n_clusters) for _ in range(n_orders)]))
    return Codelength(bits, float(rows), rows / bits, rows, n_clusters, n_orders)


def _bits_of_order(x_ND: np.ndarray, y_N: np.ndarray, place_N: np.ndarray, n_clusters: int) -> float:
    ends = np.unique(np.maximum(1, np.round(np.array(_BLOCK_ENDS) * n_clusters)).astype(int))
    bits = np.full(len(_PENALTIES), float((place_N < ends[0]).sum()))
    for start, end in pairwise(ends):
        known_N, block_N = place_N < start, (place_N >= start) & (place_N < end)
        bits += [_cost(x_ND, y_N, known_N, block_N, penalty) for penalty in _PENALTIES]
    return float(np.log2(len(bits)) - special.logsumexp(-bits * np.log(2)) / np.log(2))


def _cost(x_ND: np.ndarray, y_N: np.ndarray, train_N: np.ndarray, block_N: np.ndarray, penalty: float) -> float:
    """Bits for the labels of a block with a probe fitted on the training rows."""
    if np.isinf(penalty) or y_N[train_N].all() or not y_N[train_N].any():
        return float(block_N.sum())
    mean_D, scale_D = x_ND[train_N].mean(axis=0), x_ND[train_N].std(axis=0)
    scale_D = np.where(scale_D > 0, scale_D, np.inf)
    weights_D, intercept = fit_logistic((x_ND[train_N] - mean_D) / scale_D, y_N[train_N], penalty)
    logits = (x_ND[block_N] - mean_D) / scale_D @ weights_D + intercept
    return float(np.logaddexp(0, np.where(y_N[block_N], -logits, logits)).sum() / np.log(2))


def fit_logistic(x_ND: np.ndarray, y_N: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """(weights_D, intercept) of logistic regression with penalty * |weights|^2 / 2 and a free intercept, by Newton's method with step halving."""
    design = np.column_stack([x_ND, np.ones(len(x_ND))])
    ridge = np.append(np.full(x_ND.shape[1], penalty), 1e-6)
    theta = np.zeros(design.shape[1])
    loss = _loss(design, y_N, theta, ridge)
    for _ in range(_NEWTON_STEPS):
        chance_N = special.expit(design @ theta)
        gradient = design.T @ (chance_N - y_N) + ridge * theta
        hessian = (design * (chance_N * (1 - chance_N))[:, None]).T @ design
        hessian[np.diag_indices_from(hessian)] += ridge
        step = linalg.solve(hessian, gradient, assume_a="pos")
        shorten = 1.0
        while (proposed := _loss(design, y_N, theta - shorten * step, ridge)) > loss + 1e-12 and shorten > 1e-3:
            shorten /= 2
        theta, improved, loss = theta - shorten * step, loss - proposed, proposed
        if improved < 1e-6 * max(1.0, abs(loss)):
            break
    return theta[:-1], float(theta[-1])


def _loss(design: np.ndarray, y_N: np.ndarray, theta: np.ndarray, ridge: np.ndarray) -> float:
    logits = design @ theta
    return float(np.logaddexp(0, np.where(y_N, -logits, logits)).sum() + (ridge * theta**2).sum() / 2)
