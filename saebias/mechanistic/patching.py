"""Where gender enters the decoder: one component's activations of one twin's picture put into the run on the other's, of the same scene.

Both ways are asked, the woman's into the man's run and the man's into the woman's: what is enough to bring a gender in need not be what takes it away.

Shapes: N scene pairs. Effects are in nats of the gap log P(F) - log P(M) at the deciding token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.mechanistic.scene_runs import ScenePair, clean_runs
from saebias.report import Reporter, SilentReporter
from saebias.stats.checks import same_rows
from saebias.stats.resampling import cluster_bootstrap, mean_statistic, paired_difference
from saebias.vlm.forward import PrefixState
from saebias.vlm.loading import LoadedModel

DIRECTIONS = ("woman into man", "man into woman")
KINDS = ("image", "prompt", "decision")
"""The picture's tokens; the text before the deciding column; the deciding column. "all" patches the three together."""


@dataclass(frozen=True)
class PatchPlace:
    """What is patched: a part of the model ("decoder", "vision tower", "projector"), its layer and site, at one kind of token."""

    part: str
    layer: int | None
    site: str
    token_kind: str


@dataclass(frozen=True)
class PatchRow:
    """How far one component at one kind of token moves the gap from one twin's run toward the other's.

    `effect` = mean of gap(man's run, patched) - gap(man's run) for `direction` "woman into man", of gap(woman's run) - gap(woman's run, patched) for the other;
    `total` = mean of gap(woman's run) - gap(man's run) for the same scenes, what a patch of everything does. `over_image`, for the deciding token, is
    its effect less that of the image tokens at the same place, paired by scene; NaN elsewhere.
    """

    part: str
    layer: int | None
    site: str
    token_kind: str
    direction: str
    language: str
    effect: float
    low: float
    high: float
    total: float
    over_image: float
    over_image_low: float
    over_image_high: float
    n_images: int
    n_clusters: int


@dataclass(frozen=True, eq=False)
class GapsOfPatches:
    """Gaps [N] of one language: the woman's run (of turned scenes: the man's), the other's, and the other's under each patch."""

    woman_N: np.ndarray
    man_N: np.ndarray
    patched: Mapping[PatchPlace, np.ndarray]


@torch.no_grad()
def patch_scenes(
    loaded: LoadedModel, pairs: Mapping[str, ScenePair], hooks: Sequence[HookPoint], kinds: Sequence[str] = KINDS, *, reporter: Reporter | None = None
) -> dict[str, GapsOfPatches]:
    """Gaps of every language of `pairs` with each hook point patched at each kind of token.

    Languages hold the same pictures in the same order: a picture's keys and values, patched or not, are computed once and continued in every language (where
    the model lets them be shared). Memory: the woman's activations at all hook points of one batch.
    """
    if len({len(pair.man) for pair in pairs.values()}) != 1:
        raise InputError(f"languages hold {sorted({len(pair.man) for pair in pairs.values()})} scenes; give the same scenes in each")
    patched: dict[str, dict[PatchPlace, np.ndarray]] = {language: {} for language in pairs}
    runs = dict(zip(pairs, clean_runs(loaded, list(pairs.values()), hooks), strict=True))
    with (reporter or SilentReporter()).task("patching", len(hooks) * len(kinds), "patches") as task:
        for hook in hooks:
            for kind in kinds:
                prefix: PrefixState | None = None
                for language, of in runs.items():
                    if of.is_unread(hook, kind):
                        gap_N = of.man_N
                    elif kind == "image" and of.man_prefix is not None:
                        prefix = of.patched_prefix(hook) if prefix is None else prefix.take(range(len(of.pair.man)), of.pair.man.inputs)
                        gap_N = of.gap_behind(prefix, hook)
                    else:
                        gap_N = of.gap(hook, kind)
                    patched[language][PatchPlace("decoder", hook.layer, hook.site, kind)] = gap_N.cpu().numpy()
                task.advance()
    return {language: GapsOfPatches(of.woman_N.cpu().numpy(), of.man_N.cpu().numpy(), patched[language]) for language, of in runs.items()}


def join_batches(parts: Sequence[GapsOfPatches]) -> GapsOfPatches:
    """Batches of scenes as one, in order."""
    places = {place: np.concatenate([part.patched[place] for part in parts]) for place in parts[0].patched}
    return GapsOfPatches(np.concatenate([part.woman_N for part in parts]), np.concatenate([part.man_N for part in parts]), places)


def patch_rows(
    gaps: GapsOfPatches, language: str, clusters: Sequence[object], *, seed: int, n_draws: int = 2000, direction: str = DIRECTIONS[0]
) -> list[PatchRow]:
    """One row per place, with image-cluster intervals; `direction` says which way `gaps` were patched. Raises InputError for an unknown one."""
    if direction not in DIRECTIONS:
        raise InputError(f"unknown direction {direction!r}; choose one of {', '.join(DIRECTIONS)}")
    cluster_N = np.asarray(clusters)
    same_rows(scenes=gaps.man_N, clusters=cluster_N)
    sign = 1.0 if direction == DIRECTIONS[0] else -1.0
    total = sign * float((gaps.woman_N - gaps.man_N).mean())
    moved = {place: sign * (gap_N - gaps.man_N) for place, gap_N in gaps.patched.items()}
    rows = []
    for place, effect_N in moved.items():
        found = cluster_bootstrap(mean_statistic(effect_N), cluster_N, n_draws=n_draws, seed=seed)
        image_N = moved.get(replace(place, token_kind="image")) if place.token_kind == "decision" else None
        over = None if image_N is None else paired_difference(effect_N, image_N, cluster_N, n_draws=n_draws, seed=seed)
        beside = (float("nan"),) * 3 if over is None else (over.value, over.low, over.high)
        where = (place.part, place.layer, place.site, place.token_kind, direction)
        rows.append(PatchRow(*where, language, found.value, found.low, found.high, total, *beside, found.n_rows, found.n_clusters))
    return rows
