"""Shuffled batches from rows that are read in whole chunks: every row exactly once an epoch, memory bounded.

Shapes: N rows, B rows of a batch, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError

ReadRows = Callable[[int, int], np.ndarray]
"""`read_rows(start, stop)` gives the rows start..stop as an array [stop - start, D]."""


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
    buffer_rows: int = 131_072,
    read_ahead: int = 1,
) -> Iterator[Tensor]:
    """Batches [B, D] float32 in which every row comes exactly once an epoch; raises InputError when there are fewer rows than one batch.

    Up to `buffer_rows` rows are held in memory and permuted anew each epoch. Beyond that, whole chunks of `chunk_rows` are read in a permuted order and
    their rows change places with random rows of the buffer (single rows are never read). `read_ahead` chunks are fetched by threads; the order, and so
    every batch, is the same for any number of them.
    """
    if batch_size < 1 or epochs < 1 or chunk_rows < 1 or buffer_rows < 1:
        raise InputError(f"batch size {batch_size}, epochs {epochs}, chunk {chunk_rows} and buffer {buffer_rows} rows must all be at least 1")
    if n_rows < batch_size:
        raise InputError(f"{n_rows} rows are fewer than one batch of {batch_size}; extract more rows or lower the batch size")
    rng = np.random.default_rng(seed)
    in_memory = n_rows <= buffer_rows
    pieces = (
        _permuted_rows(read_rows, n_rows, epochs, rng, chunk_rows, read_ahead, batch_size)
        if in_memory
        else _buffered_rows(read_rows, n_rows, epochs, rng, chunk_rows, max(buffer_rows, chunk_rows), read_ahead)
    )
    return _rebatched(pieces, batch_size)


def _permuted_rows(
    read_rows: ReadRows, n_rows: int, epochs: int, rng: np.random.Generator, chunk_rows: int, read_ahead: int, piece_rows: int
) -> Iterator[np.ndarray]:
    rows_ND = np.concatenate(list(_chunks(read_rows, _chunk_bounds(n_rows, chunk_rows), read_ahead)))
    for _ in range(epochs):
        order_N = rng.permutation(n_rows)
        for start in range(0, n_rows, piece_rows):
            yield rows_ND[order_N[start : start + piece_rows]]


def _buffered_rows(
    read_rows: ReadRows, n_rows: int, epochs: int, rng: np.random.Generator, chunk_rows: int, buffer_rows: int, read_ahead: int
) -> Iterator[np.ndarray]:
    bounds = _chunk_bounds(n_rows, chunk_rows)
    for _ in range(epochs):
        chunks = _chunks(read_rows, [bounds[i] for i in rng.permutation(len(bounds))], read_ahead)
        held: list[np.ndarray] = []
        while sum(map(len, held)) < buffer_rows and (chunk := next(chunks, None)) is not None:
            held.append(chunk)
        buffer_ND = np.concatenate(held)
        for chunk in chunks:
            places = rng.choice(len(buffer_ND), size=len(chunk), replace=False)
            leaving = buffer_ND[places]
            buffer_ND[places] = chunk
            yield leaving
        yield buffer_ND[rng.permutation(len(buffer_ND))]


def _chunk_bounds(n_rows: int, chunk_rows: int) -> list[tuple[int, int]]:
    return [(start, min(start + chunk_rows, n_rows)) for start in range(0, n_rows, chunk_rows)]


def _chunks(read_rows: ReadRows, bounds: list[tuple[int, int]], read_ahead: int) -> Iterator[np.ndarray]:
    if read_ahead < 1:
        for start, stop in bounds:
            yield _read_chunk(read_rows, start, stop)
        return
    with ThreadPoolExecutor(read_ahead) as pool:
        waiting = [pool.submit(_read_chunk, read_rows, *bound) for bound in bounds[:read_ahead]]
        for i in range(len(bounds)):
            chunk = waiting.pop(0).result()
            if i + read_ahead < len(bounds):
                waiting.append(pool.submit(_read_chunk, read_rows, *bounds[i + read_ahead]))
            yield chunk


def _read_chunk(read_rows: ReadRows, start: int, stop: int) -> np.ndarray:
    chunk = np.asarray(read_rows(start, stop))
    if chunk.ndim != 2 or len(chunk) != stop - start or not np.issubdtype(chunk.dtype, np.floating):
        raise InputError(f"rows {start}..{stop} came back as {chunk.dtype} of shape {chunk.shape}; expected floats of shape ({stop - start}, width)")
    return chunk.astype(np.float32, copy=False)


def _rebatched(pieces: Iterator[np.ndarray], batch_size: int) -> Iterator[Tensor]:
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting < batch_size:
            continue
        rows_ND = np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
        n_whole = n_waiting - n_waiting % batch_size
        for start in range(0, n_whole, batch_size):
            yield torch.from_numpy(rows_ND[start : start + batch_size])
        waiting, n_waiting = [rows_ND[n_whole:]], n_waiting - n_whole
    if n_waiting:
        yield torch.from_numpy(np.concatenate(waiting))
