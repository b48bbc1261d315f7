"""Laws of shuffled batches."""

import numpy as np
import pytest
import torch

from saebias.errors import InputError
from saebias.sae.batches import n_batches, shuffled_batches

N_ROWS = 1003


def numbered_rows(start: int, stop: int) -> np.ndarray:
    return np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], 3, axis=1)


def row_numbers(**options: int) -> np.ndarray:
    settings = {"batch_size": 64, "epochs": 3, "seed": 5, "chunk_rows": 50, "buffer_rows": 10_000} | options
    batches = list(shuffled_batches(numbered_rows, N_ROWS, **settings))
    assert len(batches) == n_batches(N_ROWS, batch_size=settings["batch_size"], epochs=settings["epochs"])
    assert all(len(batch) == settings["batch_size"] for batch in batches[:-1])
    return torch.cat(batches)[:, 0].numpy().astype(int)


@pytest.mark.parametrize("buffer_rows", [10_000, 200, 50, 7])
def test_every_row_comes_exactly_once_an_epoch(buffer_rows):
    rows = row_numbers(buffer_rows=buffer_rows).reshape(3, N_ROWS)
    assert all(np.array_equal(np.sort(epoch), np.arange(N_ROWS)) for epoch in rows)
    assert not np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("buffer_rows", [10_000, 200])
def test_threads_that_read_ahead_do_not_change_a_batch(buffer_rows):
    assert np.array_equal(row_numbers(read_ahead=0, buffer_rows=buffer_rows), row_numbers(read_ahead=4, buffer_rows=buffer_rows))


def test_the_seed_decides_the_order():
    assert np.array_equal(row_numbers(seed=5), row_numbers(seed=5))
    assert not np.array_equal(row_numbers(seed=5), row_numbers(seed=6))


def test_the_buffer_mixes_rows_of_distant_chunks():
    first_batch = row_numbers(buffer_rows=500, epochs=1)[:64]
    assert len(np.unique(first_batch // 50)) >= 8


def test_rows_are_read_in_whole_chunks_only():
    seen = []

    def watched(start: int, stop: int) -> np.ndarray:
        seen.append((start, stop))
        return numbered_rows(start, stop)

    list(shuffled_batches(watched, N_ROWS, batch_size=64, epochs=2, seed=1, chunk_rows=100, buffer_rows=300))
    assert len(seen) == 22
    assert all(start % 100 == 0 and stop == min(start + 100, N_ROWS) for start, stop in seen)


def test_fewer_rows_than_a_batch_are_refused_before_anything_is_read():
    with pytest.raises(InputError, match="1003 rows are fewer than one batch of 2048"):
        shuffled_batches(numbered_rows, N_ROWS, batch_size=2048, epochs=1, seed=0)


def test_a_reader_that_gives_a_wrong_shape_is_named():
    with pytest.raises(InputError, match=r"rows 0\.\.100 came back as float32 of shape \(99, 3\)"):
        next(shuffled_batches(lambda start, stop: numbered_rows(start, stop - 1), 1000, batch_size=10, epochs=1, seed=0, chunk_rows=100))
