"""Forward passes: whole batches, or piece by piece with a cache of keys and values that several continuations share.

Shapes: B rows, T columns of this pass, K columns the pass can attend to, P position axes, D model width, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.vlm import hooks
from saebias.vlm.hooks import EditFn
from saebias.vlm.inputs import ModelInputs
from saebias.vlm.loading import LoadedModel, memory_errors
from saebias.vlm.positions import CAPTION, PAD, Where, edit_mask, next_positions


@dataclass(frozen=True, eq=False)
class Edit:
    """An intervention: what to do at which hook points, at which positions."""

    changes: Mapping[HookPoint, EditFn]
    where: Where = "text"

    @property
    def spares_image_prefix(self) -> bool:
        """Whether everything up to the last image token is computed as without the edit."""
        return self.where in ("after_image", "caption")


@dataclass(frozen=True, eq=False)
class Piece:
    """Some columns of a batch, as one pass sees them. `mask_BK` covers the columns before, too."""

    input_ids_BT: Tensor
    mask_BK: Tensor
    rope_PBT: Tensor
    kind_BT: Tensor
    after_image_BT: Tensor
    position_BT: Tensor
    row_B: Tensor
    extra: dict[str, Any] = field(default_factory=dict)


def piece_of(inputs: ModelInputs, start: int = 0, stop: int | None = None) -> Piece:
    """Columns `start` to `stop` of a batch; a piece that does not begin at 0 must lie behind the image tokens."""
    stop = inputs.input_ids_BT.shape[1] if stop is None else stop
    cut = slice(start, stop)
    extra: dict[str, Any] = {}
    if start == 0:
        extra = inputs.image_tensors
        if inputs.type_ids_BT is not None:
            extra[str(inputs.adapter.type_ids_name)] = inputs.type_ids_BT[:, cut]
    if inputs.cross_attention is not None:
        extra["cross_attention_mask"] = inputs.cross_attention["cross_attention_mask"][:, cut]
    return Piece(
        input_ids_BT=inputs.input_ids_BT[:, cut],
        mask_BK=inputs.attention_mask_BT[:, :stop],
        rope_PBT=inputs.rope_PBT[:, :, cut],
        kind_BT=inputs.token_kind_BT[:, cut],
        after_image_BT=inputs.after_image_BT[:, cut],
        position_BT=inputs.position_BT[:, cut],
        row_B=inputs.row_B,
        extra=extra,
    )


def caption_piece(before: Piece, rows: Tensor, ids_BT: Tensor, real_BT: Tensor) -> Piece:
    """New caption tokens (B, T), filled up on the right where `real_BT` is false, behind rows `rows` of a left-padded piece."""
    last_PB1 = before.rope_PBT[:, rows, -1:]
    position_BT = before.position_BT[rows, -1:] + 1 + torch.arange(ids_BT.shape[1], device=ids_BT.device)
    extra = {}
    if "cross_attention_mask" in before.extra:
        extra["cross_attention_mask"] = before.extra["cross_attention_mask"][rows, -1:].expand(-1, ids_BT.shape[1], -1, -1)
    return Piece(
        input_ids_BT=ids_BT,
        mask_BK=torch.cat([before.mask_BK[rows], real_BT.long()], dim=1),
        rope_PBT=next_positions(last_PB1, ids_BT.shape[1]),
        kind_BT=torch.where(real_BT, CAPTION, PAD).to(before.kind_BT.dtype),
        after_image_BT=torch.ones_like(real_BT),
        position_BT=torch.where(real_BT, position_BT, -1),
        row_B=before.row_B[rows],
        extra=extra,
    )


def new_cache(loaded: LoadedModel) -> DynamicCache:
    """An empty cache of keys and values."""
    return DynamicCache(config=loaded.model.config)


def copy_cache(cache: DynamicCache, rows: Tensor | None = None) -> DynamicCache:
    """A cache that can grow without changing the given one, with rows `rows` of it (repeats allowed) or all."""
    twin = copy.copy(cache)
    # Growing a dynamic layer concatenates into a new tensor, so the copies may share what is there already.
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    if rows is not None:
        # From the processor an index serves layers on any device: a model may be spread over several.
        twin.batch_select_indices(rows.cpu())
    return twin


Columns = Literal["all", "last", "none"] | Tensor
"""Which columns of a pass logits are asked of; a tensor is a mask (B, T)."""


def run(loaded: LoadedModel, piece: Piece, *, cache: DynamicCache | None = None, edit: Edit | None = None, logits: Columns = "all") -> Tensor:
    """Logits (B, T, V) of one pass, (B, 1, V) of its last column or (B, 0, V) of none; of the columns of a mask (R, V), row by row.

    `cache` is read and grown. Runs with the caller's gradient mode.
    """
    rope = piece.rope_PBT if loaded.adapter.rope_index is not None else piece.rope_PBT[0]
    with ExitStack() as stack:
        stack.enter_context(memory_errors(f"running {len(piece.row_B)} rows of {piece.input_ids_BT.shape[1]} tokens"))
        # Over a large vocabulary the output head costs as much as all layers: it gets the columns asked for alone.
        stack.callback(loaded.adapter.head.register_forward_pre_hook(lambda _module, args: (_columns(args[0], logits),)).remove)
        if edit is not None:
            stack.enter_context(_editing(loaded, piece, edit))
        return loaded.model(
            input_ids=piece.input_ids_BT,
            attention_mask=piece.mask_BK,
            position_ids=rope,
            past_key_values=cache,
            use_cache=cache is not None,
            **piece.extra,
        ).logits


def _columns(x_BTD: Tensor, wanted: Columns) -> Tensor:
    if isinstance(wanted, Tensor):
        return x_BTD[wanted.to(x_BTD.device)]
    first = {"all": 0, "last": x_BTD.shape[1] - 1, "none": x_BTD.shape[1]}[wanted]
    # A slice with gaps in memory would be multiplied row by row, thirty times slower than at once.
    return x_BTD[:, first:].contiguous()


def _editing(loaded: LoadedModel, piece: Piece, edit: Edit) -> AbstractContextManager[None]:
    mask_BT = edit_mask(piece.kind_BT, piece.after_image_BT, edit.where)
    return hooks.edit(loaded.adapter, edit.changes, mask_BT=mask_BT, kind_BT=piece.kind_BT, position_BT=piece.position_BT, row_B=piece.row_B)


@torch.no_grad()
def forward(loaded: LoadedModel, inputs: ModelInputs, *, edit: Edit | None = None) -> Tensor:
    """Logits (B, T, V) of a whole batch, with an edit if one is given."""
    return run(loaded, piece_of(inputs), edit=edit)


@dataclass(frozen=True, eq=False)
class PrefixState:
    """Keys and values of the first `columns` columns of a batch, to be continued any number of times: by other prompts and captions, under other edits.

    `seen` holds the activations (B, columns, D) at the hook points that were asked for.
    """

    inputs: ModelInputs
    cache: DynamicCache
    columns: int
    seen: dict[HookPoint, Tensor]

    def take(self, rows: Sequence[int], inputs: ModelInputs, *, with_seen: bool = True) -> PrefixState:
        """The state of rows `rows`, in that order (a row may be taken several times), for the `inputs` that continue them; `seen` only if asked for.

        Raises InputError unless each of those inputs has the very picture of the row it takes and begins with its tokens: another's state would answer for it.
        """
        ours, theirs = self.inputs.features, inputs.features
        if (ours is None) != (theirs is None) or len(inputs) != len(rows):
            raise InputError(f"{len(rows)} rows of a prefix state for {len(inputs)} inputs; give one input with its picture per row")
        if ours is not None and theirs is not None and any(theirs.x_ND[place] is not ours.x_ND[row] for place, row in enumerate(rows)):
            raise InputError("an input has another picture than the row of the prefix state it takes; match rows and inputs")
        index = torch.tensor(list(rows))
        begins = [(table[:, : self.columns], own[index, : self.columns]) for table, own in self._tables(inputs)]
        if any(not torch.equal(one, other) for one, other in begins):
            raise InputError("an input has other tokens before the end of the prefix state it takes; make a prefix state for it")
        seen = {hook: x_BCD[index] for hook, x_BCD in self.seen.items()} if with_seen else {}
        return PrefixState(inputs, copy_cache(self.cache, index), self.columns, seen)

    def _tables(self, inputs: ModelInputs) -> list[tuple[Tensor, Tensor]]:
        return [(inputs.input_ids_BT, self.inputs.input_ids_BT), (inputs.attention_mask_BT, self.inputs.attention_mask_BT)]

    def check(self, inputs: ModelInputs, edit: Edit | None) -> None:
        """Raise InputError unless a pass over `inputs` under `edit` would begin with exactly this state."""
        own = self.inputs
        is_same = len(inputs) == len(own) and (inputs.features is None) == (own.features is None) and inputs.input_ids_BT.shape[1] > self.columns
        is_same = is_same and all(torch.equal(table[:, : self.columns], mine[:, : self.columns]) for table, mine in self._tables(inputs))
        if is_same and inputs.features is not None and own.features is not None:
            is_same = all(one is other for one, other in zip(inputs.features.x_ND, own.features.x_ND, strict=True))
        if not is_same:
            raise InputError("these inputs do not begin like the prefix state (other pictures, or other tokens before them); make a prefix state for them")
        if edit is not None and not edit.spares_image_prefix:
            raise InputError(f"an edit of {edit.where!r} positions reaches into the image prefix; edit 'after_image' or 'caption', or leave the prefix out")


@torch.no_grad()
def image_prefix(loaded: LoadedModel, inputs: ModelInputs, *, hook_points: Sequence[HookPoint] = (), activations_only: bool = False) -> PrefixState:
    """The state behind the last image token; edits of `after_image` or `caption` positions leave it unchanged, and other prompts of the same pictures share it.

    With `activations_only` the layers behind the last hook point are not run: only passes that read these hook points and no logits may continue it.

    Raises ModelError for models whose picture's activations depend on the prompt behind it or that have no image tokens,
    and InputError for rows whose pictures do not end at the same column (batch by prompt).
    """
    if loaded.adapter.is_prefix_lm or inputs.features is None:
        reason = "attends from the picture to the prompt" if loaded.adapter.is_prefix_lm else "has no image tokens in these inputs"
        raise ModelError(f"{loaded.adapter.family} model {loaded.name} {reason}, so there is no image prefix to share; do without one")
    ends = (~inputs.after_image_BT).sum(1)
    if int(ends.min()) != int(ends.max()):
        raise InputError(f"pictures end at columns {int(ends.min())} to {int(ends.max())} in one batch; batch rows of equal prompt length together")
    columns = int(ends[0])
    if columns == inputs.input_ids_BT.shape[1]:
        raise InputError("the prompt ends with the picture, so nothing follows the image prefix; do without one")
    cache = new_cache(loaded)
    with hooks.capture(loaded.adapter, hook_points, stop_early=activations_only) as seen:
        run(loaded, piece_of(inputs, 0, columns), cache=cache, logits="none")
    return PrefixState(inputs, cache, columns, seen)


@torch.no_grad()
def text_prefix(
    loaded: LoadedModel, inputs: ModelInputs, columns: int, *, hook_points: Sequence[HookPoint] = (), activations_only: bool = False
) -> PrefixState:
    """The state behind the first `columns` tokens of rows without a picture, to be continued by all rows that begin with them; see `image_prefix`."""
    assert inputs.features is None and inputs.cross_attention is None, "a picture's tokens must not be cut; use image_prefix"
    cache = new_cache(loaded)
    with hooks.capture(loaded.adapter, hook_points, stop_early=activations_only) as seen:
        run(loaded, piece_of(inputs, 0, columns), cache=cache, logits="none")
    return PrefixState(inputs, cache, columns, seen)


@torch.no_grad()
def activations_behind(
    loaded: LoadedModel, inputs: ModelInputs, hook_points: Sequence[HookPoint], prefix: PrefixState | None, keep: Callable[[Tensor], Any]
) -> dict[HookPoint, Any]:
    """What `keep` makes of the activations x_BTD at each hook point, of the columns behind the prefix alone (all columns where that is None).

    Unlike `activations` it grows the prefix's own cache, so that state cannot be continued a second time.
    """
    start, cache = 0, None
    if prefix is not None:
        prefix.check(inputs, None)
        start, cache = prefix.columns, prefix.cache
    with (
        memory_errors(f"running {len(inputs)} rows of {inputs.input_ids_BT.shape[1]} tokens"),
        hooks.capture(loaded.adapter, hook_points, stop_early=True, keep=keep) as seen,
    ):
        run(loaded, piece_of(inputs, start), cache=cache, logits="none")
    return seen


@torch.no_grad()
def activations(
    loaded: LoadedModel, inputs: ModelInputs, hook_points: Sequence[HookPoint], *, edit: Edit | None = None, prefix: PrefixState | None = None
) -> dict[HookPoint, Tensor]:
    """Activations x_BTD at the hook points, under an edit if one is given; layers behind the last hook point, and logits, are not computed.

    With `prefix`, made with these hook points, the picture is not run again; its columns are those of the prefix.
    """
    start, cache = 0, None
    if prefix is not None:
        prefix.check(inputs, edit)
        if missing := [str(hook) for hook in hook_points if hook not in prefix.seen]:
            raise InputError(f"the prefix state holds no activations at {', '.join(missing)}; pass these hook points to image_prefix")
        start, cache = prefix.columns, copy_cache(prefix.cache)
    piece = piece_of(inputs, start)
    with ExitStack() as stack:
        if edit is not None:
            # Opened before `capture`, so that what is captured is what the next layer gets.
            stack.enter_context(_editing(loaded, piece, edit))
        stack.enter_context(memory_errors(f"running {len(inputs)} rows of {inputs.input_ids_BT.shape[1]} tokens"))
        with hooks.capture(loaded.adapter, hook_points, stop_early=True) as seen:
            run(loaded, piece, cache=cache, logits="none")
    return seen if prefix is None else {hook: torch.cat([prefix.seen[hook], x_BTD], dim=1) for hook, x_BTD in seen.items()}


def run_prompt(loaded: LoadedModel, inputs: ModelInputs, *, edit: Edit | None, prefix: PrefixState | None) -> tuple[Tensor, DynamicCache, Piece]:
    """Next-token logits (B, V) behind prompt-only inputs, the cache behind them, and the piece that later captions continue.

    Raises InputError where the prefix does not belong to the inputs, or the edit reaches into it.
    """
    if inputs.padding == "right" and len(set(inputs.prompt_length_B)) > 1:
        raise InputError("prompts of unequal length must be padded on the left to be continued; build them with padding='left'")
    if inputs.caption_length_B.any() and inputs.padding == "right":
        raise InputError("rows with captions must be padded on the left to be continued; build them with padding='left'")
    whole = piece_of(inputs)
    if prefix is None:
        cache = new_cache(loaded)
        logits = run(loaded, whole, cache=cache, edit=edit, logits="last")
        return logits[:, -1], cache, whole
    prefix.check(inputs, edit)
    cache = copy_cache(prefix.cache)
    logits = run(loaded, piece_of(inputs, prefix.columns), cache=cache, edit=edit, logits="last")
    return logits[:, -1], cache, whole
