"""Codes of a dictionary on many rows, kept sparse: a row has a few dozen active latents of thousands, so a million rows fit where dense ones could not.

Shapes: N rows, F latents, K chosen latents, U units (clusters, lexemes), S strata, R permutations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from saebias.errors import InputError

# Latents are taken in blocks of about so many non-zero codes: sorting them needs a few times as much memory.
_BLOCK_NONZERO = 2_000_000


@dataclass(frozen=True, eq=False)
class SparseCodes:
    """Codes [N, F], none negative, stored by latent; what the tools on latents read. `of` takes dense codes, `from_chunks` any number of rows."""

    matrix: sparse.csc_array

    @classmethod
    def of(cls, codes: ArrayLike | SparseCodes, name: str = "codes") -> SparseCodes:
        """`codes` (dense [N, F], or sparse already) as sparse codes; raises InputError naming the array for a value that is NaN, infinite or negative."""
        if isinstance(codes, SparseCodes):
            return codes
        return cls.from_chunks([np.asarray(codes)], name=name)

    @classmethod
    def from_chunks(cls, chunks: Iterable[np.ndarray], *, name: str = "codes") -> SparseCodes:
        """The rows of dense chunks [N_i, F], one after another; memory is 16 bytes for every active latent of every row and one chunk.

        Raises InputError for no chunk, chunks of different width, and values that are NaN, infinite or negative.
        """
        parts = []
        first = 0
        for chunk_NF in chunks:
            parts.append(_sparse_rows(chunk_NF, name, first))
            first += len(chunk_NF)
        if len({part.shape[1] for part in parts}) != 1:
            raise InputError(f"{name} come in {len(parts)} chunks of {sorted({part.shape[1] for part in parts})} latents; all rows need the same dictionary")
        whole = parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")
        parts.clear()
        return cls(whole.tocsc())

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return self.matrix.shape[0]

    @property
    def n_latents(self) -> int:
        """Number of latents F, silent ones counted."""
        return self.matrix.shape[1]

    def __len__(self) -> int:
        return self.n_rows

    @property
    def fires_F(self) -> np.ndarray:
        """Rows on which each latent fires, counts [F]."""
        return np.diff(self.matrix.indptr)

    @property
    def sum_F(self) -> np.ndarray:
        """Sum of each latent's codes [F], float64."""
        return np.asarray(self.matrix.sum(axis=0, dtype=np.float64)).ravel()

    @property
    def live(self) -> np.ndarray:
        """Latents that fire at least once, sorted."""
        return np.flatnonzero(self.fires_F)

    def rows(self, keep: np.ndarray) -> SparseCodes:
        """The rows that a mask [N] or row numbers choose."""
        return SparseCodes(self.matrix.tocsr()[keep].tocsc())

    def columns(self, latents: np.ndarray) -> np.ndarray:
        """Dense codes [N, K] of a shortlist of latents, float64."""
        return self.matrix[:, latents].toarray().astype(np.float64)

    def mean_F(self, keep_N: np.ndarray) -> np.ndarray:
        """Mean code of each latent over the rows marked True [F]."""
        return np.asarray(self.matrix.T @ keep_N.astype(np.float64)) / keep_N.sum()

    def blocks(self) -> Iterator[slice]:
        """Consecutive latents whose active codes fit into memory when they are sorted."""
        start = 0
        while start < self.n_latents:
            room = self.matrix.indptr[start] + _BLOCK_NONZERO
            stop = max(start + 1, int(np.searchsorted(self.matrix.indptr, room, side="right")) - 1)
            yield slice(start, min(stop, self.n_latents))
            start = stop


def _sparse_rows(chunk_NF: np.ndarray, name: str, first: int) -> sparse.csr_array:
    """A dense chunk, checked, as sparse rows; `first` is the number of its first row."""
    if chunk_NF.ndim != 2 or chunk_NF.dtype.kind not in "biuf":
        raise InputError(f"{name} have shape {chunk_NF.shape} and type {chunk_NF.dtype}; hand in numbers [rows, latents]")
    # Double precision in, double out: a rank statistic must not tie codes that differ.
    chunk_NF = np.ascontiguousarray(chunk_NF, dtype=np.float32 if chunk_NF.dtype == np.float32 else np.float64)
    # Of a mask the few places are found by words, not number by number: several times as fast as asking the numbers themselves.
    active = np.flatnonzero(chunk_NF != 0)
    row, column = np.divmod(active, max(1, chunk_NF.shape[1]))
    value = chunk_NF.ravel()[active]
    bad = np.flatnonzero(~np.isfinite(value))
    if len(bad):
        place = f"row {first + int(row[bad[0]])}, latent {int(column[bad[0]])}"
        raise InputError(f"{name} hold {len(bad)} values that are not finite (the first in {place}); leave those rows out")
    if (value < 0).any():
        raise InputError(f"{name} hold {int((value < 0).sum())} negative values; codes of an SAE are never negative, encode the rows first")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(chunk_NF)))])
    return sparse.csr_array((value, column.astype(np.int32), starts.astype(np.int32)), shape=chunk_NF.shape)


@dataclass(frozen=True, eq=False)
class RankSums:
    """Centred doubled ranks of a block of latents, 2 rank - (n + 1), summed by unit.

    A silent row has the rank `zero_SF` of its stratum; `above_UF` (sparse) is what a unit's active rows lie above it. Their sum is all a rank
    statistic needs, and costs what the active codes cost.
    """

    zero_SF: np.ndarray
    above_UF: sparse.csr_array

    def of_labels(self, labels_RU: np.ndarray, size_RS: np.ndarray) -> np.ndarray:
        """Rank sums [R, F] of the units labelled 1 in `labels_RU`, of which stratum s holds `size_RS` rows."""
        return np.asarray(self.above_UF.T @ labels_RU.T).T + size_RS @ self.zero_SF


def rank_sums(codes: SparseCodes, block: slice, unit_N: np.ndarray, n_units: int, stratum_N: np.ndarray | None = None, scale: bool = False) -> RankSums:
    """The rank sums of the latents of a block, ranked within strata (0, 1, ...; None is one); `scale` divides ranks by their stratum's size.

    Ties share their mean rank, so the many zeros of a sparse latent are no evidence.
    """
    part = codes.matrix[:, block]
    stratum_N = np.zeros(codes.n_rows, dtype=np.int64) if stratum_N is None else stratum_N
    size_S = np.bincount(stratum_N)
    row, column, value = part.indices, np.repeat(np.arange(part.shape[1]), np.diff(part.indptr)), part.data
    group = column * len(size_S) + stratum_N[row]
    order = _order(group, value)
    row, group, value = row[order], group[order], value[order]
    active = np.bincount(group, minlength=part.shape[1] * len(size_S))
    ends = np.cumsum(active)
    place = np.arange(1, len(value) + 1) - (ends - active)[group]
    zeros = (np.tile(size_S, part.shape[1]) - active)[group]
    above = zeros + 2 * _tie_means(place, group, value) - 1
    weight_S = 1 / np.maximum(size_S, 1) if scale else np.ones(len(size_S))
    above_UF = sparse.coo_array((above * weight_S[stratum_N[row]], (unit_N[row], group // len(size_S))), shape=(n_units, part.shape[1]))
    zero_FS = -active.reshape(part.shape[1], len(size_S)) * weight_S
    return RankSums(zero_FS.T.astype(np.float64), above_UF.tocsr())


def _order(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Places sorted by (group, value), equal ones in any order; no value is negative.

    The bits of positive single-precision numbers are ordered as the numbers are, so both make one integer, sorted several times faster than two keys.
    """
    if value.dtype != np.float32:
        return np.lexsort((value, group))
    return np.argsort((group.astype(np.uint64) << np.uint64(32)) | np.ascontiguousarray(value).view(np.uint32))


def _tie_means(place: np.ndarray, group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Places averaged over equal values of one group; all sorted by (group, value)."""
    new = np.ones(len(value), dtype=bool)
    new[1:] = (group[1:] != group[:-1]) | (value[1:] != value[:-1])
    tie = np.cumsum(new) - 1
    return (np.bincount(tie, weights=place) / np.bincount(tie))[tie] if len(tie) else place.astype(np.float64)
