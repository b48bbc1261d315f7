"""Activations of many layers, read-only, under a stated memory bound.

Shapes: R rows, T positions, L layers, D model width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.vlm.forward import Edit, activations
from saebias.vlm.inputs import ModelInputs
from saebias.vlm.loading import LoadedModel


class ActivationCache(Mapping[HookPoint, Tensor]):
    """A mapping from hook point to activations [R, T, D] of right-padded or equally long rows, filled by `record`; positions beyond a row are 0.

    A class, because it holds memory that must be let go: use it in a `with` block or call `close`. Its tensors must not be written to.
    """

    def __init__(self, hooks: Sequence[HookPoint], max_bytes: int) -> None:
        if not hooks:
            raise InputError("a cache of no hook point holds nothing; name at least one")
        self._parts: dict[HookPoint, list[Tensor]] = {hook: [] for hook in sorted(hooks)}
        self._masks: list[Tensor] = []
        self._joined: dict[HookPoint, Tensor] = {}
        self.max_bytes = max_bytes
        self.n_bytes = 0

    def record(self, loaded: LoadedModel, batches: Iterable[ModelInputs], *, edit: Edit | None = None) -> ActivationCache:
        """Run the batches and keep their activations; InputError, before anything more is kept, when the next batch would exceed the memory bound."""
        for inputs in batches:
            shape = inputs.input_ids_BT.shape
            needed = len(self._parts) * shape[0] * shape[1] * loaded.adapter.d_model * torch.finfo(loaded.dtype).bits // 8
            if self.n_bytes + needed > self.max_bytes:
                raise InputError(
                    f"the cache holds {self.n_bytes / 2**20:.0f} MiB and the next batch needs {needed / 2**20:.0f} more than its bound of "
                    f"{self.max_bytes / 2**20:.0f} allows; cache fewer layers or rows, or raise the bound"
                )
            kept = activations(loaded, inputs, list(self._parts), edit=edit)
            mask_BT = inputs.attention_mask_BT.bool()
            for hook, x_BTD in kept.items():
                self._parts[hook].append((x_BTD * mask_BT[..., None]).detach())
            self._masks.append(mask_BT)
            self._joined.clear()
            self.n_bytes += needed
        return self

    def __getitem__(self, hook: HookPoint) -> Tensor:
        if hook not in self._parts:
            raise KeyError(f"{hook} was not cached; cached are {', '.join(str(kept) for kept in self._parts)}")
        if hook not in self._joined:
            # One copy at a time: the parts give way to the tensor they were joined into.
            self._joined[hook] = _joined(self._parts[hook])
            self._parts[hook] = [self._joined[hook]]
        return self._joined[hook]

    def __iter__(self) -> Iterator[HookPoint]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def mask(self) -> Tensor:
        """Which positions hold a token [R, T]."""
        return _joined(self._masks)

    def stacked(self) -> Tensor:
        """All layers in order [L, R, T, D]."""
        return torch.stack([self[hook] for hook in self])

    def pooled(self, hook: HookPoint, keep_RT: Tensor) -> Tensor:
        """Mean over the positions marked in `keep_RT` [R, D]; InputError for a row without any. For probes and lenses, never for a dictionary."""
        keep_RT = keep_RT & self.mask
        count_R = keep_RT.sum(1)
        if (count_R == 0).any():
            raise InputError(f"{int((count_R == 0).sum())} rows have no position to pool; choose a kind of token that every row has")
        return (self[hook] * keep_RT[..., None]).sum(1) / count_R[:, None]

    def close(self) -> None:
        """Let all activations go."""
        for hook in self._parts:
            self._parts[hook] = []
        self._joined.clear()
        self._masks.clear()
        self.n_bytes = 0

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
