"""Where gender enters the decoder: one component's activations of the woman's picture put into the run on the man's.

Shapes: N scene pairs (the same scene with a woman and with a man), T columns of the prompt, D model width. Effects are in nats of the gender gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.report import Reporter, SilentReporter
from saebias.stats.resampling import cluster_bootstrap, mean_statistic
from saebias.vlm.forward import Edit, activations
from saebias.vlm.hooks import EditContext, EditFn
from saebias.vlm.inputs import ModelInputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import CAPTION, Where
from saebias.vlm.scoring import decision_gap


@dataclass(frozen=True)
class PatchRow:
    """How far one component at one kind of token moves the gender gap from the man's run toward the woman's.

    `effect` = mean of gap(man's run, patched) - gap(man's run); `total` = mean of gap(woman's run) - gap(man's run) for the same scenes, what a patch of
    everything would do.
    """

    layer: int
    site: str
    token_kind: str
    effect: float
    low: float
    high: float
    total: float
    n_images: int
    n_clusters: int


def patch_components(
    loaded: LoadedModel,
    woman: ModelInputs,
    man: ModelInputs,
    f_texts: Sequence[Sequence[str]],
    m_texts: Sequence[Sequence[str]],
    clusters: Sequence[object],
    *,
    hooks: Sequence[HookPoint],
    kinds: Sequence[Where] = ("image", "after_image"),
    seed: int,
    n_draws: int = 2000,
    reporter: Reporter | None = None,
) -> list[PatchRow]:
    """One row per hook point and kind of token (`image`, `after_image`: the prompt's text behind it, `all`).

    `woman` and `man` hold prompts alone, row n of both the same scene; only prompt positions are patched, so a continuation's own tokens are computed from the
    patched prompt. Raises InputError for inputs of different shape, or row numbers that are not 0, 1, 2, ...
    """
    if woman.input_ids_BT.shape != man.input_ids_BT.shape or not torch.equal(woman.token_kind_BT, man.token_kind_BT):
        raise InputError("the woman's and the man's inputs differ in their tokens' kinds or number; use the same prompt and picture size for both")
    if not torch.equal(man.row_B.cpu(), torch.arange(len(man))):
        raise InputError("patching finds its donor rows by number; build the inputs without row_ids")
    donors = activations(loaded, woman, hooks)
    before_N = decision_gap(loaded, man, f_texts, m_texts)
    total = float((decision_gap(loaded, woman, f_texts, m_texts) - before_N).mean())
    rows = []
    with (reporter or SilentReporter()).task("patching", len(hooks) * len(kinds), "patches") as task:
        for hook in hooks:
            for kind in kinds:
                patched_N = decision_gap(loaded, man, f_texts, m_texts, edit=Edit({hook: replace_with(donors[hook])}, where=kind))
                found = cluster_bootstrap(mean_statistic(patched_N - before_N), np.asarray(clusters), n_draws=n_draws, seed=seed)
                rows.append(PatchRow(hook.layer, hook.site, kind, found.value, found.low, found.high, total, found.n_rows, found.n_clusters))
                task.advance()
    return rows


def replace_with(donor_NTD: Tensor) -> EditFn:
    """An edit that puts the donor's activations in place, row by row number; caption tokens, which the donor does not have, stay as they are."""

    def edit(x_BTD: Tensor, context: EditContext) -> Tensor:
        if bool((context.kind_BT == CAPTION).any()):
            return x_BTD
        return donor_NTD[context.row_B]

    return edit
