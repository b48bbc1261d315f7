"""Activations that a dictionary cannot learn from, by the token they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from saebias.pipeline.stage import StageContext

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.stages.train_pass import TrainData

BLOCK = 16_384


def named_fault(ctx: StageContext, data: TrainData, hooks: Sequence[HookPoint]) -> str | None:
    """The first row that is NaN, infinite or all zero, among those learned from and judged on at these hook points: where it lies and which token it is.

    None when there is none: the fault is then none of single rows. Batches are shuffled, so a row's place in one tells nobody anything.
    """
    for hook in hooks:
        for rows, what in ((data.rows, "to learn from"), (data.validation, "to judge on")):
            blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
            bad = np.concatenate([_bad_rows(data, hook, block, may_be_zero=rows is data.validation) for block in blocks])
            if len(bad):
                kind = "NaN or infinite" if data.array.read_rows(hook, bad[:1]).any() else "all zero"
                return f"activation row {bad[0]} at {hook} ({_token(ctx, int(bad[0]))}) is {kind} ({len(bad)} such rows {what}); run `saebias extract --force`"
    return None


def _bad_rows(data: TrainData, hook: HookPoint, rows: np.ndarray, *, may_be_zero: bool) -> np.ndarray:
    x_ND = data.array.read_rows(hook, rows)
    return rows[~np.isfinite(x_ND).all(axis=1) | (~x_ND.any(axis=1) & (not may_be_zero))]


def _token(ctx: StageContext, row: int) -> str:
    from saebias.stages.token_index import token_index

    index = token_index(ctx)
    (place,) = np.flatnonzero(index.row == row)
    return f"sample {index.sample_id[place]}, {index.language[place]}, position {index.position[place]}, {index.token_kind[place]} token"
