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
    """`gap_gradients` at one hook point."""
    return gap_gradients(loaded, inputs, f_texts, m_texts, [hook], edit=edit)[hook]


def gap_gradients(
    loaded: LoadedModel,
    inputs: ModelInputs,
    f_texts: Sequence[Sequence[str]],
    m_texts: Sequence[Sequence[str]],
    hook_points: Sequence[HookPoint],
    *,
    edit: Edit | None = None,
) -> dict[HookPoint, GapGradient]:
    """Gradients of log sum P(F) - log sum P(M) with respect to the activations at the hook points, at every position up to the decision.

    One forward and one backward pass per batch serve all hook points and positions. Image and padding columns are there too (padding has gradient 0).
    At a hook point that `edit` changes, activation and gradient are those before the edit. Raises InputError for overlapping or empty sets.
    """
    female = pairs_of(loaded, inputs, f_texts)
    male = pairs_of(loaded, inputs, m_texts)
    check_disjoint([*female, *male])
    extended, rest = _up_to_decision(inputs, female, male)
    marks = {hook: _Mark() for hook in hook_points}
    whole = piece_of(extended)
    cache = new_cache(loaded)
    with torch.enable_grad():
        # Opened before the edit's own hooks, so that they come first.
        with hooks.edit(loaded.adapter, marks, **_everywhere(extended)):
            logits = run(loaded, whole, cache=cache, edit=edit, logits="last")
        logp_Q = score_pairs(loaded, rest, logits[:, -1], cache, whole, edit=edit)
        gap_B = _gap(logp_Q, rest, len(female), len(inputs))
        grads = torch.autograd.grad(gap_B.sum(), [mark.x_BTD for mark in marks.values()])
    gap = gap_B.detach().cpu().numpy()
    return {hook: GapGradient(gap, mark.x_BTD.detach(), grad, extended) for (hook, mark), grad in zip(marks.items(), grads, strict=True)}


def _up_to_decision(inputs: ModelInputs, female: Sequence[Pair], male: Sequence[Pair]) -> tuple[ModelInputs, list[Pair]]:
    """The prompts with the tokens that all continuations of a row share, and what is left of the continuations, F first."""
    shared: list[tuple[int, ...]] = []
    for row in range(len(inputs)):
        females = [pair.ids for pair in female if pair.row == row]
        decided = find_decision(females, [pair.ids for pair in male if pair.row == row])
        shared.append(females[0][: decided.common])
    rest = [Pair(pair.row, pair.ids[len(shared[pair.row]) :]) for pair in [*female, *male]]
    return inputs.with_captions(shared, padding="left"), rest


class _Mark:
    """An edit that changes nothing and keeps the activation as a node of the gradient's graph; the first one a pass meets starts the graph."""

    x_BTD: Tensor

    def __call__(self, x_BTD: Tensor, _context: EditContext) -> Tensor:
        self.x_BTD = x_BTD if x_BTD.requires_grad else x_BTD.detach().requires_grad_(True)
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
