"""How many threads torch uses."""

from __future__ import annotations

import os

import torch


def set_torch_threads(threads: int | None = None) -> int:
    """Set torch's threads to `threads`, or to the cores that this process may use, and return the number.

    More threads than cores make small models several times slower, because the threads wait for each other at every matrix product.
    """
    number = len(os.sched_getaffinity(0)) if threads is None else threads
    torch.set_num_threads(number)
    return number
