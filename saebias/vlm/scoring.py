"""Exact log-probabilities of given continuations, from one pass over each prompt that all its continuations share.

Shapes: B rows (picture, prompt), C continuations of a row, Q pairs (row, continuation), T columns, V vocabulary. Logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from saebias.errors import InputError
from saebias.vlm.forward import Edit, Piece, PrefixState, caption_piece, copy_cache, run, run_prompt
from saebias.vlm.inputs import ModelInputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import CAPTION
from saebias.vlm.prompts import caption_tokens

PAIRS_PER_PASS = 512
LOGITS_PER_PASS = 128_000_000
"""Bounds the logits of one pass: half a gigabyte in float32."""


@dataclass(frozen=True)
class Pair:
    """One continuation to score: its row, and its token ids."""

    row: int
    ids: tuple[int, ...]


def pairs_of(loaded: LoadedModel, inputs: ModelInputs, continuations: Sequence[Sequence[str]]) -> list[Pair]:
    """The continuations of every row as tokens, row by row; raises InputError for a wrong number of rows or an empty continuation."""
    if len(continuations) != len(inputs):
        raise InputError(f"{len(continuations)} lists of continuations for {len(inputs)} rows; give one list for each row")
    known: dict[tuple[str, str], tuple[int, ...]] = {}
    pairs = []
    for row, (prompt, texts) in enumerate(zip(inputs.prompts, continuations, strict=True)):
        fresh = [text for text in texts if (prompt.tail, text) not in known]
        for text, ids in zip(fresh, caption_tokens(loaded, prompt, fresh), strict=True):
            if not ids:
                raise InputError(f"continuation {text!r} of row {row} has no tokens; write a caption beginning")
            known[prompt.tail, text] = ids
        pairs += [Pair(row, known[prompt.tail, text]) for text in texts]
    return pairs


@torch.no_grad()
def score_continuations(
    loaded: LoadedModel,
    inputs: ModelInputs,
    continuations: Sequence[Sequence[str]],
    *,
    edit: Edit | None = None,
    prefix: PrefixState | None = None,
) -> list[np.ndarray]:
    """For every row, the log-probability of each of its continuations behind its prompt: the sum over all their tokens, float64.

    `inputs` hold prompts alone. With `prefix` (see `image_prefix`) the picture is not run again. No end-of-sequence token is added: a continuation
    is a caption's beginning, and the probabilities of continuations that are not beginnings of each other sum to at most 1.
    """
    pairs = pairs_of(loaded, inputs, continuations)
    logits_BV, cache, whole = run_prompt(loaded, inputs, edit=edit, prefix=prefix)
    logp_Q = score_pairs(loaded, pairs, logits_BV, cache, whole, edit=edit).cpu().numpy()
    ends = np.cumsum([len(texts) for texts in continuations])
    return np.split(logp_Q, ends[:-1])


def score_pairs(
    loaded: LoadedModel, pairs: Sequence[Pair], logits_BV: Tensor, cache: DynamicCache, whole: Piece, *, edit: Edit | None, per_pass: int = PAIRS_PER_PASS
) -> Tensor:
    """Log-probability (Q,) in float64 of every pair, given the logits behind its prompt; differentiable in the cache and logits."""
    device = logits_BV.device
    rows_Q = torch.tensor([pair.row for pair in pairs], device=device)
    first_Q = torch.tensor([pair.ids[0] for pair in pairs], device=device)
    total_Q = _picked_logp(logits_BV, rows_Q, first_Q)
    # Long continuations first, so that a pass holds lengths that are alike; one-token continuations need no pass at all.
    order = sorted((index for index, pair in enumerate(pairs) if len(pair.ids) > 1), key=lambda index: -len(pairs[index].ids))
    per_pass = max(1, min(per_pass, LOGITS_PER_PASS // (loaded.adapter.vocab_size * (len(pairs[order[0]].ids) - 1)))) if order else per_pass
    for start in range(0, len(order), per_pass):
        chosen = order[start : start + per_pass]
        rest = _score_rest(loaded, [pairs[index] for index in chosen], cache, whole, edit)
        total_Q = total_Q.index_add(0, torch.tensor(chosen, device=device), rest)
    return total_Q


def _score_rest(loaded: LoadedModel, pairs: Sequence[Pair], cache: DynamicCache, whole: Piece, edit: Edit | None) -> Tensor:
    """Log-probability of each pair's tokens behind its first one."""
    columns = max(len(pair.ids) for pair in pairs) - 1
    fed = np.zeros((len(pairs), columns), dtype=np.int64)
    real, wanted = np.zeros(fed.shape, dtype=bool), np.zeros(fed.shape, dtype=bool)
    places: dict[tuple[int, tuple[int, ...]], int] = {}
    asked: list[tuple[int, int, int]] = []
    for index, pair in enumerate(pairs):
        length = len(pair.ids) - 1
        fed[index, :length], real[index, :length] = pair.ids[:-1], True
        for column in range(length):
            # Continuations of a row that begin alike ask the same distribution: the output head computes it once, and none on filling.
            begun = (pair.row, pair.ids[: column + 1])
            wanted[index, column] = begun not in places
            asked.append((index, places.setdefault(begun, len(places)), pair.ids[column + 1]))
    device = whole.input_ids_BT.device
    rows = torch.tensor([pair.row for pair in pairs], device=device)
    piece = caption_piece(whole, rows, torch.from_numpy(fed).to(device), torch.from_numpy(real).to(device))
    logits_RV = run(loaded, piece, cache=copy_cache(cache, rows), edit=edit, logits=torch.from_numpy(wanted).to(device))
    pair_E, place_E, token_E = torch.tensor(asked, device=device).T
    return torch.zeros(len(pairs), dtype=torch.float64, device=device).index_add(0, pair_E, _picked_logp(logits_RV, place_E, token_E))


def _picked_logp(logits_RV: Tensor, row_E: Tensor, token_E: Tensor) -> Tensor:
    """Log-probability (E,) in float64 of single tokens under rows of logits, summed over the vocabulary in float32."""
    return torch.log_softmax(logits_RV.float(), dim=-1)[row_E, token_E].double()


def token_logp(logits_BTV: Tensor, ids_BT: Tensor) -> Tensor:
    """Log-probability (B, T) in float32 that the distribution at each column gives to the token asked for there; or (R,) for (R, V) and (R,)."""
    return torch.log_softmax(logits_BTV.float(), dim=-1).gather(-1, ids_BT[..., None])[..., 0]


def caption_logp(inputs: ModelInputs, logits_BTV: Tensor) -> Tensor:
    """Log-probability (B,) in float64 of the teacher-forced caption of every row of a batch, from that batch's logits."""
    logp_BT = token_logp(logits_BTV[:, :-1], inputs.input_ids_BT[:, 1:])
    is_caption_BT = (inputs.token_kind_BT == CAPTION)[:, 1:]
    return torch.where(is_caption_BT, logp_BT, 0.0).double().sum(1)


def check_disjoint(pairs: Sequence[Pair]) -> None:
    """Raise InputError where two continuations of one row are equal, or one begins the other: their probabilities would be counted twice."""
    by_row: dict[int, list[tuple[int, ...]]] = {}
    for pair in pairs:
        by_row.setdefault(pair.row, []).append(pair.ids)
    for row, sequences in by_row.items():
        ordered = sorted(sequences)
        # In lexical order a sequence stands directly before those that it begins.
        for one, other in pairwise(ordered):
            if other[: len(one)] == one:
                raise InputError(
                    f"row {row}: one continuation begins another (tokens {one} and {other}), so their probabilities overlap; lengthen the shorter one"
                )


def decision_gap(
    loaded: LoadedModel,
    inputs: ModelInputs,
    f_texts: Sequence[Sequence[str]],
    m_texts: Sequence[Sequence[str]],
    *,
    edit: Edit | None = None,
    prefix: PrefixState | None = None,
) -> np.ndarray:
    """m = log sum P(F continuations) - log sum P(M continuations) for every row, float64 (B,).

    Raises InputError where continuations of a row overlap (see `check_disjoint`).
    """
    both = [[*female, *male] for female, male in zip(f_texts, m_texts, strict=True)]
    check_disjoint(pairs_of(loaded, inputs, both))
    logp = score_continuations(loaded, inputs, both, edit=edit, prefix=prefix)
    split = [len(female) for female in f_texts]
    return np.array([np.logaddexp.reduce(row[:cut]) - np.logaddexp.reduce(row[cut:]) for row, cut in zip(logp, split, strict=True)])
