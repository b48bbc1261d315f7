"""Reading and changing activations inside a model, by context managers that always remove their hooks.

Shapes: B rows, T positions of this forward pass, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saebias.identifiers import HookPoint
from saebias.vlm.adapter import Adapter


@dataclass(frozen=True, eq=False)
class EditContext:
    """What an edit is told about the forward pass it is in.

    `mask_BT` marks the positions to edit; whatever the edit returns elsewhere is discarded. `kind_BT` holds token-kind codes (`positions.KINDS`),
    `position_BT` counts from 0 within the row without padding (-1 on padding), `row_B` is the caller's number of each row: a row keeps its
    number through batching, caching and the continuations it is scored with.
    """

    hook: HookPoint
    mask_BT: Tensor
    kind_BT: Tensor
    position_BT: Tensor
    row_B: Tensor


EditFn = Callable[[Tensor, EditContext], Tensor]
"""(activations x_BTD, context) -> new activations x_BTD, as a new tensor: the one given must not be changed in place."""


def on_positions(change: Callable[[Tensor, Tensor], Tensor]) -> EditFn:
    """An edit that computes only at the positions to edit: `change(x_ND, row_N) -> x_ND` gets their vectors and row numbers."""

    def edit_rows(x_BTD: Tensor, context: EditContext) -> Tensor:
        row_BT = context.row_B[:, None].expand(context.mask_BT.shape)
        new_BTD = x_BTD.clone()
        new_BTD[context.mask_BT] = change(x_BTD[context.mask_BT], row_BT[context.mask_BT]).to(x_BTD.dtype)
        return new_BTD

    return edit_rows


class _Enough(Exception):
    """Unwinds a forward pass whose remaining layers nobody asked for."""


@contextmanager
def capture(
    adapter: Adapter, hooks: Sequence[HookPoint], *, stop_early: bool = False, keep: Callable[[Tensor], Any] | None = None
) -> Generator[dict[HookPoint, Any]]:
    """A dictionary that a forward pass inside the `with` block fills: hook point -> x_BTD, the module's output (after any edit opened before).

    With `keep`, what that makes of x_BTD instead: it is called at once, so that the rest of the output can be freed.

    With `stop_early` the forward pass ends after the last hook asked for; it then leaves the `with` block at once, without logits.
    Several passes overwrite each other. Raises ModelError for a layer or site that the model lacks.
    """
    seen: dict[HookPoint, Any] = {}
    modules = {hook: adapter.module(hook) for hook in hooks}
    awaited = len(modules)

    def reader(hook: HookPoint) -> Callable[[nn.Module, tuple, object], None]:
        def read(_module: nn.Module, _args: tuple, output: object) -> None:
            x_BTD = _first(output)
            seen[hook] = x_BTD if keep is None else keep(x_BTD)
            if stop_early and len(seen) == awaited:
                raise _Enough

        return read

    with ExitStack() as stack:
        for hook, module in modules.items():
            stack.callback(module.register_forward_hook(reader(hook)).remove)
        with suppress(_Enough):
            yield seen


@contextmanager
def edit(adapter: Adapter, edits: Mapping[HookPoint, EditFn], *, mask_BT: Tensor, kind_BT: Tensor, position_BT: Tensor, row_B: Tensor) -> Generator[None]:
    """Inside the `with` block the model computes with the edited activations, at the positions of `mask_BT` only.

    The pass must have the shape (B, T) of the masks. `forward.run` and the functions built on it call this; use it directly for one plain pass.
    """
    is_everywhere = bool(mask_BT.all())

    def writer(hook: HookPoint, change: EditFn) -> Callable[[nn.Module, tuple, object], object]:
        context = EditContext(hook, mask_BT, kind_BT, position_BT, row_B)

        def write(_module: nn.Module, _args: tuple, output: object) -> object:
            x_BTD = _first(output)
            new_BTD = change(x_BTD, context)
            assert new_BTD.shape == x_BTD.shape, f"the edit at {hook} returned shape {tuple(new_BTD.shape)} for {tuple(x_BTD.shape)}"
            if not is_everywhere and new_BTD is not x_BTD:
                new_BTD = torch.where(mask_BT[:, :, None], new_BTD.to(x_BTD.dtype), x_BTD)
            return _with_first(output, new_BTD.to(x_BTD.dtype))

        return write

    with ExitStack() as stack:
        for hook, change in edits.items():
            stack.callback(adapter.module(hook).register_forward_hook(writer(hook, change)).remove)
        yield


def _first(output: object) -> Tensor:
    """The activations among a module's outputs: attention modules return (output, weights), layers a tensor or, in older models, a tuple."""
    x_BTD = output[0] if isinstance(output, tuple) else output
    assert isinstance(x_BTD, Tensor), f"a hooked module returned {type(x_BTD).__name__} where activations were expected"
    return x_BTD


def _with_first(output: object, x_BTD: Tensor) -> object:
    return (x_BTD, *output[1:]) if isinstance(output, tuple) else x_BTD
