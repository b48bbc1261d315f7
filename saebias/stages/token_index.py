"""The index of the activation rows as numpy columns, and the choices of rows that stages make from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext


@dataclass(frozen=True)
class TokenIndex:
    """Which token of which sample each activation row is; all arrays [N], in order of `row`."""

    row: np.ndarray
    sample_id: np.ndarray
    language: np.ndarray
    split: np.ndarray
    position: np.ndarray
    token_kind: np.ndarray
    decision: np.ndarray
    last: np.ndarray
    """Whether the row is the last position of its prompt."""
    reads_caption: np.ndarray
    """Whether the row can see words of the sample's own caption that could tell the gender."""

    def where(self, mask: np.ndarray) -> TokenIndex:
        """The rows that `mask` [N] keeps."""
        return TokenIndex(**{name: getattr(self, name)[mask] for name in self.__dataclass_fields__})

    def __len__(self) -> int:
        return len(self.row)


def token_index(ctx: StageContext) -> TokenIndex:
    """The row index of the extract run that this stage stands on."""
    table = ctx.table("token_rows").sort_by("row")
    return TokenIndex(**{name: text_column(table, name) for name in TokenIndex.__dataclass_fields__})


def text_column(table: pa.Table, name: str) -> np.ndarray:
    """A column as numpy; equal texts are one object, so that many rows take little memory."""
    column = table[name]
    if pa.types.is_string(column.type):
        # Few distinct texts: decode each once instead of once a row. Missing ones point behind the last.
        encoded = column.combine_chunks().dictionary_encode()
        texts = [*encoded.dictionary.to_pylist(), None]
        return np.array(texts, dtype=object)[encoded.indices.fill_null(len(texts) - 1).to_numpy()]
    return column.to_numpy()


def balanced_rows(index: TokenIndex, max_rows: int, seed: int) -> np.ndarray:
    """At most `max_rows` positions of the index, spread evenly over (token kind, language), sorted; smaller groups are taken whole.

    Raises InputError when the index is empty.
    """
    if len(index) == 0:
        raise InputError("no activation rows in this split; extract more samples or change data.split")
    groups = [
        np.flatnonzero((index.token_kind == kind) & (index.language == language))
        for kind, language in sorted(set(zip(index.token_kind, index.language, strict=True)))
    ]
    rng = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    left = max_rows
    for number, group in enumerate(sorted(groups, key=len)):
        share = left // (len(groups) - number)
        taken = group if len(group) <= share else rng.choice(group, size=share, replace=False)
        chosen.append(taken)
        left -= len(taken)
    return np.sort(np.concatenate(chosen))
