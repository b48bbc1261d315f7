"""The gradient of the gender gap with respect to an activation: what attribution patching multiplies a change with.

Shapes: B rows, T columns, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saebias.identifiers import HookPoint
from saebias.vlm import hooks
from saebias.vlm.forward import Edit, new_cache, piece_of, run
from saebias.vlm.hooks import EditContext
from saebias.vlm.inputs import ModelInputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.prompts import find_decision
from saebias.vlm.scoring import Pair, check_disjoint, pairs_of, score_pairs


@dataclass(frozen=True, eq=False)
class GapGradient:
    """The gap of every row, the activations at the hook point, and the gap's gradient with respect to them.

    Columns are the prompt and the tokens that all F and M continuations share, left-padded, as `inputs` describes them: the last column of every row
    is its decision position. Later positions, which differ between continuations, are held at their own values.
    """

    gap_B: np.ndarray
    x_BTD: Tensor
    grad_BTD: Tensor
    inputs: ModelInputs


def gap_gradient(
    loaded: LoadedModel, inputs: ModelInputs, f_texts: Sequence[Sequence[str]], m_texts: Sequence[Sequence[str]], hook: HookPoint, *, edit: Edit | None = None
) -> GapGradient:
    """Gradient of log sum P(F) - log sum P(M) with respect to the activation at `hook`, before any edit there, at every position up to the decision.

    One forward and one backward pass per batch serve all positions. Image and padding columns are there too (padding has gradient 0).
    Raises InputError for overlapping or empty sets of continuations.
    """
    female = pairs_of(loaded, inputs, f_texts)
    male = pairs_of(loaded, inputs, m_texts)
    check_disjoint([*female, *male])
    common = [
        find_decision([pair.ids for pair in female if pair.row == row], [pair.ids for pair in male if pair.row == row]).common for row in range(len(inputs))
    ]
    shared = [next(pair.ids for pair in female if pair.row == row)[:count] for row, count in enumerate(common)]
    extended = inputs.with_captions(shared, padding="left")
    rest = [Pair(pair.row, pair.ids[common[pair.row] :]) for pair in [*female, *male]]
    leaf = _Leaf()
    whole = piece_of(extended)
    cache = new_cache(loaded)
    with torch.enable_grad():
        # Opened before the edit's own hooks, so at a hook point that is edited too the gradient is the one before the edit.
        with hooks.edit(loaded.adapter, {hook: leaf}, **_everywhere(extended)):
            logits = run(loaded, whole, cache=cache, edit=edit, last_only=True)
        logp_Q = score_pairs(loaded, rest, logits[:, -1], cache, whole, edit=edit)
        gap_B = _gap(logp_Q, rest, len(female), len(inputs))
        (grad_BTD,) = torch.autograd.grad(gap_B.sum(), leaf.x_BTD)
    return GapGradient(gap_B.detach().cpu().numpy(), leaf.x_BTD.detach(), grad_BTD, extended)


class _Leaf:
    """An edit that changes nothing and makes the activation the start of the gradient's graph."""

    x_BTD: Tensor

    def __call__(self, x_BTD: Tensor, _context: EditContext) -> Tensor:
        self.x_BTD = x_BTD.detach().requires_grad_(True)
        return self.x_BTD


def _everywhere(inputs: ModelInputs) -> dict[str, Tensor]:
    mask_BT = torch.ones_like(inputs.token_kind_BT, dtype=torch.bool)
    return {"mask_BT": mask_BT, "kind_BT": inputs.token_kind_BT, "position_BT": inputs.position_BT, "row_B": inputs.row_B}


def _gap(logp_Q: Tensor, pairs: Sequence[Pair], n_female: int, n_rows: int) -> Tensor:
    rows = torch.tensor([pair.row for pair in pairs], device=logp_Q.device)
    halves = []
    for cut in (slice(None, n_female), slice(n_female, None)):
        members = [torch.nonzero(rows[cut] == row)[:, 0] for row in range(n_rows)]
        halves.append(torch.stack([logp_Q[cut][member].logsumexp(0) for member in members]))
    return halves[0] - halves[1]
