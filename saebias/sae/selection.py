"""Which latents of a row stay active.

Shapes: N rows, F latents, K active latents a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saebias.sae.kernels.choice import can_compile_for


def topk_positive(pre_NF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest pre-activations of each row after the ReLU: (values [N, K] >= 0, indices [N, K] int64), in no stated order.

    Rows with fewer than k positive pre-activations are padded with value 0. The gradient is 0 wherever the value is 0.
    """
    if can_compile_for(pre_NF):
        # Imported here: numba is optional, and takes half a second.
        from saebias.sae.kernels.compiled import select_largest

        return select_largest(pre_NF, k)
    values_NK, indices_NK = pre_NF.topk(k, dim=1, sorted=False)
    return torch.relu(values_NK), indices_NK
