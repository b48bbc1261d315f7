"""Running only what an edit changes: the layers above the hook, at the positions from the first edited one on.

An edit at one layer leaves the layers below untouched, and in a causal decoder it leaves every earlier position untouched. So one ordinary
forward is recorded, and each edited copy of the residual stream is sent through the upper layers alone, against the frozen keys and
values of the earlier positions (the picture). Many copies (sets of latents, strengths) share one batch.

Shapes: B rows, T positions, Q replayed positions (T - start), S copies, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saebias.errors import ModelError

# What a decoder layer of transformers is called with that has one entry per position, and which axis that is.
_POSITION_AXIS = {"position_ids": -1, "cache_position": -1}


@dataclass(frozen=True)
class UpperRun:
    """One recorded forward: the residual stream after the hook layer and everything the layers above it were given."""

    x_BTD: Tensor
    """Residual stream after the hook layer, all positions."""
    final_BTD: Tensor
    """Output of the last layer (before the final norm), all positions."""
    start: int
    """First replayed position; everything before it is frozen."""
    layers: tuple[nn.Module, ...]
    calls: tuple[dict[str, object], ...]
    prefixes: tuple[tuple[Tensor, Tensor], ...]

    @property
    def suffix_BQD(self) -> Tensor:
        """The part of the residual stream that an edit may change."""
        return self.x_BTD[:, self.start :]


class _Recorder:
    """Stands where a layer expects its key-value cache and keeps what the layer computed."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        self.kept.append((keys, values))
        return keys, values


class _FrozenPrefix:
    """Stands where a layer expects its key-value cache and puts the recorded prefix before the new positions."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)


@torch.no_grad()
def record_upper(layers: Sequence[nn.Module], hook_layer: int, forward: Callable[[], object], start: int = 0) -> UpperRun:
    """Run `forward` once and keep what replaying the layers above `hook_layer` from position `start` on needs.

    `forward` runs the whole model on one batch without a key-value cache. Raises ModelError when an upper layer is not called in the
    way decoder layers of transformers are, so that the caller can run whole forwards instead.
    """
    if not 0 <= hook_layer < len(layers):
        raise ModelError(f"layer {hook_layer} is not one of the decoder's {len(layers)} layers; choose 0 to {len(layers) - 1}")
    upper = tuple(layers[hook_layer + 1 :])
    recorders, calls, outputs, handles = [_Recorder() for _ in upper], [], {}, []

    def before(recorder: _Recorder) -> Callable[..., tuple[tuple, dict]]:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            if len(args) != 1 or kwargs.get("past_key_values", recorder) not in (None, recorder):
                raise ModelError("this decoder calls its layers with extra positions or a cache; replay works only without, run whole forwards instead")
            calls.append({name: value for name, value in kwargs.items() if name != "past_key_values"})
            return args, {**kwargs, "past_key_values": recorder}

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            outputs[name] = output if isinstance(output, Tensor) else output[0]

        return hook

    try:
        handles += [layer.register_forward_pre_hook(before(r), with_kwargs=True) for layer, r in zip(upper, recorders, strict=True)]
        handles += [layers[hook_layer].register_forward_hook(after("x")), layers[-1].register_forward_hook(after("final"))]
        forward()
    finally:
        for handle in handles:
            handle.remove()
    if any(len(recorder.kept) != 1 for recorder in recorders):
        raise ModelError("a decoder layer above the hook keeps no keys and values in the usual way; run whole forwards instead")
    prefixes = tuple((keys[:, :, :start], values[:, :, :start]) for recorder in recorders for keys, values in recorder.kept)
    return UpperRun(x_BTD=outputs["x"], final_BTD=outputs["final"], start=start, layers=upper, calls=tuple(calls), prefixes=prefixes)


@torch.no_grad()
def replay_upper(run: UpperRun, x_SBQD: Tensor) -> Tensor:
    """Output of the last layer [S, B, Q, D] for S edited copies of the recorded residual stream's replayed positions."""
    n_copies, n_rows, n_positions, d = x_SBQD.shape
    x = x_SBQD.reshape(n_copies * n_rows, n_positions, d)
    for layer, call, (keys, values) in zip(run.layers, run.calls, run.prefixes, strict=True):
        prefix = _FrozenPrefix(keys.repeat(n_copies, 1, 1, 1), values.repeat(n_copies, 1, 1, 1))
        output = layer(x, past_key_values=prefix, **_sliced(call, run, n_copies))
        x = output if isinstance(output, Tensor) else output[0]
    return x.view(n_copies, n_rows, n_positions, d)


def replay_error(run: UpperRun) -> float:
    """Largest absolute difference between the recorded forward and its unedited replay: rounding only, or replay does not fit this model."""
    return float((replay_upper(run, run.suffix_BQD[None])[0] - run.final_BTD[:, run.start :]).abs().max())


def _sliced(call: dict[str, object], run: UpperRun, n_copies: int) -> dict[str, object]:
    """A layer's keyword arguments, cut to the replayed positions and repeated for every copy."""
    sliced: dict[str, object] = {}
    for name, value in call.items():
        if name == "attention_mask":
            sliced[name] = _sliced_mask(value, run, n_copies)
        elif name == "position_embeddings" and isinstance(value, tuple):
            sliced[name] = tuple(_repeated(part[..., run.start :, :], -3, run.x_BTD.shape[0], n_copies) for part in value)
        elif isinstance(value, Tensor) and name in _POSITION_AXIS:
            sliced[name] = _repeated(value[..., run.start :], -2, run.x_BTD.shape[0], n_copies)
        elif isinstance(value, Tensor):
            raise ModelError(f"decoder layers of this model take a tensor {name!r} whose positions are unknown; run whole forwards instead")
        else:
            sliced[name] = value
    return sliced


def _sliced_mask(mask: object, run: UpperRun, n_copies: int) -> Tensor:
    """The attention mask of the replayed positions [S * B or 1, 1, Q, T]; a missing one was causal, which must be said once queries are fewer than keys."""
    n_rows, n_positions, _ = run.x_BTD.shape
    if mask is None:
        causal_TT = torch.ones(n_positions, n_positions, dtype=torch.bool, device=run.x_BTD.device).tril()
        return causal_TT[None, None, run.start :]
    if not isinstance(mask, Tensor) or mask.ndim != 4 or mask.shape[-1] != n_positions:
        raise ModelError("this decoder masks attention in a form that replay does not know; run whole forwards instead")
    return _repeated(mask[:, :, run.start :], 0, n_rows, n_copies)


def _repeated(tensor: Tensor, axis: int, n_rows: int, n_copies: int) -> Tensor:
    """The tensor repeated for each copy along its row axis; one entry that serves all rows, or no such axis, stays as it is."""
    if tensor.ndim < abs(axis) or tensor.shape[axis] == 1:
        return tensor
    if tensor.shape[axis] != n_rows:
        raise ModelError(f"a layer input of shape {tuple(tensor.shape)} does not fit {n_rows} rows; run whole forwards instead")
    repeats = [1] * tensor.ndim
    repeats[axis] = n_copies
    return tensor.repeat(repeats)
