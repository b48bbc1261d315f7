"""How many tokens one forward pass may hold: from the configuration, from the free memory, and from what did not fit before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebias.config.schema import Config
from saebias.errors import StoreError
from saebias.paths import cache_folder
from saebias.report import Reporter
from saebias.store.files import read_json_object, update_json_object

if TYPE_CHECKING:
    from saebias.vlm.loading import LoadedModel

LARGEST = 4096
"""Larger passes were no faster on two cores: their activations leave the processor's cache. A fixed number, so that free memory rarely changes a batch."""
LARGEST_GPU = 32768
SHARE_OF_FREE = 0.4
"""Of the free memory, for one pass: shards, pictures and the index need some too."""


class TokenBudget:
    """The number of tokens per pass, and its halving; a size that did not fit is remembered for this model and device."""

    def __init__(self, cfg: Config, loaded: LoadedModel, n_hooks: int, reporter: Reporter) -> None:
        self._reporter = reporter
        self._path = cache_folder() / "token-budgets.json"
        self._key = f"{loaded.name}|{loaded.digest[:16]}|{loaded.dtype}|{loaded.device.type}|{n_hooks}"
        remembered = (read_json_object(self._path) or {}).get(self._key)
        if cfg.runtime.token_budget is not None:
            self.tokens = cfg.runtime.token_budget
        elif remembered is not None:
            self.tokens = min(int(remembered), free_budget(loaded, n_hooks))
            reporter.info(f"extract: {self.tokens:,} tokens a pass, because more did not fit into memory before (remembered in {self._path})")
        else:
            self.tokens = free_budget(loaded, n_hooks)

    def halve(self, n_tokens: int) -> None:
        """Half of a pass of `n_tokens` that did not fit; says so and remembers it."""
        self.tokens = max(1, min(self.tokens, n_tokens // 2))
        self._reporter.warn(f"extract: out of memory with {n_tokens:,} tokens in a pass; going on with {self.tokens:,} at most, also next time ({self._path})")
        try:
            update_json_object(self._path, lambda known: {**known, self._key: self.tokens})
        except StoreError as error:
            self._reporter.warn(f"extract: that size cannot be remembered ({error}); set runtime.token_budget={self.tokens}")

    def fewer_pictures(self, count: int) -> None:
        """Say that memory had no room to make `count` pictures ready at a time."""
        self._reporter.warn(f"extract: out of memory while {count} pictures were made ready; going on with half of them (runtime.batch_size={count // 2})")


def free_budget(loaded: LoadedModel, n_hooks: int) -> int:
    """Tokens of a pass that fit into the free memory of the model's device, at most LARGEST."""
    import psutil
    import torch

    if loaded.device.type == "cuda":
        free, largest = torch.cuda.mem_get_info(loaded.device)[0], LARGEST_GPU
    else:
        free, largest = psutil.virtual_memory().available, LARGEST
    return max(1, min(largest, int(SHARE_OF_FREE * free / bytes_per_token(loaded, n_hooks))))


def bytes_per_token(loaded: LoadedModel, n_hooks: int) -> float:
    """A generous estimate of what one token needs during a pass: hooked activations twice, keys and values twice, and a layer's own intermediates."""
    adapter = loaded.adapter
    return (2 * n_hooks + 2 * adapter.n_layers + 24) * adapter.d_model * loaded.dtype.itemsize
