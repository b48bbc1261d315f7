"""Which component of the decoder writes the gender gap: each one's share of logit(F) - logit(M), adding up exactly.

The final norm divides by one number per row (RMS norm), so with that number held the logit difference is a sum over what was added to the residual stream:
the embeddings, and each layer's attention and MLP output. Shapes: N rows, C components, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError, ModelError
from saebias.vlm.adapter import Adapter


@dataclass(frozen=True, eq=False)
class LogitAttribution:
    """Contributions [C, N] of the named components to logit(F token) - logit(M token), their sum's distance to the model's own difference (largest, logits)."""

    components: tuple[str, ...]
    contribution_CN: np.ndarray
    total_N: np.ndarray
    largest_error: float


@torch.no_grad()
def attribute_logits(
    adapter: Adapter, parts: Mapping[str, Tensor], female_ids: Sequence[int], male_ids: Sequence[int], *, tolerance: float = 1e-3
) -> LogitAttribution:
    """The share of every part in the logit difference of one F and one M token per row.

    `parts` maps names to what each added to the residual stream [N, D] at one position per row: embeddings, then attn_out and mlp_out of every layer. They must
    add up to the stream after the last layer (`check_parts`). Differences are taken before a soft-cap, which is monotone but not linear.
    Raises ModelError for a norm that is not an RMS norm.
    """
    x_CND = torch.stack([part.float() for part in parts.values()])
    total_ND = x_CND.sum(0)
    n_rows, d = total_ND.shape
    if not n_rows == len(female_ids) == len(male_ids):
        raise InputError(f"{n_rows} rows, {len(female_ids)} F tokens, {len(male_ids)} M tokens; give one of each per row")
    weight_VD = adapter.head.get_parameter("weight")
    own_ND = adapter.norm(total_ND.to(weight_VD.dtype)).float()
    # An RMS norm of ones is its gain.
    gain_D = adapter.norm(torch.ones(1, d, dtype=weight_VD.dtype, device=weight_VD.device))[0].float()
    scale_ND = gain_D / total_ND.pow(2).mean(-1, keepdim=True).sqrt()
    if not torch.allclose(total_ND * scale_ND, own_ND, atol=tolerance * float(own_ND.abs().max())):
        raise ModelError("the final norm is not an RMS norm (it centres or shifts), so logits do not split over components this way")
    readout_ND = (weight_VD[list(female_ids)] - weight_VD[list(male_ids)]).float()
    contribution_CN = torch.einsum("cnd,nd->cn", x_CND, scale_ND * readout_ND)
    own_N = (own_ND * readout_ND).sum(-1)
    error = float((contribution_CN.sum(0) - own_N).abs().max())
    return LogitAttribution(tuple(parts), contribution_CN.cpu().numpy(), own_N.cpu().numpy(), error)


def check_parts(parts: Mapping[str, Tensor], final_ND: Tensor, tolerance: float = 1e-3) -> None:
    """Raise ModelError when the parts do not add up to the residual stream after the last layer: something that writes to it was left out."""
    missing = (torch.stack([part.float() for part in parts.values()]).sum(0) - final_ND.float()).abs().max()
    if missing > tolerance * max(1.0, float(final_ND.abs().max())):
        raise ModelError(
            f"the {len(parts)} parts miss the residual stream by up to {float(missing):.2g}; embeddings, attn_out and mlp_out of every layer are needed"
        )
