"""Laws of shuffled batches."""

import numpy as np
import pytest
import torch

from saebias.errors import InputError
from saebias.sae.batches import ShuffledRows, n_batches, shuffled_batches
from saebias.sae.row_order import OrderSpec, RowOrder

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
    assert np.array_equal(row_numbers(read_ahead=False, buffer_rows=buffer_rows), row_numbers(read_ahead=True, buffer_rows=buffer_rows))


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
    with pytest.raises(InputError, match=r"rows \d+\.\.\d+ came back as float32 of shape \(99, 3\)"):
        next(shuffled_batches(lambda start, stop: numbered_rows(start, stop - 1), 1000, batch_size=10, epochs=1, seed=0, chunk_rows=100))


def two_hooks(start: int, stop: int) -> np.ndarray:
    return np.stack([numbered_rows(start, stop), -numbered_rows(start, stop)])


@pytest.mark.parametrize("buffer_rows", [10_000, 200, 7])
@pytest.mark.parametrize("done", [0, 1, 3, 15, 16, 22, 47])
def test_taken_up_anywhere_the_stream_goes_on_with_the_very_next_batch(buffer_rows, done):
    order = OrderSpec(N_ROWS, batch_size=64, epochs=3, seed=5, block_rows=50, buffer_rows=buffer_rows)
    with ShuffledRows(two_hooks, order) as whole, ShuffledRows(two_hooks, order) as resumed:
        for _ in range(done):
            whole.next_batch()
        resumed.restore(*whole.state())
        while (expected := whole.next_batch()) is not None:
            assert torch.equal(resumed.next_batch(), expected)
        assert resumed.next_batch() is None


def test_rows_held_in_memory_and_rows_read_again_give_the_same_batches():
    small = OrderSpec(N_ROWS, batch_size=64, epochs=2, seed=5, block_rows=50, buffer_rows=200)
    order, batches = RowOrder(small), list(shuffled_batches(numbered_rows, N_ROWS, batch_size=64, epochs=2, seed=5, chunk_rows=50, buffer_rows=200))
    for batch in batches:
        rows = np.concatenate([move.leaving for move in order.next_batch()])
        assert np.array_equal(batch.numpy(), numbered_rows(0, N_ROWS)[rows])


def test_memory_stays_within_the_buffer_however_many_rows_there_are():
    order = OrderSpec(40_000, batch_size=64, epochs=1, seed=5, block_rows=50, buffer_rows=200)
    with ShuffledRows(numbered_rows, order) as rows:
        rows.next_batch()
        assert rows._rows_LCD is not None
        assert rows._rows_LCD.shape[1] == order.held_rows == 200 + 100 + 64


def test_the_first_rows_are_those_of_the_first_batches_wherever_the_stream_stands():
    order = OrderSpec(N_ROWS, batch_size=64, epochs=2, seed=5, block_rows=50, buffer_rows=200)
    with ShuffledRows(two_hooks, order) as rows:
        batches = [rows.next_batch() for _ in range(3)]
        assert torch.equal(rows.first_rows(150), torch.cat(batches, dim=1)[:, :150])
        assert rows.first_rows(10**6).shape == (2, N_ROWS, 3)
