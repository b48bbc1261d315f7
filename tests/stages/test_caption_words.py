"""Which rows are whole captions: none of an absent language, and no row that stands in for another beginning."""

from __future__ import annotations

import numpy as np

from saebias.stages.caption_words import _captions
from saebias.stages.token_index import TokenIndex


def index_of(samples: list[str], positions: list[int]) -> TokenIndex:
    n = len(samples)
    text, no = np.array(["x"] * n, dtype=object), np.zeros(n, dtype=bool)
    return TokenIndex(np.arange(n), np.array(samples, dtype=object), text, text, np.array(positions), text, no.copy(), no, no)


def test_a_language_without_captions_has_none() -> None:
    assert list(_captions(index_of([], []), np.array([], dtype=np.int64))) == []


def test_a_caption_ends_where_positions_start_again_and_one_with_a_hole_is_left_out() -> None:
    index = index_of(["a", "a", "a", "a", "b", "b", "c"], [5, 6, 7, 5, 5, 7, 9])
    found = list(_captions(index, np.arange(7) + 100))
    assert [(caption.sample_id, caption.token_ids) for caption in found] == [("a", (100, 101, 102)), ("c", (106,))]


def test_a_last_row_that_decides_behind_another_beginning_is_no_hole() -> None:
    index = index_of(["a", "a", "a"], [5, 6, 9])
    index.decision[2] = True
    assert [caption.token_ids for caption in _captions(index, np.arange(3))] == [(0, 1)]
