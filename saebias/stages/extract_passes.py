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

    `*_index` are (row, column) indices into the pass or the prefix state, `*_place` rows of the shard, `*_row` which of the rows it was.
    """

    new_index: tuple[np.ndarray, np.ndarray]
    new_place: np.ndarray
    new_row: np.ndarray
    old_index: tuple[np.ndarray, np.ndarray]
    old_place: np.ndarray
    old_row: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row], columns: int, pass_row_B: np.ndarray, state_row_B: np.ndarray) -> Places:
        """The places of `rows`, which stand in rows `pass_row_B` of a pass whose first `columns` positions are in the prefix state's rows `state_row_B`."""
        counts = [len(row.position_N) for row in rows]
        row_N = np.repeat(np.arange(len(rows)), counts)
        position_N = np.concatenate([row.position_N for row in rows])
        place_N = np.concatenate([row.item.start + row.offset + np.arange(count) for row, count in zip(rows, counts, strict=True)])
        is_new = position_N >= columns
        return cls(
            (pass_row_B[row_N[is_new]], position_N[is_new] - columns),
            place_N[is_new],
            row_N[is_new],
            (state_row_B[row_N[~is_new]], position_N[~is_new]),
            place_N[~is_new],
            row_N[~is_new],
        )

    def new(self, x_BTD: Tensor) -> Tensor:
        """The kept vectors of a pass, [N, D]."""
        return _picked(x_BTD, self.new_index)

    def old(self, x_GCD: Tensor) -> Tensor:
        """The kept vectors of the prefix state, [N, D]."""
        return _picked(x_GCD, self.old_index)


def _picked(x_BTD: Tensor, index: tuple[np.ndarray, np.ndarray]) -> Tensor:
    """The vectors at (row, column), [N, D]; whole rows of a flat table are copied far quicker than by an index of two parts."""
    import torch

    # The index goes where the layer is: a model spread over several devices has outputs in several places.
    flat_N = torch.from_numpy(index[0] * x_BTD.shape[1] + index[1]).to(x_BTD.device, non_blocking=True)
    return x_BTD.flatten(0, 1).index_select(0, flat_N)


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
