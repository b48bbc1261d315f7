"""How strong the sparsity penalty of relu, gated and jumprelu dictionaries is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

GAIN = 0.05
MEMORY = 0.9


@dataclass(frozen=True)
class Penalty:
    """The weight of the penalty, steered so that the number of active latents a row comes to the one that was asked for."""

    weight: float
    mean_l0: float
    """Running mean of active latents a row."""

    def after(self, l0: float, target: float) -> Penalty:
        """The penalty for the next step, when a batch had `l0` active latents a row: heavier when these were too many."""
        mean_l0 = MEMORY * self.mean_l0 + (1 - MEMORY) * l0
        pressure = math.log((mean_l0 + 0.1) / (target + 0.1))
        return replace(self, weight=self.weight * math.exp(GAIN * max(-1.0, min(1.0, pressure))), mean_l0=mean_l0)
