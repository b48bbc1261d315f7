"""Rows cut into passes, and where the kept vectors of a pass come from and go to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saebias.stages.extract_rows import Ids, Row

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Places:
    """Where the kept vectors of a pass come from and go to: those behind the shared prefix (`new`), and those in it (`old`).

    `*_index` are (row, column) index tensors into the pass or the prefix state, `*_place` rows of the shard, `*_row` which of the rows it was.
    """

    new_index: tuple[Tensor, Tensor]
    new_place: np.ndarray
    new_row: np.ndarray
    old_index: tuple[Tensor, Tensor]
    old_place: np.ndarray
    old_row: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row], columns: int, pass_row_B: np.ndarray, state_row_B: np.ndarray) -> Places:
        """The places of `rows`, which stand in rows `pass_row_B` of a pass whose first `columns` positions are in the prefix state's rows `state_row_B`."""
        import torch

        counts = [len(row.position_N) for row in rows]
        row_N = np.repeat(np.arange(len(rows)), counts)
        position_N = np.concatenate([row.position_N for row in rows])
        place_N = np.concatenate([row.item.start + row.offset + np.arange(count) for row, count in zip(rows, counts, strict=True)])
        is_new = position_N >= columns

        def index(row: np.ndarray, column: np.ndarray) -> tuple[Tensor, Tensor]:
            # On the processor: a model spread over several devices has its layers' outputs in several places.
            return torch.from_numpy(row), torch.from_numpy(column)

        return cls(
            index(pass_row_B[row_N[is_new]], position_N[is_new] - columns),
            place_N[is_new],
            row_N[is_new],
            index(state_row_B[row_N[~is_new]], position_N[~is_new]),
            place_N[~is_new],
            row_N[~is_new],
        )


def chunks(rows: Iterable[Row], budget: int) -> Iterator[list[list[Row]]]:
    """Rows of like length together, at most `budget` tokens (padding counted) to a pass, one row at least; rows of the same tokens and picture count once."""
    same: dict[tuple[int, Ids], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.length):
        same.setdefault((row.picture, row.ids), []).append(row)
    part: list[list[Row]] = []
    for alike in same.values():
        if part and (len(part) + 1) * alike[0].length > budget:
            yield part
            part = []
        part.append(alike)
    if part:
        yield part
