"""Where gender enters the decoder: one component's activations of one twin's picture put into the run on the other's, of the same scene.

Both ways are asked, the woman's into the man's run and the man's into the woman's: what is enough to bring a gender in need not be what takes it away.

Shapes: N scene pairs, T columns, C columns of the picture's prefix, D model width. Effects are in nats of the gap log P(F) - log P(M) at the deciding token.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.mechanistic.decisions import Decisions, gap_of, gap_under
from saebias.report import Reporter, SilentReporter
from saebias.stats.checks import same_rows
from saebias.stats.resampling import cluster_bootstrap, mean_statistic, paired_difference
from saebias.vlm import hooks as vlm_hooks
from saebias.vlm.adapter import Adapter
from saebias.vlm.forward import Edit, PrefixState, activations, copy_cache, image_prefix, new_cache, piece_of, run
from saebias.vlm.hooks import EditContext, EditFn
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import IMAGE, PAD, Where

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
class ScenePair:
    """The same scenes with a woman and with a man: decisions of one language, row n of both the same scene."""

    woman: Decisions
    man: Decisions

    def __post_init__(self) -> None:
        ours, theirs = self.woman.inputs, self.man.inputs
        if ours.input_ids_BT.shape != theirs.input_ids_BT.shape or not torch.equal(ours.token_kind_BT, theirs.token_kind_BT):
            raise InputError("the woman's and the man's inputs differ in their tokens' kinds or number; use the same prompt and picture size for both")

    def turned(self) -> ScenePair:
        """The same scenes with the twins' parts exchanged: a patch then puts the man's activations into the woman's run."""
        return ScenePair(self.man, self.woman)

    def mask(self, kind: str) -> Tensor:
        """The positions [N, T] of one kind of token; columns behind the deciding one are never patched. Raises InputError for an unknown kind."""
        kind_NT = self.man.inputs.token_kind_BT
        column_NT = torch.arange(kind_NT.shape[1], device=kind_NT.device)[None]
        is_decision_NT = column_NT == self.man.column_N[:, None]
        is_before_NT = (column_NT < self.man.column_N[:, None]) & (kind_NT != PAD)
        masks = {
            "image": kind_NT == IMAGE,
            "prompt": is_before_NT & (kind_NT != IMAGE),
            "decision": is_decision_NT,
            "all": is_before_NT | is_decision_NT,
        }
        if kind not in masks:
            raise InputError(f"token kind {kind!r} cannot be patched; choose one of {', '.join(masks)}")
        return masks[kind]


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

    Languages hold the same pictures in the same order: a patched picture's keys and values are computed once and continued in every language (where the model
    lets them be shared). Memory: the woman's activations at all hook points of one batch.
    """
    patched: dict[str, dict[PatchPlace, np.ndarray]] = {language: {} for language in pairs}
    runs = {language: _Runs.of(loaded, pair, hooks) for language, pair in _sharing(pairs)}
    with (reporter or SilentReporter()).task("patching", len(hooks) * len(kinds), "patches") as task:
        for hook in hooks:
            for kind in kinds:
                prefix: PrefixState | None = None
                for language, of in runs.items():
                    if kind == "image" and of.man_prefix is not None:
                        prefix = of.patched_prefix(hook) if prefix is None else prefix.take(range(len(of.pair.man)), of.pair.man.inputs)
                        gap_N = gap_under(loaded, of.pair.man, prefix=prefix)
                    else:
                        gap_N = of.gap(hook, kind)
                    patched[language][PatchPlace("decoder", hook.layer, hook.site, kind)] = gap_N.cpu().numpy()
                task.advance()
    return {language: GapsOfPatches(of.woman_N.cpu().numpy(), of.man_N.cpu().numpy(), patched[language]) for language, of in runs.items()}


def _sharing(pairs: Mapping[str, ScenePair]) -> Iterator[tuple[str, ScenePair]]:
    if len({len(pair.man) for pair in pairs.values()}) != 1:
        raise InputError(f"languages hold {sorted({len(pair.man) for pair in pairs.values()})} scenes; give the same scenes in each")
    yield from pairs.items()


@dataclass(frozen=True, eq=False)
class _Runs:
    """One language's two runs: the woman's activations at the hook points, the man's residual stream, and the state behind the man's picture."""

    loaded: LoadedModel
    pair: ScenePair
    donor: dict[HookPoint, Tensor]
    stream: dict[HookPoint, Tensor]
    man_prefix: PrefixState | None
    woman_N: Tensor
    man_N: Tensor

    @classmethod
    def of(cls, loaded: LoadedModel, pair: ScenePair, hooks: Sequence[HookPoint]) -> _Runs:
        streams = [HookPoint(layer) for layer in range(loaded.adapter.n_layers)]
        donor = activations(loaded, pair.woman.inputs, sorted({*hooks, streams[-1]}))
        stream = activations(loaded, pair.man.inputs, streams)
        gaps = [gap_of(loaded, loaded.adapter.unembed(side.at_column(seen[streams[-1]])), side) for side, seen in ((pair.woman, donor), (pair.man, stream))]
        return cls(loaded, pair, donor, stream, prefix_of(loaded, pair.man), gaps[0], gaps[1])

    def gap(self, hook: HookPoint, kind: str) -> Tensor:
        """The man's gap with the woman's activations at one kind of token; text behind the picture needs no second run of the picture."""
        prefix = self.man_prefix if kind in ("prompt", "decision") else None
        change = self._change(hook, kind, slice(0 if prefix is None else prefix.columns, None))
        if change.start == self.loaded.adapter.n_layers:
            assert change.x_NTD is not None
            rows_N = torch.arange(len(self.pair.man), device=change.x_NTD.device)
            x_ND = change.x_NTD[rows_N, self.pair.man.column_N - (0 if prefix is None else prefix.columns)]
            return gap_of(self.loaded, self.loaded.adapter.unembed(x_ND), self.pair.man)
        with started_at(self.loaded.adapter, change.start, change.x_NTD):
            return gap_under(self.loaded, self.pair.man, edit=change.edit("all" if prefix is None else "after_image"), prefix=prefix)

    def patched_prefix(self, hook: HookPoint) -> PrefixState:
        """The state behind the man's picture with the woman's activations at the picture's tokens."""
        assert self.man_prefix is not None
        adapter, columns, own = self.loaded.adapter, self.man_prefix.columns, copy_cache(self.man_prefix.cache)
        change, last = self._change(hook, "image", slice(0, columns)), HookPoint(adapter.n_layers - 1)
        if change.start == adapter.n_layers:
            assert change.x_NTD is not None
            return PrefixState(self.pair.man.inputs, own, columns, {last: change.x_NTD})
        cache = new_cache(self.loaded)
        with started_at(adapter, change.start, change.x_NTD), vlm_hooks.capture(adapter, [last]) as seen:
            run(self.loaded, piece_of(self.pair.man.inputs, 0, columns), cache=cache, edit=change.edit("all"), logits="none")
        # Layers that were passed over have the man's own keys and values.
        cache.layers[: change.start] = own.layers[: change.start]
        return PrefixState(self.pair.man.inputs, cache, columns, seen)

    def _change(self, hook: HookPoint, kind: str, columns: slice) -> _Change:
        mask_NT, donor_NTD = self.pair.mask(kind)[:, columns], self.donor[hook][:, columns]
        if hook.site == "resid_post":
            own_NTD = self.stream[hook][:, columns]
            return _Change(hook, mask_NT, donor_NTD, hook.layer + 1, torch.where(mask_NT[..., None], donor_NTD, own_NTD))
        before = None if hook.layer == 0 else self.stream[HookPoint(hook.layer - 1)][:, columns]
        return _Change(hook, mask_NT, donor_NTD, hook.layer, before)


@dataclass(frozen=True, eq=False)
class _Change:
    """A patch as the place where the pass begins and what it begins with: below the patched layer nothing changes, so nothing is computed."""

    hook: HookPoint
    mask_NT: Tensor
    donor_NTD: Tensor
    start: int
    x_NTD: Tensor | None

    def edit(self, where: Where) -> Edit | None:
        if self.hook.site == "resid_post":
            return None
        return Edit({self.hook: replace_with(self.donor_NTD, self.mask_NT)}, where=where)


@contextmanager
def started_at(adapter: Adapter, layer: int, x_NTD: Tensor | None) -> Generator[None]:
    """Inside the block a pass enters `layer` with the residual stream `x_NTD`; the layers before it are passed over and keep no keys and values."""
    skipped = list(adapter.layers)[:layer]
    try:
        for module in skipped:
            # Set on the instance, in front of the class's method, and taken away again below.
            module.forward = lambda *_args, **_kwargs: x_NTD
        yield
    finally:
        for module in skipped:
            del module.forward


def prefix_of(loaded: LoadedModel, decisions: Decisions) -> PrefixState | None:
    """The state behind the pictures, with the last layer's stream; None where this model or batch has none (slower, same numbers)."""
    try:
        return image_prefix(loaded, decisions.inputs, hook_points=[HookPoint(loaded.adapter.n_layers - 1)])
    except (ModelError, InputError):
        # The picture's activations depend on the prompt, or the pictures of this batch differ in length.
        return None


def replace_with(donor_NTD: Tensor, mask_NT: Tensor) -> EditFn:
    """An edit that puts the donor's activations in place at the marked positions of a pass with the donor's columns."""

    def edit(x_NTD: Tensor, _context: EditContext) -> Tensor:
        return torch.where(mask_NT[..., None], donor_NTD.to(x_NTD.dtype), x_NTD)

    return edit


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
