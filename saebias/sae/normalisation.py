"""The scale in which a dictionary is trained, and how it is folded into the weights that are kept.

Shapes: N rows, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saebias.errors import BadRows, InputError
from saebias.sae.module import SparseAutoencoder


@dataclass(frozen=True)
class InputScale:
    """Training sees `(x - mean) / scale`: mean 0 and, averaged over dimensions, variance 1, so that one learning rate fits every hook point."""

    mean_D: Tensor
    scale: float
    outlier_ratio: float
    """A row whose distance from the mean is more than this many typical ones is an outlier."""

    def to(self, device: torch.device | str) -> InputScale:
        """The same with its mean on `device`."""
        return replace(self, mean_D=self.mean_D.to(device))

    def is_usual_N(self, normalised_ND: Tensor) -> Tensor:
        """Which rows, in training units, are not outliers [N] bool."""
        return normalised_ND.square().mean(1) <= self.outlier_ratio**2

    def normalise(self, x_ND: Tensor) -> Tensor:
        """Raw activations in training units."""
        return (x_ND - self.mean_D) / self.scale


def input_scale(x_ND: Tensor, outlier_ratio: float = 10.0) -> InputScale:
    """Mean and scalar scale of the first rows of a training; raises InputError when these rows cannot train a dictionary.

    Outliers (rows more than `outlier_ratio` times as far from the mean as the median row) do not count: language models put activations a hundred times the
    usual norm on a few tokens, and those few would set the scale. Refused are rows that are NaN, infinite or all zero, and a dimension that never changes:
    each is the sign of a broken extraction.
    """
    check_rows(x_ND, "the first rows")
    if len(x_ND) < 2:
        raise InputError("one row of activations has no variance; an SAE needs at least two rows")
    constant = torch.nonzero(x_ND.amax(0) == x_ND.amin(0)).flatten().tolist()
    if constant:
        raise InputError(f"dimension {constant[0]} is constant over the first {len(x_ND)} rows ({len(constant)} such dimensions); check the hook point")
    distance_N = torch.linalg.vector_norm(x_ND - x_ND.median(dim=0).values, dim=1)
    usual_ND = x_ND[distance_N <= outlier_ratio * distance_N.median()].double()
    mean_D = usual_ND.mean(0)
    return InputScale(mean_D.to(x_ND.dtype), (usual_ND - mean_D).square().mean().sqrt().item(), outlier_ratio)


def check_rows(x_ND: Tensor, place: str) -> None:
    """Raises BadRows, naming the first one and `place`, when a row is NaN, infinite or all zero."""
    norms_N = torch.linalg.vector_norm(x_ND, dim=1)
    if bool((norms_N > 0).all()) and bool(torch.isfinite(norms_N).all()):
        return
    finite_N = torch.isfinite(x_ND).all(dim=1)
    bad_N = ~finite_N | (norms_N == 0)
    if not bool(bad_N.any()):
        raise InputError(f"activations in {place} are so large that their norm overflows float32; divide them by a constant first")
    row = int(torch.nonzero(bad_N)[0])
    what = "all zero" if bool(finite_N[row]) else "NaN or infinite"
    raise BadRows(f"row {row} of {place} is {what} ({int(bad_N.sum())} such rows); extract these activations again")


@torch.no_grad()
def fold_input_scale(sae: SparseAutoencoder, scale: InputScale) -> None:
    """Change an SAE trained on normalised activations into the equal one on raw activations, in place.

    With z = (x - mean) / s the pre-activations of raw x become s times the old ones: b_dec' = mean + s b_dec, b_enc' = s b_enc (thresholds
    and the magnitude bias of gated SAEs likewise), both matrices unchanged.
    ReLU, TopK and thresholds commute with a positive factor, so codes are now in raw units and the reconstruction is mean + s x_hat(z).
    """
    sae.b_dec_D.mul_(scale.scale).add_(scale.mean_D)
    in_units_of_x = {"b_enc_F", "threshold_F", "b_mag_F"}
    for name, parameter in sae.named_parameters():
        if name in in_units_of_x:
            parameter.mul_(scale.scale)
