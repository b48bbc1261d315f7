"""Which row comes when: an order that mixes rows far apart although rows are read in whole blocks, and that can be stopped and taken up anywhere.

Only row numbers are handled here; `batches` puts the activations behind them. Shapes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from saebias.errors import InputError


@dataclass(frozen=True)
class OrderSpec:
    """What an order is a function of: nothing else (how many rows a file holds, how many threads read) changes a batch."""

    n_rows: int
    batch_size: int
    epochs: int
    seed: int
    block_rows: int = 8192
    """Rows that enter together; a block is read as one."""
    buffer_rows: int = 65_536
    """Rows that are mixed with each other; what the activations of them need is the memory of a training."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.epochs < 1 or self.block_rows < 1 or self.buffer_rows < 1:
            raise InputError(
                f"batch size {self.batch_size}, epochs {self.epochs}, block {self.block_rows} and buffer {self.buffer_rows} rows must all be at least 1"
            )
        if self.n_rows < self.batch_size:
            raise InputError(f"{self.n_rows} rows are fewer than one batch of {self.batch_size}; extract more rows or lower the batch size")

    @property
    def held_rows(self) -> int:
        """More rows than wait at any time: the buffer, a block that overfills it, one that is let out, and a batch."""
        return max(self.buffer_rows, self.block_rows) + 2 * self.block_rows + self.batch_size

    def block(self, number: int) -> tuple[int, int]:
        """First row and end of block `number`."""
        return number * self.block_rows, min((number + 1) * self.block_rows, self.n_rows)


@dataclass(frozen=True)
class Move:
    """Blocks that enter, and then rows that leave (they have all entered before)."""

    entering: list[int]
    leaving: np.ndarray


class RowOrder:
    """A reservoir of row numbers: blocks enter in a permuted order and their rows change places with random rows that wait; every row once an epoch."""

    def __init__(self, spec: OrderSpec) -> None:
        self.spec = spec
        self._start_epoch(0)
        self._held = self._waiting = np.empty(0, dtype=np.int64)

    def _start_epoch(self, epoch: int) -> None:
        self._epoch, self._next_block = epoch, 0
        self._rng = np.random.default_rng([self.spec.seed, epoch])
        self._blocks = self._rng.permutation(-(-self.spec.n_rows // self.spec.block_rows))

    @property
    def next_block(self) -> int | None:
        """The block that enters next in this epoch, None when all have."""
        return int(self._blocks[self._next_block]) if self._next_block < len(self._blocks) else None

    @property
    def present(self) -> np.ndarray:
        """Rows that have entered and not left."""
        return np.concatenate([self._held, self._waiting])

    def next_batch(self) -> list[Move]:
        """The moves that make up the next batch; the rows that leave in them are the batch, in order. Empty after the last epoch."""
        moves: list[Move] = []
        entering: list[int] = []
        missing = self.spec.batch_size
        while missing:
            if len(self._waiting) >= missing or (self.next_block is None and not len(self._held)):
                # At the end of an epoch the rest leaves before a block of the next one may bring the same rows again.
                leaving, self._waiting = self._waiting[:missing], self._waiting[missing:]
                if len(leaving):
                    moves.append(Move(entering, leaving))
                    entering, missing = [], missing - len(leaving)
                if missing:
                    if self._epoch + 1 == self.spec.epochs:
                        break
                    self._start_epoch(self._epoch + 1)
            elif (block := self.next_block) is not None:
                entering.append(block)
                self._enter(block)
            else:
                self._waiting = np.concatenate([self._waiting, self._rng.permutation(self._held)])
                self._held = self._held[:0]
        return moves

    def _enter(self, block: int) -> None:
        self._next_block += 1
        rows = np.arange(*self.spec.block(block))
        if len(self._held) < max(self.spec.buffer_rows, self.spec.block_rows):
            self._held = np.concatenate([self._held, rows])
            return
        places = self._rng.choice(len(self._held), size=len(rows), replace=False)
        self._waiting = np.concatenate([self._waiting, self._held[places]])
        self._held[places] = rows

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that `restore` needs to go on with the very next batch: arrays of row numbers, and facts that are plain JSON."""
        arrays = {"held": self._held.copy(), "waiting": self._waiting.copy()}
        return arrays, {"epoch": self._epoch, "next_block": self._next_block, "rng": self._rng.bit_generator.state}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Take up where `state` was called; the spec must be the same one."""
        self._start_epoch(facts["epoch"])
        self._next_block = facts["next_block"]
        self._rng.bit_generator.state = facts["rng"]
        self._held, self._waiting = arrays["held"].copy(), arrays["waiting"].copy()
