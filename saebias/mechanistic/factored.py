"""A product of two matrices that is never formed: W_dec W_U, W_O W_V, or activations through a map.

Singular values come from the QR factors of both sides, eigenvalues from the small product taken the other way round.
Shapes: A is [n, r], B is [r, m], the product [n, m]; r is small against n and m.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.stats.checks import finite


@dataclass(frozen=True, eq=False)
class Pca:
    """Principal components of rows: `components_KM` (unit rows), variance share of each, and the rows' scores [n, K]."""

    components_KM: np.ndarray
    variance_share_K: np.ndarray
    scores_NK: np.ndarray


@dataclass(frozen=True, eq=False)
class WideSide:
    """An orthonormal basis of the rows of a wide right factor [r, m], kept as the r x r maps to and from it: the basis itself is never formed.

    `to_rows_KR.T @ basis` is the factor and `basis = to_basis_KR @ factor`; directions of no length are left out, so K is at most r.
    """

    to_rows_KR: np.ndarray
    to_basis_KR: np.ndarray


def wide_side(right: np.ndarray, block: int = 16_384) -> WideSide:
    """What many products with one wide right side share, from its Gram matrix in float64; in blocks, so that no second array of its size is made."""
    gram = np.zeros((len(right), len(right)))
    for start in range(0, right.shape[1], block):
        part = right[:, start : start + block].astype(np.float64)
        gram += part @ part.T
    values, vectors = np.linalg.eigh(finite(gram, "the product of the right factor with itself"))
    kept = values > max(values[-1], 0.0) * len(right) * np.finfo(np.float64).eps
    length_K, vectors_KR = np.sqrt(values[kept]), vectors[:, kept].T
    return WideSide((length_K[:, None] * vectors_KR).astype(right.dtype), (vectors_KR / length_K[:, None]).astype(right.dtype))


@dataclass(frozen=True, eq=False)
class FactoredMatrix:
    """The product `left @ right`, kept as its factors. Raises InputError for factors that do not fit or hold NaN."""

    left: np.ndarray
    right: np.ndarray
    wide: WideSide | None = None
    """`wide_side(right)`, where many products share one wide right side: it is then factored once."""

    # Makes `array @ factored` come here instead of being taken apart by numpy.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        for name, factor in (("left", self.left), ("right", self.right)):
            if factor.ndim != 2:
                raise InputError(f"the {name} factor has {factor.ndim} axes; a factored matrix needs two matrices")
            if not factor.size:
                raise InputError(f"the {name} factor has shape {factor.shape}: nothing in it; a factored matrix needs rows and columns")
            # NaN anywhere in a wide right side is in its small map, too, and that was made once for many products.
            finite(factor if name == "left" or self.wide is None else self.wide.to_rows_KR, f"the {name} factor")
        if self.left.shape[1] != self.right.shape[0]:
            raise InputError(f"factors of shape {self.left.shape} and {self.right.shape} cannot be multiplied; their inner sizes must agree")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the product."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def T(self) -> FactoredMatrix:
        """The transpose."""
        return FactoredMatrix(self.right.T, self.left.T)

    def __matmul__(self, other: ArrayLike | FactoredMatrix) -> FactoredMatrix | np.ndarray:
        """The product with a vector (a vector), a matrix or a factored matrix (factored again)."""
        if isinstance(other, FactoredMatrix):
            return FactoredMatrix(self.left, (self.right @ other.left) @ other.right)
        array = np.asarray(other)
        return self.left @ (self.right @ array) if array.ndim == 1 else FactoredMatrix(self.left, self.right @ array)

    def __rmatmul__(self, other: ArrayLike) -> FactoredMatrix | np.ndarray:
        """A vector (a vector) or a matrix (factored again) times the product."""
        array = np.asarray(other)
        return (array @ self.left) @ self.right if array.ndim == 1 else FactoredMatrix(array @ self.left, self.right)

    def row(self, index: int) -> np.ndarray:
        """One row of the product."""
        return self.left[index] @ self.right

    def dense(self) -> np.ndarray:
        """The product itself: for small matrices and tests."""
        return self.left @ self.right

    @cached_property
    def _right(self) -> tuple[np.ndarray, np.ndarray]:
        """QR factors of `right.T`."""
        basis, core = np.linalg.qr(self.right.T)
        return basis, core

    @cached_property
    def _core(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(basis of the left factor, U, S, Vt of the small product between the two bases)."""
        left_basis, left_core = np.linalg.qr(self.left)
        right_core = self._right[1] if self.wide is None else self.wide.to_rows_KR
        return left_basis, *np.linalg.svd(left_core @ right_core.T)

    def svd(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(U [n, k], S [k] descending, Vt [k, m]), k = min(n, r, m): the dense SVD without its zero part."""
        left_basis, u, s, _ = self._core
        return left_basis @ u[:, : len(s)], s, self.right_vectors(len(s))

    def right_vectors(self, count: int) -> np.ndarray:
        """The first right singular vectors [at most `count`, m], unit rows: a wide product's others need not be formed."""
        _, _, s, vt = self._core
        chosen = vt[: min(count, len(s))]
        return chosen @ self._right[0].T if self.wide is None else (chosen @ self.wide.to_basis_KR) @ self.right

    @property
    def singular_values(self) -> np.ndarray:
        """Singular values, largest first."""
        return self._core[2]

    def eigenvalues(self) -> np.ndarray:
        """The r eigenvalues of a square product that can differ from 0, by falling absolute value (complex): those of `right @ left`."""
        if self.shape[0] != self.shape[1]:
            raise InputError(f"a product of shape {self.shape} has no eigenvalues; they need a square one (use singular values)")
        values = np.linalg.eigvals(self.right @ self.left)
        return values[np.argsort(-np.abs(values))]

    def trace(self) -> float:
        """Trace of a square product: sum of left * right.T."""
        if self.shape[0] != self.shape[1]:
            raise InputError(f"a product of shape {self.shape} has no trace; it needs a square one")
        return float(np.einsum("nr,rn->", self.left, self.right))

    def norm(self) -> float:
        """Frobenius norm, from the two r x r Gram matrices."""
        right_gram = self.right @ self.right.T if self.wide is None else self.wide.to_rows_KR.T @ self.wide.to_rows_KR
        return float(np.sqrt(max(0.0, ((self.left.T @ self.left) * right_gram).sum())))

    def rank(self, energy: float | None = None) -> int:
        """Numerical rank, or the smallest number of singular values whose squares hold the share `energy` of their sum."""
        s = self.singular_values
        if energy is None:
            return int((s > s[0] * max(self.shape) * np.finfo(s.dtype).eps).sum()) if s[0] > 0 else 0
        if not 0 < energy <= 1:
            raise InputError(f"energy {energy} is not a share; choose one above 0 and at most 1")
        held = np.cumsum(self._spectrum())
        return int(np.searchsorted(held, energy * held[-1] * (1 - 1e-12)) + 1)

    def stable_rank(self) -> float:
        """Frobenius norm squared over spectral norm squared."""
        spectrum = self._spectrum()
        return float(spectrum.sum() / spectrum[0])

    def effective_rank(self) -> float:
        """exp of the Shannon entropy of the singular values' shares (Roy & Vetterli 2007, EUSIPCO)."""
        self._spectrum()
        share = self.singular_values / self.singular_values.sum()
        share = share[share > 0]
        return float(np.exp(-(share * np.log(share)).sum()))

    def participation_ratio(self) -> float:
        """(sum s^2)^2 / sum s^4 over the singular values s: for centred rows, how many axes carry the variance."""
        spectrum = self._spectrum()
        return float(spectrum.sum() ** 2 / (spectrum**2).sum())

    def centred_rows(self) -> FactoredMatrix:
        """The product with the mean row taken off each row: exact, by centring the left factor alone."""
        return FactoredMatrix(self.left - self.left.mean(axis=0), self.right, self.wide)

    def pca(self, k: int) -> Pca:
        """The first k principal components of the rows, centred."""
        u, s, vt = self.centred_rows().svd()
        if not 1 <= k <= len(s):
            raise InputError(f"k={k} components asked for, the product has {len(s)}; choose 1 to {len(s)}")
        if not s[0] > 0:
            raise InputError(f"all {self.shape[0]} rows of the product are equal; principal components need rows that vary")
        return Pca(vt[:k], s[:k] ** 2 / (s**2).sum(), u[:, :k] * s[:k])

    def _spectrum(self) -> np.ndarray:
        spectrum = self.singular_values**2
        if not spectrum[0] > 0:
            raise InputError(f"a product of shape {self.shape} is all 0; it has no spectrum")
        return spectrum
