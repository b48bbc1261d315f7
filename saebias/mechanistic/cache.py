"""Activations of many layers, read-only, under a stated memory bound.

Shapes: R rows, T positions, L layers, D model width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.vlm.forward import Edit, activations
from saebias.vlm.inputs import ModelInputs
from saebias.vlm.loading import LoadedModel


class Spill(Protocol):
    """Where activations go that memory has no room for: float32 parts [R, T, D] of each hook point, given back in the order they came."""

    def append(self, hook: HookPoint, x_RTD: np.ndarray) -> None:
        """Keep one part."""

    def parts(self, hook: HookPoint) -> Iterator[np.ndarray]:
        """The parts kept, one at a time."""
        ...

    def close(self) -> None:
        """Let everything go."""


class ActivationCache(Mapping[HookPoint, Tensor]):
    """A mapping from hook point to activations [R, T, D] of right-padded or equally long rows, filled by `record`; positions beyond a row are 0.

    With `spill` (`store.arrays.ZarrSpill` writes Zarr arrays) what is beyond `max_bytes` goes there, and comes back by `parts`, batch by batch. A class,
    because it holds memory that must be let go: use it in a `with` block or call `close`. Its tensors must not be written to.
    """

    def __init__(self, hooks: Sequence[HookPoint], max_bytes: int, spill: Spill | None = None) -> None:
        if not hooks:
            raise InputError("a cache of no hook point holds nothing; name at least one")
        self._parts: dict[HookPoint, list[Tensor]] = {hook: [] for hook in sorted(hooks)}
        self._masks: list[Tensor] = []
        self._joined: dict[HookPoint, Tensor] = {}
        self._dtype = torch.float32
        self.spill = spill
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self.n_spilled_bytes = 0

    def record(self, loaded: LoadedModel, batches: Iterable[ModelInputs], *, edit: Edit | None = None) -> ActivationCache:
        """Run the batches and keep their activations; InputError, before anything more is kept, when the next batch would exceed the memory bound.

        With a spill only a single batch larger than the bound is refused.
        """
        for inputs in batches:
            shape = inputs.input_ids_BT.shape
            self._make_room(len(self._parts) * shape[0] * shape[1] * loaded.adapter.d_model * torch.finfo(loaded.dtype).bits // 8)
            self.keep(activations(loaded, inputs, list(self._parts), edit=edit), inputs.attention_mask_BT.bool())
        return self

    def keep(self, found: Mapping[HookPoint, Tensor], mask_BT: Tensor) -> None:
        """Keep one batch of activations [B, T, D] of all hook points of the cache; `mask_BT` marks the positions that hold a token. Raises as `record` does."""
        kept = {hook: (found[hook] * mask_BT[..., None]).detach() for hook in self._parts}
        needed = sum(x_BTD.numel() * x_BTD.element_size() for x_BTD in kept.values())
        self._make_room(needed)
        for hook, x_BTD in kept.items():
            self._parts[hook].append(x_BTD)
            self._dtype = x_BTD.dtype
        self._masks.append(mask_BT)
        self._joined.clear()
        self.n_bytes += needed

    def _make_room(self, needed: int) -> None:
        """Raise InputError when `needed` bytes more do not fit; with a spill, what is held goes there first."""
        if self.n_bytes + needed <= self.max_bytes:
            return
        if self.spill is None or needed > self.max_bytes:
            way_out = "cache fewer layers or rows, or raise the bound" if self.spill is None else "use smaller batches, or raise the bound"
            raise InputError(
                f"the cache holds {self.n_bytes / 2**20:.0f} MiB and the next batch needs {needed / 2**20:.0f} more than its bound of "
                f"{self.max_bytes / 2**20:.0f} allows; {way_out}"
            )
        for hook, parts in self._parts.items():
            for x_BTD in parts:
                self.spill.append(hook, x_BTD.float().cpu().numpy())
            self._parts[hook] = []
        self._joined.clear()
        self.n_spilled_bytes += self.n_bytes
        self.n_bytes = 0

    def parts(self, hook: HookPoint) -> Iterator[Tensor]:
        """The batches of one hook point [B, T, D] in order, one in memory at a time where they were spilled; widths are those of their batches."""
        self._check(hook)
        if self.n_spilled_bytes:
            assert self.spill is not None
            yield from (torch.from_numpy(x_BTD).to(self._dtype) for x_BTD in self.spill.parts(hook))
        yield from self._parts[hook]

    def __getitem__(self, hook: HookPoint) -> Tensor:
        self._check(hook)
        if self.n_spilled_bytes:
            whole = (self.n_bytes + self.n_spilled_bytes) // len(self._parts)
            if whole > self.max_bytes - self.n_bytes:
                raise InputError(
                    f"{hook} holds {whole / 2**20:.0f} MiB in all, more than the {(self.max_bytes - self.n_bytes) / 2**20:.0f} that the bound leaves; "
                    "read it batch by batch with `parts`, or raise the bound"
                )
            return _joined(list(self.parts(hook)))
        if hook not in self._joined:
            # One copy at a time: the parts give way to the tensor they were joined into.
            self._joined[hook] = _joined(self._parts[hook])
            self._parts[hook] = [self._joined[hook]]
        return self._joined[hook]

    def _check(self, hook: HookPoint) -> None:
        if hook not in self._parts:
            raise KeyError(f"{hook} was not cached; cached are {', '.join(str(kept) for kept in self._parts)}")

    def __iter__(self) -> Iterator[HookPoint]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def mask(self) -> Tensor:
        """Which positions hold a token [R, T]."""
        return _joined(self._masks)

    def stacked(self) -> Tensor:
        """All layers in order [L, R, T, D]; raises InputError where a spilled cache is larger than its bound."""
        if self.n_spilled_bytes:
            raise InputError("all layers at once are more than the cache's bound; read them batch by batch with `parts`, or raise the bound")
        return torch.stack([self[hook] for hook in self])

    def pooled(self, hook: HookPoint, keep_RT: Tensor) -> Tensor:
        """Mean over the positions marked in `keep_RT` [R, D]; InputError for a row without any. For probes and lenses, never for a dictionary."""
        keep_RT = keep_RT & self.mask
        count_R = keep_RT.sum(1)
        if (count_R == 0).any():
            raise InputError(f"{int((count_R == 0).sum())} rows have no position to pool; choose a kind of token that every row has")
        sums, start = [], 0
        for x_BTD in self.parts(hook):
            kept_BT = keep_RT[start : start + len(x_BTD), : x_BTD.shape[1]]
            sums.append((x_BTD * kept_BT[..., None]).sum(1))
            start += len(x_BTD)
        return torch.cat(sums) / count_R[:, None]

    def close(self) -> None:
        """Let all activations go, on disk too."""
        for hook in self._parts:
            self._parts[hook] = []
        self._joined.clear()
        self._masks.clear()
        self.n_bytes = self.n_spilled_bytes = 0
        if self.spill is not None:
            self.spill.close()

    def __enter__(self) -> ActivationCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Batches as one tensor, shorter ones filled up with 0 behind."""
    if not parts:
        raise InputError("the cache is empty; record a batch first")
    columns = max(part.shape[1] for part in parts)
    filled = [torch.cat([part, part.new_zeros(part.shape[0], columns - part.shape[1], *part.shape[2:])], dim=1) for part in parts]
    return torch.cat(filled)
