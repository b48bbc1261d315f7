"""Matrices of the model that are products, kept factored: what a dictionary says in words, what an attention head moves, how activations spread.

Vectors are rows, so "W_O W_V" of column notation is written value map times output map. Shapes: F latents, D model width, H head width, V vocabulary, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from saebias.errors import InputError, ModelError
from saebias.mechanistic.factored import FactoredMatrix
from saebias.vlm.adapter import Adapter


@dataclass(frozen=True)
class FactoredRow:
    """The spectrum of one matrix. `head` and `language` are None where they do not apply; `reason` says why the numbers are missing (NaN).

    `rank` is numerical, `rank_90` the number of directions that hold 90 % of the squared singular values; `copying` = sum of eigenvalues / sum of their
    absolute values (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"): 1 for a head that passes on what it reads.
    """

    matrix: str
    layer: int
    head: int | None
    language: str | None
    n_rows: int
    n_columns: int
    n_inner: int
    rank: int | None
    rank_90: int | None
    stable_rank: float
    effective_rank: float
    participation_ratio: float
    norm: float
    copying: float
    reason: str


@dataclass(frozen=True)
class DirectionRow:
    """One right singular direction of a matrix in words: the tokens that it raises most and those that it lowers most."""

    matrix: str
    layer: int
    head: int | None
    language: str | None
    direction: int
    singular_value: float
    energy_share: float
    tokens_raised: str
    tokens_lowered: str


def unembedding(adapter: Adapter) -> np.ndarray:
    """What a residual-stream direction does to the logits [D, V]: output head and final norm's gain, centred over the vocabulary (softmax sees no more)."""
    weight_VD = adapter.head.get_parameter("weight").detach().float()
    gain_D = adapter.norm(torch.ones(1, adapter.d_model, dtype=weight_VD.dtype, device=weight_VD.device))[0].detach().float()
    return ((weight_VD - weight_VD.mean(0)) * gain_D).T.cpu().numpy()


def head_circuits(adapter: Adapter, layer: int) -> list[FactoredMatrix]:
    """Value map times output map [D, D] of every attention head of a layer, without the norms around them.

    Raises ModelError for a layer whose attention has no v_proj and o_proj (one fused matrix, or none).
    """
    children = dict(adapter.layer(layer).named_children())
    parts = dict(children["self_attn"].named_children()) if "self_attn" in children else {}
    if "v_proj" not in parts or "o_proj" not in parts:
        raise ModelError(f"layer {layer} of this {adapter.family} model has no v_proj and o_proj in its attention; its heads cannot be told apart")
    v_KD, o_DK = (parts[name].get_parameter("weight").detach().float().cpu().numpy() for name in ("v_proj", "o_proj"))
    width = int(getattr(children["self_attn"], "head_dim"))  # noqa: B009
    n_heads, n_values = o_DK.shape[1] // width, v_KD.shape[0] // width
    # Grouped-query attention: several heads share one value map.
    value_of = [head * n_values // n_heads for head in range(n_heads)]
    return [
        FactoredMatrix(v_KD[width * value_of[head] : width * (value_of[head] + 1)].T, o_DK[:, width * head : width * (head + 1)].T) for head in range(n_heads)
    ]


def activation_matrix(x_ND: np.ndarray) -> FactoredMatrix:
    """Activations as a factored matrix with the mean row taken off; raises InputError below 2 rows."""
    if len(x_ND) < 2:
        raise InputError(f"{len(x_ND)} rows of activations; a spectrum around their mean needs at least 2")
    x_ND = np.asarray(x_ND, dtype=np.float64)
    return FactoredMatrix(x_ND, np.eye(x_ND.shape[1])).centred_rows()


def spectrum_row(product: FactoredMatrix, matrix: str, layer: int, *, head: int | None = None, language: str | None = None) -> FactoredRow:
    """The numbers of one matrix; a matrix that is all 0 has a reason instead."""
    shape = (*product.shape, product.left.shape[1])
    if not product.norm() > 0:
        nan = float("nan")
        return FactoredRow(matrix, layer, head, language, *shape, 0, None, nan, nan, nan, 0.0, nan, "all values are 0: no spectrum")
    copying = float("nan")
    if head is not None:
        eigenvalues = product.eigenvalues()
        copying = float(eigenvalues.real.sum() / np.abs(eigenvalues).sum())
    return FactoredRow(
        matrix, layer, head, language, *shape, product.rank(), product.rank(0.9), product.stable_rank(), product.effective_rank(),
        product.participation_ratio(), product.norm(), copying, "",
    )  # fmt: skip


def direction_rows(
    product: FactoredMatrix,
    to_logits_MV: np.ndarray | None,
    token_text: Callable[[int], str],
    matrix: str,
    layer: int,
    *,
    head: int | None = None,
    language: str | None = None,
    n_directions: int = 3,
    n_tokens: int = 5,
) -> list[DirectionRow]:
    """The first right singular directions in words; `to_logits_MV` turns the matrix's columns into logits (None where they are logits already).

    A singular direction has no sign of its own: the token it moves most is among those raised.
    """
    if not product.norm() > 0:
        return []
    s_K, vt_KM = product.singular_values, product.right_vectors(n_directions)
    share_K = s_K**2 / (s_K**2).sum()
    rows = []
    for number in range(len(vt_KM)):
        logits_V = vt_KM[number] if to_logits_MV is None else vt_KM[number] @ to_logits_MV
        logits_V = logits_V * np.sign(logits_V[np.argmax(np.abs(logits_V))])
        order = np.argsort(-logits_V, kind="stable")
        raised, lowered = (" | ".join(token_text(int(token)) for token in side) for side in (order[:n_tokens], order[::-1][:n_tokens]))
        rows.append(DirectionRow(matrix, layer, head, language, number + 1, float(s_K[number]), float(share_K[number]), raised, lowered))
    return rows


def token_texts(decode: Callable[[Sequence[int]], str]) -> Callable[[int], str]:
    """Readable text of a token id, from a tokenizer's decode."""
    return lambda token: decode([token]).strip() or f"[{token}]"
