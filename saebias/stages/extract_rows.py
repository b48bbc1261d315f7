"""What of a caption's tokens is kept, and the index that says of every kept activation row which token it is.

Legend: P positions of one row of the model's batch (without padding), N kept rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from saebias.config.extract_schema import TokensConfig
from saebias.stages.extract_plan import Item

if TYPE_CHECKING:
    from saebias.vlm.prompts import PromptTokens

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Policy:
    """What decides which positions are kept."""

    tokens: TokensConfig
    image_token_id: int | None
    """The token that stands for a part of the picture; None where pictures are not in the sequence."""
    is_prefix_lm: bool
    seed: int

    def image_ordinals(self, sample_id: str, n_image: int) -> np.ndarray:
        """Which of a picture's tokens are kept, counted from 0, ascending: a function of seed and sample, so the same in both languages."""
        if self.tokens.image == "all":
            return np.arange(n_image)
        if self.tokens.image == "none":
            return np.arange(0)
        digest = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8])
        return np.sort(np.random.default_rng([self.seed, digest]).permutation(n_image)[: self.tokens.image])


@dataclass(frozen=True)
class Spoken:
    """A caption as tokens: behind the prompt (`behind`), or inside it at positions `inside`; `common` begins all F and M captions of the closed set."""

    prompt: PromptTokens
    behind: Ids
    inside: tuple[int, int] | None
    common: Ids | None


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the model's batch: its tokens, and what is kept of it.

    All arrays are of the kept positions, ascending; `kind_N` are codes of `positions.KINDS`, `offset` is the first place behind the item's start.
    """

    item: Item
    picture: int
    prompt: PromptTokens
    caption: Ids
    offset: int
    is_main: bool
    """Whether it is the item's own row, and not one run for its decision alone."""
    is_shown: bool
    """Whether the sample's own caption stands behind the prompt."""
    kind_P: np.ndarray
    position_N: np.ndarray
    decision_N: np.ndarray
    reads_N: np.ndarray

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return len(self.prompt.ids) + len(self.caption)

    @cached_property
    def ids(self) -> Ids:
        """Token ids."""
        return (*self.prompt.ids, *self.caption)

    @property
    def ids_P(self) -> np.ndarray:
        """Token ids as an array."""
        return np.array(self.ids)


def rows_of(item: Item, picture: int, spoken: Spoken, policy: Policy) -> list[Row]:
    """The rows that an item is run in: its own caption and, where the decision lies behind other words than it begins with, those.

    Where the caption is not shown, the row goes on with the words that F and M captions share, as far as the decision is kept.
    """
    common, tokens = spoken.common, policy.tokens
    is_shown = bool(spoken.behind)
    behind = spoken.behind if is_shown else (common or ()) if tokens.decision else ()
    decides = len(spoken.prompt.ids) - 1 + len(common) if common is not None and behind[: len(common)] == common else None
    main = _row(item, picture, spoken, behind, decides, policy, is_shown=is_shown)
    if common is None or decides is not None or not tokens.decision:
        return [main]
    last = len(spoken.prompt.ids) + len(common) - 1
    whole = _row(item, picture, spoken, common, last, policy, is_shown=False)
    only = whole.position_N == last
    extra = Row(item, picture, whole.prompt, whole.caption, len(main.position_N), False, False, whole.kind_P, *_cut(whole, only))
    return [main, extra]


def _cut(row: Row, mask_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return row.position_N[mask_N], row.decision_N[mask_N], row.reads_N[mask_N]


def _row(item: Item, picture: int, spoken: Spoken, behind: Ids, decides: int | None, policy: Policy, *, is_shown: bool) -> Row:
    from saebias.vlm.positions import CAPTION, IMAGE, PROMPT

    n_prompt = len(spoken.prompt.ids)
    position_P = np.arange(n_prompt + len(behind))
    kind_P = np.where(position_P < n_prompt, PROMPT, CAPTION).astype(np.uint8)
    image_P = np.zeros(len(kind_P), dtype=bool)
    image_P[:n_prompt] = np.array(spoken.prompt.ids) == policy.image_token_id
    kind_P[image_P] = IMAGE
    own_P = (position_P >= n_prompt) & is_shown
    if spoken.inside is not None:
        own_P = (position_P >= spoken.inside[0]) & (position_P < spoken.inside[1])
        kind_P[own_P] = CAPTION
    keep_P = ((kind_P == PROMPT) & policy.tokens.prompt) | (own_P & policy.tokens.caption)
    keep_P[np.flatnonzero(image_P)[policy.image_ordinals(item.sample.sample_id, int(image_P.sum()))]] = True
    decision_P = position_P == (-1 if decides is None else decides)
    keep_P |= (decision_P & policy.tokens.decision) | ((position_P == n_prompt - 1) & policy.tokens.last)
    reads_P = _reads(spoken, behind, position_P, is_shown=is_shown, is_prefix_lm=policy.is_prefix_lm)
    return Row(item, picture, spoken.prompt, behind, 0, True, is_shown, kind_P, position_P[keep_P], decision_P[keep_P], reads_P[keep_P])


def _reads(spoken: Spoken, behind: Ids, position_P: np.ndarray, *, is_shown: bool, is_prefix_lm: bool) -> np.ndarray:
    """Whether a position sees words of the sample's own caption other than those that F and M captions all begin with."""
    if spoken.inside is not None:
        return np.ones(len(position_P), dtype=bool) if is_prefix_lm else position_P >= spoken.inside[0]
    if not is_shown:
        return np.zeros(len(position_P), dtype=bool)
    shared = 0
    for own, common in zip(behind, spoken.common or (), strict=False):
        if own != common:
            break
        shared += 1
    return position_P >= len(spoken.prompt.ids) + shared


def index_table(rows: Sequence[Row], shard: int, shard_rows: int, prompt_ids: dict[str, str], token_texts: dict[int, str]) -> pa.Table:
    """The row index of a shard, in order of its activation rows; `prompt_ids` per language, `token_texts` of all tokens kept (see `kept_ids`)."""
    from saebias.store.tables import arrow_schemas
    from saebias.vlm.positions import KINDS

    if not rows:
        return arrow_schemas()["token_rows"].empty_table()
    rows = sorted(rows, key=lambda row: row.item.start + row.offset)
    counts = [len(row.position_N) for row in rows]
    token_N = np.concatenate([row.ids_P[row.position_N] for row in rows])
    ids, inverse = np.unique(token_N, return_inverse=True)
    columns: dict[str, Any] = {
        "shard": np.full(sum(counts), shard),
        "row": np.concatenate([row.item.start + row.offset + np.arange(count) for row, count in zip(rows, counts, strict=True)]) + shard * shard_rows,
        "sample_id": _repeated([row.item.sample.sample_id for row in rows], counts),
        "language": _repeated([row.item.language for row in rows], counts),
        "split": _repeated([row.item.sample.split for row in rows], counts),
        "prompt_id": _repeated([prompt_ids[row.item.language] for row in rows], counts),
        "position": np.concatenate([row.position_N for row in rows]),
        "token_id": token_N,
        "token": pa.array(np.array([token_texts[int(token)] for token in ids], dtype=object)[inverse], pa.string()),
        "token_kind": pa.array(np.array(KINDS, dtype=object)[np.concatenate([row.kind_P[row.position_N] for row in rows])], pa.string()),
        "decision": np.concatenate([row.decision_N for row in rows]),
        "last": np.concatenate([row.position_N == len(row.prompt.ids) - 1 for row in rows]),
        "reads_caption": np.concatenate([row.reads_N for row in rows]),
    }
    return pa.table({name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()})


def _repeated(texts: Sequence[str], counts: Sequence[int]) -> pa.Array:
    return pa.array(np.repeat(np.array(texts, dtype=object), counts), pa.string())


def kept_ids(rows: Sequence[Row]) -> set[int]:
    """The token ids of all kept rows."""
    return {int(token) for row in rows for token in np.unique(row.ids_P[row.position_N])}


def status_row(item: Item, n_rows: int, reason: str | None = None) -> dict[str, Any]:
    """A row of `extract_status`: done with its number of rows, or failed with the reason."""
    return {
        "sample_id": item.sample.sample_id,
        "language": item.language,
        "status": "done" if reason is None else "failed",
        "reason": reason,
        "n_rows": n_rows,
    }
