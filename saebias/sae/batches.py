"""Shuffled batches from rows that are read in whole blocks: every row exactly once an epoch, memory bounded, to be taken up anywhere.

Shapes: N rows, B rows of a batch, C rows in memory, L hook points, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.sae.row_order import OrderSpec, RowOrder

ReadRows = Callable[[int, int], np.ndarray]
"""`read_rows(start, stop)` gives the rows start..stop as an array [stop - start, D], or [L, stop - start, D] for several hook points."""


def n_batches(n_rows: int, *, batch_size: int, epochs: int) -> int:
    """How many batches `shuffled_batches` yields: epochs follow each other without a gap, only the very last batch may be short."""
    return -(-n_rows * epochs // batch_size)


def shuffled_batches(
    read_rows: ReadRows,
    n_rows: int,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    chunk_rows: int = 8192,
    buffer_rows: int = 65_536,
    read_ahead: bool = True,
) -> Iterator[Tensor]:
    """Batches [B, D] float32 of one hook point in which every row comes exactly once an epoch; `ShuffledRows` says how.

    Raises InputError when there are fewer rows than one batch.
    """
    order = OrderSpec(n_rows, batch_size=batch_size, epochs=epochs, seed=seed, block_rows=chunk_rows, buffer_rows=buffer_rows)
    return _first_hook(ShuffledRows(read_rows, order, read_ahead=read_ahead))


def _first_hook(rows: ShuffledRows) -> Iterator[Tensor]:
    with rows:
        while (batch_LBD := rows.next_batch()) is not None:
            yield batch_LBD[0]


class ShuffledRows:
    """Batches [L, B, D] in the order of a `RowOrder`, while at most `order.held_rows` rows are in memory; close it, or use it in a `with` block.

    The activations of rows that wait stand in one array; a row that enters takes the place of one that has left. Where all rows fit they are read once and
    stay. A thread reads the next block meanwhile. Neither changes a batch.
    """

    def __init__(self, read_rows: ReadRows, order: OrderSpec, *, read_ahead: bool = True) -> None:
        self._read, self._spec, self._order = read_rows, order, RowOrder(order)
        self._stays = order.n_rows <= order.buffer_rows
        self._rows_LCD: np.ndarray | None = None
        self._free = np.arange(min(order.held_rows, order.n_rows))[::-1].copy()
        self._n_free = len(self._free)
        self._place_N = np.full(order.n_rows, -1, dtype=np.int32)
        self._pool = ThreadPoolExecutor(1) if read_ahead else None
        self._ahead: tuple[int, Future[np.ndarray]] | None = None

    def __enter__(self) -> ShuffledRows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the reading thread; a block it is at is finished first."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def next_batch(self) -> Tensor | None:
        """The next batch [L, B, D] float32, the last of all possibly short; None after the last epoch. Raises InputError for a reader that gives other rows."""
        parts = []
        for move in self._order.next_batch():
            for block in move.entering:
                self._enter(block)
            assert self._rows_LCD is not None
            places = self._place_N[move.leaving]
            assert (places >= 0).all()
            parts.append(self._rows_LCD[:, places])
            if not self._stays:
                self._free[self._n_free : self._n_free + len(places)] = places
                self._n_free += len(places)
                self._place_N[move.leaving] = -1
        return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)) if parts else None

    def first_rows(self, n_rows: int) -> Tensor:
        """The first `n_rows` rows [L, N, D] (or all) of the order from its beginning, wherever this stream stands: a training takes its scale from them."""
        fresh, chosen = RowOrder(self._spec), list[np.ndarray]()
        while sum(map(len, chosen)) < min(n_rows, self._spec.n_rows):
            chosen += [move.leaving for move in fresh.next_batch()]
        return torch.from_numpy(self._gathered(np.concatenate(chosen)[: min(n_rows, self._spec.n_rows)]))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The position in the data: tensors of row numbers, and facts that are plain JSON. The activations are read again."""
        arrays, facts = self._order.state()
        return {name: torch.from_numpy(rows) for name, rows in arrays.items()}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on with the batch that followed when `state` was called; reads each block once that a waiting row lies in. Only before the first batch."""
        assert self._rows_LCD is None, "a stream is taken up before its first batch"
        self._order.restore({name: rows.numpy() for name, rows in tensors.items()}, facts)
        rows = np.arange(self._spec.n_rows) if self._stays else np.sort(self._order.present)
        for block, inside in self._by_block(rows):
            self._put(rows[inside], self._block(block)[:, rows[inside] - self._spec.block(block)[0]])

    def _enter(self, block: int) -> None:
        rows = np.arange(*self._spec.block(block))
        if self._stays and self._place_N[rows[0]] >= 0:
            return
        if self._ahead is not None and self._ahead[0] == block:
            values_LND, self._ahead = self._checked(self._ahead[1].result(), block), None
        else:
            values_LND = self._block(block)
        if self._pool is not None and self._ahead is None and (upcoming := self._order.next_block) is not None:
            self._ahead = (upcoming, self._pool.submit(self._read, *self._spec.block(upcoming)))
        self._put(rows, values_LND)

    def _put(self, rows: np.ndarray, values_LND: np.ndarray) -> None:
        if self._rows_LCD is None:
            self._rows_LCD = np.empty((len(values_LND), len(self._free), values_LND.shape[2]), dtype=np.float32)
        self._n_free -= len(rows)
        assert self._n_free >= 0, "more rows wait than places were made for"
        places = self._free[self._n_free : self._n_free + len(rows)]
        self._rows_LCD[:, places] = values_LND
        self._place_N[rows] = places

    def _gathered(self, rows: np.ndarray) -> np.ndarray:
        """Any rows [L, N, D], in the order given, by reading the blocks they lie in."""
        sorted_rows = np.sort(rows)
        found = [self._block(block)[:, sorted_rows[inside] - self._spec.block(block)[0]] for block, inside in self._by_block(sorted_rows)]
        return np.concatenate(found, axis=1)[:, np.searchsorted(sorted_rows, rows)]

    def _by_block(self, sorted_rows: np.ndarray) -> Iterator[tuple[int, slice]]:
        for block in np.unique(sorted_rows // self._spec.block_rows).tolist():
            yield block, slice(*np.searchsorted(sorted_rows, self._spec.block(block)))

    def _block(self, block: int) -> np.ndarray:
        return self._checked(self._read(*self._spec.block(block)), block)

    def _checked(self, read: np.ndarray, block: int) -> np.ndarray:
        start, stop = self._spec.block(block)
        values = np.asarray(read)
        if values.ndim not in (2, 3) or values.shape[-2] != stop - start or not np.issubdtype(values.dtype, np.floating):
            raise InputError(f"rows {start}..{stop} came back as {values.dtype} of shape {values.shape}; expected floats of shape ({stop - start}, width)")
        return values.astype(np.float32, copy=False).reshape(-1, *values.shape[-2:])
