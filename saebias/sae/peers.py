"""The processes that share the latents of one dictionary, each with an equal run of them, and what they tell each other.

Every method that talks is called by all of them in the same order. Shapes: B rows, K places of a row, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as functional
from torch import Tensor

from saebias.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Peers:
    """Process `rank` of `size`; process 0 leads: it alone reads and writes what is kept. A process alone has nobody to talk to, and no number changes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process keeps what all of them made."""
        return self.rank == 0

    def own(self, n_latents: int) -> slice:
        """The latents of this process; raises InputError when they cannot be shared evenly."""
        if n_latents % self.size:
            raise InputError(f"{n_latents} latents cannot be shared evenly by {self.size} processes; choose another width, or start another number of them")
        each = n_latents // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each."""
        if self.size == 1:
            return tensor
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, which have one shape, in order of rank."""
        if self.size == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor.contiguous())
        return found

    def collected(self, tensor: Tensor) -> Tensor:
        """A copy on the CPU: in the leading process of the rows of all processes, one after another, elsewhere of its own."""
        mine = tensor.detach().to("cpu", copy=True)
        if self.size == 1:
            return mine
        rows = [torch.empty_like(mine) for _ in range(self.size)] if self.leads else None
        dist.gather(mine.contiguous(), rows)
        return mine if rows is None else torch.cat(rows)

    def told(self, value: T) -> T:
        """What the leading process says, whatever the others hand in."""
        if self.size == 1:
            return value
        said = [value]
        dist.broadcast_object_list(said)
        return said[0]

    def winning(self, values_BK: Tensor, k: int) -> Tensor:
        """Which of these are among the k largest of each row over all processes [B, K] bool; each hands in its own largest, at most k a row."""
        if self.size == 1:
            return torch.ones_like(values_BK, dtype=torch.bool)
        padded_BK = functional.pad(values_BK, (0, k - values_BK.shape[1]), value=-torch.inf)
        every_BR = torch.cat(self.gathered(padded_BK), dim=1)
        wins_BR = torch.zeros_like(every_BR, dtype=torch.bool).scatter_(1, every_BR.topk(k, dim=1).indices, True)
        return wins_BR[:, self.rank * k : self.rank * k + values_BK.shape[1]]


ALONE = Peers()


def present_peers() -> Peers:
    """The processes that torch.distributed has brought together, this one alone where it has not."""
    return Peers(dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else ALONE
