"""Running only what an edit changes: the layers above the hook, at the positions from the first edited one on.

An edit at one layer leaves the layers below untouched, and in a causal decoder it leaves every earlier position untouched. So one ordinary
forward is recorded, and each edited copy of the residual stream is sent through the upper layers alone, against the frozen keys and
values of the earlier positions (the picture). Many copies (arms, sets of latents) share one batch.

Shapes: B rows, T positions of the recorded forward, Q replayed positions, P frozen positions, K = P + Q, S copies, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saebias.errors import ModelError

_WHOLE = "run whole forwards instead"


@dataclass(frozen=True, eq=False)
class UpperRun:
    """What replaying the layers above a hook needs of one recorded forward, cut to the replayed positions."""

    x_BQD: Tensor
    """Residual stream after the hook layer: what an edit may change."""
    final_BQD: Tensor
    """Output of the last layer (before the final norm) in the recorded forward."""
    layers: tuple[nn.Module, ...]
    calls: tuple[dict[str, object], ...]
    """Keyword arguments of each upper layer: masks [B or 1, 1, Q, K], position embeddings [.., B or 1, Q, H]."""
    prefixes: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values [B, heads, P, H] of the frozen positions, per upper layer."""

    @property
    def n_frozen(self) -> int:
        """Number of frozen positions P."""
        return self.prefixes[0][0].shape[2] if self.prefixes else 0


class _Recorder:
    """Stands where a layer expects its key-value cache and keeps what the layer computed."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        self.kept.append((keys, values))
        return keys, values


class _FrozenPrefix:
    """Stands where a layer expects its key-value cache and puts the recorded prefix before the new positions."""

    def __init__(self, keys: Tensor, values: Tensor, n_copies: int) -> None:
        # Not copied here: the one copy is made where the prefix meets the new positions.
        self.kept = tuple(part.expand(n_copies, *part.shape) for part in (keys, values))

    def update(self, keys: Tensor, values: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return self._behind(self.kept[0], keys), self._behind(self.kept[1], values)

    @staticmethod
    def _behind(prefix_SBHPD: Tensor, new: Tensor) -> Tensor:
        """New keys or values [S * B, H, Q, D] behind the prefix: [S * B, H, P + Q, D]."""
        return torch.cat([prefix_SBHPD, new.unflatten(0, prefix_SBHPD.shape[:2])], dim=3).flatten(0, 1)


@torch.no_grad()
def record_upper(layers: Sequence[nn.Module] | nn.ModuleList, hook_layer: int, forward: Callable[[], object], start: int = 0) -> UpperRun:
    """Run `forward` once and keep what replaying the layers above `hook_layer` from position `start` on needs.

    `forward` runs the whole model on one batch without a key-value cache. Raises ModelError when an upper layer is not called in the
    way decoder layers of transformers are, so that the caller can run whole forwards instead.
    """
    if not 0 <= hook_layer < len(layers):
        raise ModelError(f"layer {hook_layer} is not one of the decoder's {len(layers)} layers; choose 0 to {len(layers) - 1}")
    upper = tuple(layers[hook_layer + 1 :])
    recorders, outputs, handles = [_Recorder() for _ in upper], {}, []
    calls: list[dict[str, object]] = []

    def before(recorder: _Recorder) -> Callable[..., tuple[tuple, dict]]:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            if len(args) != 1 or kwargs.get("past_key_values") is not None:
                raise ModelError(f"this decoder calls its layers with extra positions or a cache; {_WHOLE}")
            calls.append({name: value for name, value in kwargs.items() if name != "past_key_values"})
            return args, {**kwargs, "past_key_values": recorder}

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            outputs[name] = _first(output)

        return hook

    try:
        handles += [layer.register_forward_pre_hook(before(r), with_kwargs=True) for layer, r in zip(upper, recorders, strict=True)]
        handles += [layers[hook_layer].register_forward_hook(after("x")), layers[-1].register_forward_hook(after("final"))]
        forward()
    finally:
        for handle in handles:
            handle.remove()
    if any(len(recorder.kept) != 1 for recorder in recorders):
        raise ModelError(f"a decoder layer above the hook keeps no keys and values in the usual way; {_WHOLE}")
    prefixes = tuple((keys[:, :, :start], values[:, :, :start]) for recorder in recorders for keys, values in recorder.kept)
    x_BTD = outputs["x"]
    cut = tuple({name: _from_position(name, value, x_BTD, start) for name, value in call.items()} for call in calls)
    return UpperRun(x_BTD[:, start:], outputs["final"][:, start:], upper, cut, prefixes)


@torch.no_grad()
def replay_upper(run: UpperRun, x_SBQD: Tensor) -> Tensor:
    """Output of the last layer [S, B, Q, D] for S edited copies of the recorded residual stream's replayed positions."""
    n_copies, n_rows = x_SBQD.shape[:2]
    x = x_SBQD.flatten(0, 1)
    for layer, call, (keys, values) in zip(run.layers, run.calls, run.prefixes, strict=True):
        repeated = {name: _for_copies(name, value, n_rows, n_copies) for name, value in call.items()}
        x = _first(layer(x, past_key_values=_FrozenPrefix(keys, values, n_copies), **repeated))
    return x.unflatten(0, (n_copies, n_rows))


def replay_error(run: UpperRun) -> float:
    """Largest absolute difference between the recorded forward and its unedited replay: rounding only, or replay does not fit this model."""
    return float((replay_upper(run, run.x_BQD[None])[0] - run.final_BQD).abs().max())


def _first(output: Tensor | tuple) -> Tensor:
    """The activations among a layer's outputs: a tensor, or in older models the first of a tuple."""
    return output if isinstance(output, Tensor) else output[0]


def _from_position(name: str, value: object, x_BTD: Tensor, start: int) -> object:
    """A keyword argument of a decoder layer, cut to positions from `start` on; ModelError for a tensor whose positions are unknown."""
    if name == "attention_mask":
        return _mask_from(value, x_BTD, start)
    if name == "position_embeddings" and isinstance(value, tuple):
        return tuple(part[..., start:, :] for part in value)
    if name in ("position_ids", "cache_position") and isinstance(value, Tensor):
        return value[..., start:]
    if isinstance(value, Tensor):
        raise ModelError(f"decoder layers of this model take a tensor {name!r} whose positions are unknown; {_WHOLE}")
    return value


def _mask_from(mask: object, x_BTD: Tensor, start: int) -> Tensor:
    """The attention mask [B or 1, 1, Q, T]; a missing one was causal, which must be said once queries are fewer than keys."""
    n_rows, n_positions, _ = x_BTD.shape
    if mask is None:
        return torch.ones(n_positions, n_positions, dtype=torch.bool, device=x_BTD.device).tril()[None, None, start:]
    if not isinstance(mask, Tensor) or mask.ndim != 4 or mask.shape[-2:] != (n_positions, n_positions) or mask.shape[0] not in (1, n_rows):
        raise ModelError(f"this decoder masks attention in a form that replay does not know; {_WHOLE}")
    return mask[:, :, start:]


def _for_copies(name: str, value: object, n_rows: int, n_copies: int) -> object:
    """A keyword argument repeated for each copy along its row axis; what serves all rows stays as it is."""
    if isinstance(value, tuple):
        return tuple(_for_copies(name, part, n_rows, n_copies) for part in value)
    axis = {"attention_mask": 0, "position_embeddings": -3, "position_ids": -2}.get(name)
    if axis is None or not isinstance(value, Tensor) or value.ndim < abs(axis) or value.shape[axis] == 1 or n_copies == 1:
        return value
    repeats = [1] * value.ndim
    repeats[axis] = n_copies
    return value.repeat(repeats)
