"""The runs that patching starts from: the same scenes with a woman and with a man, and each run entered where a patch begins to matter.

Below the patched layer and before the patched tokens nothing changes, so nothing is computed there again. Shapes: N scene pairs, T columns, D model width.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.mechanistic.decisions import Decisions, gap_of, gap_under
from saebias.vlm import hooks as vlm_hooks
from saebias.vlm.adapter import Adapter
from saebias.vlm.forward import Edit, PrefixState, activations, copy_cache, image_prefix, new_cache, piece_of, run
from saebias.vlm.hooks import EditContext, EditFn
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import IMAGE, PAD, Where


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


def clean_runs(loaded: LoadedModel, pairs: Sequence[ScenePair], hooks: Sequence[HookPoint]) -> list[SceneRuns]:
    """The unpatched runs of every pair (the same pictures under several prompts): each picture is run once and continued with each prompt."""
    streams = [HookPoint(layer) for layer in range(loaded.adapter.n_layers)]
    donors, found = sorted({*hooks, streams[-1]}), []
    woman_prefix, man_prefix = (prefix_of(loaded, side, points) for side, points in ((pairs[0].woman, donors), (pairs[0].man, streams)))
    for pair in pairs:
        states = continued(woman_prefix, pair.woman), continued(man_prefix, pair.man)
        donor, stream = (
            activations(loaded, side.inputs, points, prefix=state)
            for side, points, state in zip((pair.woman, pair.man), (donors, streams), states, strict=True)
        )
        gaps = [gap_of(loaded, loaded.adapter.unembed(side.at_column(seen[streams[-1]])), side) for side, seen in ((pair.woman, donor), (pair.man, stream))]
        own = None if states[1] is None else replace(states[1], seen={streams[-1]: states[1].seen[streams[-1]]})
        found.append(SceneRuns(loaded, pair, donor, stream, own, _near_decision(loaded, pair.man, own, stream), *gaps))
    return found


def continued(prefix: PrefixState | None, decisions: Decisions) -> PrefixState | None:
    """The state of the same pictures for another prompt; its activations are shared, not copied."""
    if prefix is None:
        return None
    return replace(prefix.take(range(len(decisions)), decisions.inputs, with_seen=False), seen=prefix.seen)


def _near_decision(loaded: LoadedModel, decisions: Decisions, prefix: PrefixState | None, stream: dict[HookPoint, Tensor]) -> PrefixState | None:
    """The state behind all columns that come before every row's deciding one."""
    columns, last = int(decisions.column_N.min()), HookPoint(loaded.adapter.n_layers - 1)
    if prefix is None or columns <= prefix.columns:
        return prefix
    cache = copy_cache(prefix.cache)
    run(loaded, piece_of(decisions.inputs, prefix.columns, columns), cache=cache, logits="none")
    return PrefixState(decisions.inputs, cache, columns, {last: stream[last][:, :columns]})


@dataclass(frozen=True, eq=False)
class SceneRuns:
    """One prompt's two runs: the woman's activations at the hook points, the man's residual stream, the states behind his picture and before his decision."""

    loaded: LoadedModel
    pair: ScenePair
    donor: dict[HookPoint, Tensor]
    stream: dict[HookPoint, Tensor]
    man_prefix: PrefixState | None
    near: PrefixState | None
    woman_N: Tensor
    man_N: Tensor

    def is_unread(self, hook: HookPoint, kind: str) -> bool:
        """Whether nothing reads the patched tokens any more: behind the last layer's attention only the deciding column counts."""
        return kind in ("image", "prompt") and hook.layer == self.loaded.adapter.n_layers - 1

    def gap(self, hook: HookPoint, kind: str) -> Tensor:
        """The man's gap with the woman's activations at one kind of token; columns before it need no second run."""
        prefix = {"prompt": self.man_prefix, "decision": self.near}.get(kind)
        change = self._change(hook, kind, slice(0 if prefix is None else prefix.columns, None))
        if change.start == self.loaded.adapter.n_layers:
            assert change.x_NTD is not None
            rows_N = torch.arange(len(self.pair.man), device=change.x_NTD.device)
            x_ND = change.x_NTD[rows_N, self.pair.man.column_N - (0 if prefix is None else prefix.columns)]
            return gap_of(self.loaded, self.loaded.adapter.unembed(x_ND), self.pair.man)
        with started_at(self.loaded.adapter, change.start, change.x_NTD):
            return gap_under(self.loaded, self.pair.man, edit=change.edit("all" if prefix is None else "after_image"), prefix=prefix)

    def gap_behind(self, prefix: PrefixState, hook: HookPoint) -> Tensor:
        """The man's gap behind a picture's state that was patched at `hook`: the text notices from the next layer on."""
        with started_at(self.loaded.adapter, hook.layer + 1, self.stream[HookPoint(hook.layer)][:, prefix.columns :]):
            return gap_under(self.loaded, self.pair.man, prefix=prefix)

    def patched_prefix(self, hook: HookPoint) -> PrefixState:
        """The state behind the man's picture with the woman's activations at the picture's tokens."""
        assert self.man_prefix is not None
        adapter, columns, own = self.loaded.adapter, self.man_prefix.columns, copy_cache(self.man_prefix.cache)
        change, last = self._change(hook, "image", slice(0, columns)), HookPoint(adapter.n_layers - 1)
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
    # A model spread over devices has forwards of its own on its instances; they must come back.
    own = [vars(module).get("forward") for module in skipped]
    try:
        for module in skipped:
            # Set on the instance, in front of the class's method, and taken away again below.
            module.forward = lambda *_args, **_kwargs: x_NTD
        yield
    finally:
        for module, forward in zip(skipped, own, strict=True):
            del module.forward
            if forward is not None:
                module.forward = forward


def prefix_of(loaded: LoadedModel, decisions: Decisions, hooks: Sequence[HookPoint] = ()) -> PrefixState | None:
    """The state behind the pictures with activations at `hooks` and the last layer's stream; None where this model or batch has none (slower, same numbers)."""
    try:
        return image_prefix(loaded, decisions.inputs, hook_points=sorted({*hooks, HookPoint(loaded.adapter.n_layers - 1)}))
    except (ModelError, InputError):
        # The picture's activations depend on the prompt, or the pictures of this batch differ in length.
        return None


def replace_with(donor_NTD: Tensor, mask_NT: Tensor) -> EditFn:
    """An edit that puts the donor's activations in place at the marked positions of a pass with the donor's columns."""

    def edit(x_NTD: Tensor, _context: EditContext) -> Tensor:
        return torch.where(mask_NT[..., None], donor_NTD.to(x_NTD.dtype), x_NTD)

    return edit
