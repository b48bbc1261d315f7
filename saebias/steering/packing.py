"""Several continuations of one picture as one row: tokens that continuations share are run once.

The continuations of a picture form a tree behind its prompt. Its nodes become the positions of one packed row, in which a node attends to
the frozen prefix and to its own ancestors alone, so that each continuation is computed exactly as if it stood there by itself.

Shapes: R rows of the recorded forward (one per continuation), B pictures, Q nodes of a packed row, P frozen positions, K = P + Q, E asked tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saebias.errors import ModelError
from saebias.steering.upper import UpperRun


@dataclass(frozen=True, eq=False)
class Tree:
    """The packed rows of a batch, as places in the recorded forward, and which token is asked for behind which node.

    `row_BQ`, `column_BQ` say where a node was recorded (columns counted from the first replayed position); `real_BQ` is False on filling.
    An asked token e is number `place_E` of continuation `continuation_E` of picture `picture_E`, predicted behind node `node_E`.
    """

    row_BQ: np.ndarray
    column_BQ: np.ndarray
    real_BQ: np.ndarray
    is_caption_BQ: np.ndarray
    attends_BQQ: np.ndarray
    picture_E: np.ndarray
    continuation_E: np.ndarray
    place_E: np.ndarray
    node_E: np.ndarray
    token_E: np.ndarray


def build_tree(continuations: Sequence[Sequence[Sequence[int]]], prompt_columns: int) -> Tree:
    """The tree of a batch: `continuations[b][c]` are token ids; the recorded forward has one row per continuation, picture by picture.

    `prompt_columns` is the number of replayed positions of the prompt, the same in every row.
    """
    row, nodes, asked = 0, [], []
    for picture, of_picture in enumerate(continuations):
        # A node is (recorded row, column, parent); the prompt is a chain that all continuations share.
        chain = [(row, column, column - 1) for column in range(prompt_columns)]
        number_of: dict[tuple[int, ...], int] = {(): prompt_columns - 1}
        for number, ids in enumerate(of_picture):
            for place, token in enumerate(ids):
                before = tuple(ids[:place])
                if before not in number_of:
                    number_of[before] = len(chain)
                    chain.append((row, prompt_columns + place - 1, number_of[before[:-1]]))
                asked.append((picture, number, place, number_of[before], token))
            row += 1
        nodes.append(chain)
    columns = max(len(chain) for chain in nodes)
    shape = (len(nodes), columns)
    row_BQ, column_BQ, real_BQ, attends_BQQ = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape, bool), np.zeros((*shape, columns), bool)
    # A filling position attends to itself, because a softmax over nothing is NaN.
    attends_BQQ[:, np.arange(columns), np.arange(columns)] = True
    for picture, chain in enumerate(nodes):
        for node, (recorded, column, parent) in enumerate(chain):
            row_BQ[picture, node], column_BQ[picture, node], real_BQ[picture, node] = recorded, column, True
            if parent >= 0:
                attends_BQQ[picture, node] |= attends_BQQ[picture, parent]
        row_BQ[picture, len(chain) :] = chain[0][0]
    picture_E, continuation_E, place_E, node_E, token_E = (np.array(column) for column in zip(*asked, strict=True))
    is_caption_BQ = real_BQ & (column_BQ >= prompt_columns)
    return Tree(row_BQ, column_BQ, real_BQ, is_caption_BQ, attends_BQQ, picture_E, continuation_E, place_E, node_E, token_E)


def pack(run: UpperRun, tree: Tree) -> UpperRun:
    """The recorded forward with one packed row per picture instead of one row per continuation."""
    device = run.x_BQD.device
    row_BQ, column_BQ = torch.from_numpy(tree.row_BQ).to(device), torch.from_numpy(tree.column_BQ).to(device)
    first_B = row_BQ[:, 0]
    prefixes = tuple((keys[first_B], values[first_B]) for keys, values in run.prefixes)
    attends_BQQ = torch.from_numpy(tree.attends_BQQ).to(device)
    calls = tuple({name: _packed(name, value, run, row_BQ, column_BQ, attends_BQQ) for name, value in call.items()} for call in run.calls)
    return UpperRun(run.x_BQD[row_BQ, column_BQ], run.final_BQD[row_BQ, column_BQ], run.layers, calls, prefixes)


def _packed(name: str, value: object, run: UpperRun, row_BQ: Tensor, column_BQ: Tensor, attends_BQQ: Tensor) -> object:
    if name == "attention_mask" and isinstance(value, Tensor):
        return _packed_mask(value, run.n_frozen, row_BQ, column_BQ, attends_BQQ)
    if name == "position_embeddings" and isinstance(value, tuple):
        return tuple(_at(part, row_BQ, column_BQ, axis=part.ndim - 3) for part in value)
    if name == "position_ids" and isinstance(value, Tensor):
        return _at(value, row_BQ, column_BQ, axis=value.ndim - 2)
    if isinstance(value, Tensor):
        raise ModelError(f"decoder layers of this model take a tensor {name!r} that cannot be packed; score each continuation by itself")
    return value


def _at(value: Tensor, row_BQ: Tensor, column_BQ: Tensor, axis: int) -> Tensor:
    """`value` at the nodes' rows and columns, which are its axes `axis` and `axis + 1`; one entry may serve all rows."""
    rows = row_BQ if value.shape[axis] > 1 else torch.zeros_like(row_BQ)
    return value[(slice(None),) * axis + (rows, column_BQ)]


def _packed_mask(mask_R1QK: Tensor, n_frozen: int, row_BQ: Tensor, column_BQ: Tensor, attends_BQQ: Tensor) -> Tensor:
    """Mask [B, 1, Q, K] of the packed rows: what the recorded mask allowed, and among nodes only a node's own ancestors and itself."""
    rows = row_BQ if mask_R1QK.shape[0] > 1 else torch.zeros_like(row_BQ)
    recorded_BQK = mask_R1QK[rows, 0, column_BQ]
    frozen_BQP, behind_BQT = recorded_BQK[..., :n_frozen], recorded_BQK[..., n_frozen:]
    nodes_BQQ = behind_BQT.gather(2, column_BQ[:, None, :].expand(-1, column_BQ.shape[1], -1))
    if mask_R1QK.dtype == torch.bool:
        return torch.cat([frozen_BQP, nodes_BQQ & attends_BQQ], dim=2)[:, None]
    forbidden = torch.finfo(mask_R1QK.dtype).min
    return torch.cat([frozen_BQP, torch.where(attends_BQQ, nodes_BQQ, forbidden)], dim=2)[:, None]
