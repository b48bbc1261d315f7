"""The index of the activation rows as numpy columns, and the choices of rows that stages make from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext

if TYPE_CHECKING:
    from saebias.store.arrays import ActivationArray

SAME = 0.01
"""Two vectors are the same when their distance is at most this share of their length: more than bfloat16 rounds, less than any picture changes."""


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


def balanced_rows(index: TokenIndex, max_rows: int, seed: int, weights: Mapping[tuple[str, str], float] | None = None) -> np.ndarray:
    """At most `max_rows` positions of the index, sorted, spread over (token kind, language) evenly or as `weights` says; smaller groups are taken whole.

    Raises InputError when the index is empty.
    """
    if len(index) == 0:
        raise InputError("no activation rows in this split; extract more samples or change data.split")
    groups = [
        (1.0 if weights is None else weights[kind, language], np.flatnonzero((index.token_kind == kind) & (index.language == language)))
        for kind, language in sorted(set(zip(index.token_kind, index.language, strict=True)))
    ]
    groups = sorted(((weight, group) for weight, group in groups if weight > 0), key=lambda pair: len(pair[1]) / pair[0])
    rng = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    left, weight_left = max_rows, sum(weight for weight, _ in groups)
    for number, (weight, group) in enumerate(groups):
        # What a small group leaves is shared among the rest; the last takes all that is left, whatever was rounded.
        share = left if number == len(groups) - 1 else int(left * weight / weight_left)
        taken = group if len(group) <= share else rng.choice(group, size=share, replace=False)
        chosen.append(taken)
        left, weight_left = left - len(taken), weight_left - weight
    return np.sort(np.concatenate(chosen))


def unseen_rows(array: ActivationArray, index: TokenIndex) -> TokenIndex:
    """The rows of images never trained on, without the prompt tokens that hold the same vector in every image.

    What precedes the picture (in a model that reads text alone, the whole prompt) was learned from already, whichever image it is taken from.
    """
    held_out = index.where(index.split != "sae")
    is_prompt = index.token_kind == "prompt"
    seen = np.zeros(len(held_out), dtype=bool)
    for language in np.unique(held_out.language):
        mine = (held_out.token_kind == "prompt") & (held_out.language == language)
        first = _first_sample(array, index.where(is_prompt & (index.language == language) & (index.split == "sae")))
        second = _first_sample(array, held_out.where(mine))
        same = [position for position in first.keys() & second.keys() if _is_same(first[position], second[position])]
        seen |= mine & np.isin(held_out.position, same)
    return held_out.where(~seen)


def _first_sample(array: ActivationArray, index: TokenIndex) -> dict[int, np.ndarray]:
    """The vectors of the first sample of the index at the last hook point, by position."""
    part = index.where(index.sample_id == index.sample_id[0]) if len(index) else index
    return dict(zip(part.position.tolist(), array.read_rows(array.hooks[-1], part.row), strict=True))


def _is_same(first_D: np.ndarray, second_D: np.ndarray) -> bool:
    return bool(np.linalg.norm(first_D.astype(float) - second_D) <= SAME * np.linalg.norm(first_D.astype(float)))
