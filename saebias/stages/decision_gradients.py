"""Gaps of pictures with the activations and gradients at their decision position, batch by batch: what attributions are formed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.pipeline.stage import StageContext
from saebias.stages.model_access import ClosedSet, batches

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.loading import LoadedModel

# Legend: N images, D model dimension.


@dataclass(frozen=True)
class Gradients:
    """The gap of each image and, per hook point, activations and gradients at its decision position, [N, D]."""

    gap_N: np.ndarray
    sample: list[dict[str, Any]]
    x_ND: dict[HookPoint, np.ndarray]
    grad_ND: dict[HookPoint, np.ndarray]


def decision_gradients(
    ctx: StageContext,
    loaded: LoadedModel,
    hooks: Sequence[HookPoint],
    samples: Sequence[dict[str, Any]],
    sets: Sequence[ClosedSet],
    pictures: Callable[[list[int]], ImageFeatures],
    prompt: str,
    title: str,
) -> Gradients:
    """The gap log P(F) - log P(M) of each sample under its closed set, with `x` and its gradient at the hook points; `pictures(numbers)` are their features."""
    from saebias.vlm.gradients import gap_gradients
    from saebias.vlm.inputs import build_inputs

    gaps: list[np.ndarray] = []
    x: dict[HookPoint, list[np.ndarray]] = {hook: [] for hook in hooks}
    grad: dict[HookPoint, list[np.ndarray]] = {hook: [] for hook in hooks}
    with ctx.reporter.task(title, len(samples), "images") as task:
        for part in batches([{"number": number} for number in range(len(samples))], ctx.cfg.runtime.batch_size):
            numbers = [row["number"] for row in part]
            asked = [sets[number] for number in numbers]
            inputs = build_inputs(loaded, pictures(numbers), [prompt] * len(numbers), use_chat_template=ctx.cfg.model.chat_template)
            result = gap_gradients(loaded, inputs, [list(c.female) for c in asked], [list(c.male) for c in asked], list(hooks))
            gaps.append(result[hooks[0]].gap_B)
            for hook in hooks:
                # The last column of every row is its decision position, where steering edits too.
                x[hook].append(result[hook].x_BTD[:, -1].float().cpu().numpy())
                grad[hook].append(result[hook].grad_BTD[:, -1].float().cpu().numpy())
            task.advance(len(numbers))
    joined = [{hook: np.concatenate(parts) for hook, parts in column.items()} for column in (x, grad)]
    return Gradients(np.concatenate(gaps), list(samples), *joined)
