"""A linear classifier in closed form, for many label columns and folds at once.

Linear discriminant on the total covariance, shrunk towards its diagonal. Fold statistics are sums, so a training set is "all minus the fold":
one Gram matrix serves every fold and every label column (true, control task, permuted). Shapes: N rows, D dimensions, K label columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from saebias.errors import InputError


@dataclass(frozen=True)
class Discriminant:
    """Weights in the space of the raw input: score = x @ weights_DK - offset_K, above 0 for label 1; both classes count alike whatever their sizes."""

    weights_DK: np.ndarray
    offset_K: np.ndarray
    mean_D: np.ndarray


@dataclass(frozen=True)
class Moments:
    """Sums over rows that determine a fit; subtracting the moments of a fold leaves those of its training set."""

    n: int
    sum_D: np.ndarray
    gram_DD: np.ndarray
    label_sum_DK: np.ndarray
    label_count_K: np.ndarray

    def __sub__(self, other: Moments) -> Moments:
        return Moments(
            self.n - other.n,
            self.sum_D - other.sum_D,
            self.gram_DD - other.gram_DD,
            self.label_sum_DK - other.label_sum_DK,
            self.label_count_K - other.label_count_K,
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.n + other.n,
            self.sum_D + other.sum_D,
            self.gram_DD + other.gram_DD,
            self.label_sum_DK + other.label_sum_DK,
            self.label_count_K + other.label_count_K,
        )

    def first_label(self) -> Moments:
        """The same rows with the first label column only."""
        return Moments(self.n, self.sum_D, self.gram_DD, self.label_sum_DK[:, :1], self.label_count_K[:1])


def moments(x_ND: np.ndarray, labels_NK: np.ndarray) -> Moments:
    """The moments of some rows. Centre x roughly beforehand: variances are differences of these sums."""
    labels = labels_NK.astype(x_ND.dtype)
    return Moments(len(x_ND), x_ND.sum(axis=0), x_ND.T @ x_ND, x_ND.T @ labels, labels.sum(axis=0))


def fit(rows: Moments, shrinkage: float) -> Discriminant:
    """The discriminant of a training set, each dimension scaled to unit variance inside it.

    The correlation matrix C is replaced by (1 - shrinkage) C + shrinkage * I, 0 < shrinkage <= 1 (Friedman 1989, JASA 84:165).
    Raises InputError when a label column is constant or no dimension varies.
    """
    if (rows.label_count_K == 0).any() or (rows.label_count_K == rows.n).any():
        raise InputError("a training fold holds one class only; use fewer folds or more clusters per class")
    mean_D = rows.sum_D / rows.n
    covariance_DD = rows.gram_DD / rows.n - np.outer(mean_D, mean_D)
    variance_D = np.diag(covariance_DD)
    # A dimension that does not vary in the training fold carries nothing: its weight becomes exactly 0.
    varies_D = variance_D > 1e-12 * variance_D.max()
    if not varies_D.any():
        raise InputError("no dimension varies in a training fold; check that the activations are not constant")
    scale_D = np.where(varies_D, 1 / np.sqrt(np.where(varies_D, variance_D, 1.0)), 0.0)
    shrunk_DD = (1 - shrinkage) * (covariance_DD * scale_D[:, None] * scale_D)
    shrunk_DD[np.diag_indices_from(shrunk_DD)] += shrinkage
    mean1_DK = rows.label_sum_DK / rows.label_count_K
    mean0_DK = (rows.sum_D[:, None] - rows.label_sum_DK) / (rows.n - rows.label_count_K)
    factor = linalg.cho_factor(shrunk_DD, lower=True, overwrite_a=True, check_finite=False)
    weights_DK = scale_D[:, None] * linalg.cho_solve(factor, scale_D[:, None] * (mean1_DK - mean0_DK), check_finite=False)
    return Discriminant(weights_DK, (weights_DK * (mean1_DK + mean0_DK) / 2).sum(axis=0), mean_D)
