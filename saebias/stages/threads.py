"""The threads of torch: set once per process."""

from __future__ import annotations

import os

from saebias.config.schema import Config


def use_threads(cfg: Config) -> int:
    """Give torch the cores that this process may use (or runtime.threads of them) and return how many."""
    import torch

    # More threads than free cores make every small operation wait for the slowest: ten times slower was seen.
    count = cfg.runtime.threads or len(os.sched_getaffinity(0))
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return count
