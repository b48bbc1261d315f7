"""How good a dictionary is on activations it has not seen, and the gate that stops the analysis of a bad one.

Shapes: N rows, D model width, F latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from saebias.errors import BadRows, InputError
from saebias.sae.module import SparseAutoencoder

ROWS_PER_CHUNK = 2048


@dataclass(frozen=True)
class SaeQuality:
    """Figures of one dictionary on one set of rows; flat, so that it is a table row. What cannot be computed is None."""

    n_rows: int
    n_latents: int
    fvu: float | None
    """Fraction of variance unexplained: sum ||x - x_hat||^2 / sum ||x - mean||^2, centred; None when the rows do not vary."""
    l0: float
    """Active latents a row."""
    dead_share: float
    """Share of latents active on none of the rows; depends on how many rows there are."""
    density_p05: float
    """Quantiles over latents of the share of rows on which a latent is active."""
    density_p25: float
    density_p50: float
    density_p75: float
    density_p95: float
    encoder_decoder_cosine: float
    """Mean over latents of the cosine between encoder column and decoder row."""
    nearest_decoder_cosine: float
    """Mean over latents of the cosine to the most similar other decoder row: near 1 means that latents repeat each other."""


@dataclass(frozen=True)
class QualityLimits:
    """What a dictionary must keep before its latents are analysed."""

    max_fvu: float = 0.5
    max_dead_share: float = 0.5
    max_l0_share_of_latents: float = 0.1
    """A code that uses more of the dictionary than this is not sparse."""
    min_rows: int = 512
    """On fewer rows FVU and dead share say nothing."""


class QualityAccumulator:
    """Takes rows in pieces and gives the quality on all of them, in float64 sums and bounded memory."""

    def __init__(self, sae: SparseAutoencoder, reference_mean_D: Tensor | None = None) -> None:
        """`reference_mean_D` is the mean that FVU compares with; None takes the mean of the rows added."""
        self._sae = sae
        self._reference_mean_D = None if reference_mean_D is None else reference_mean_D.double()
        self._shift_D: Tensor | None = self._reference_mean_D
        self._n_rows = 0
        self._error = 0.0
        self._spread = 0.0
        self._shifted_sum_D = torch.zeros(sae.spec.d_model, dtype=torch.float64)
        self._active_F = torch.zeros(sae.spec.n_latents, dtype=torch.int64)

    @torch.no_grad()
    def add(self, x_ND: Tensor) -> None:
        """Count in rows of raw activations [N, D]; raises BadRows when one is NaN or infinite."""
        for x_CD in x_ND.split(ROWS_PER_CHUNK):
            codes_CF = self._sae.encode(x_CD)
            error = (x_CD - self._sae.decode(codes_CF)).double().square().sum().item()
            if not torch.isfinite(x_CD).all():
                raise BadRows(f"rows {self._n_rows}..{self._n_rows + len(x_CD)} hold NaN or infinite activations; quality cannot be measured on them")
            # Sums are taken about the first mean seen: the raw ones would cancel when the mean is large beside the spread.
            self._shift_D = x_CD.double().mean(0) if self._shift_D is None else self._shift_D
            shifted_CD = x_CD.double() - self._shift_D
            self._error += error
            self._spread += shifted_CD.square().sum().item()
            self._shifted_sum_D += shifted_CD.sum(0)
            self._active_F += (codes_CF > 0).sum(0)
            self._n_rows += len(x_CD)

    def density_F(self) -> Tensor:
        """Share of the rows added on which each latent is active [F], float64."""
        return self._active_F.double() / max(self._n_rows, 1)

    def fvu(self) -> float | None:
        """Fraction of variance unexplained on the rows added, None where they do not vary: all of `result` that costs nothing more."""
        spread = self._spread - (0.0 if self._reference_mean_D is not None else self._shifted_sum_D.square().sum().item() / max(self._n_rows, 1))
        return self._error / spread if spread > 0 else None

    def result(self) -> SaeQuality:
        """The quality on all rows added; raises InputError when there were none."""
        n = self._n_rows
        if n == 0:
            raise InputError("no rows to measure the quality of an SAE on; hand in activations of the validation images")
        density_F = self.density_F()
        quantiles = torch.quantile(density_F, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)).tolist()
        return SaeQuality(
            n,
            len(density_F),
            self.fvu(),
            density_F.sum().item(),
            (density_F == 0).double().mean().item(),
            *quantiles,
            encoder_decoder_cosine=functional.cosine_similarity(self._sae.W_enc_DF.detach().T, self._sae.W_dec_FD.detach(), dim=1).mean().item(),
            nearest_decoder_cosine=_nearest_cosine(self._sae.W_dec_FD.detach()),
        )


@dataclass(frozen=True)
class DensityBin:
    """How many latents are active on a share of rows from `low` up to but without `high` (the last bin with it); dead ones are in no bin."""

    low: float
    high: float
    n_latents: int


def density_histogram(density_F: Tensor, bins_per_decade: int = 4, lowest: float = 1e-5) -> list[DensityBin]:
    """Latents by the share of rows they are active on, in bins of equal width on a log scale from `lowest` to 1; rarer ones are in the first bin."""
    n_bins = round(-math.log10(lowest) * bins_per_decade)
    edges = torch.logspace(math.log10(lowest), 0.0, n_bins + 1, dtype=torch.float64)
    places = torch.bucketize(density_F[density_F > 0].double(), edges, right=True).clamp(1, n_bins) - 1
    counts = torch.bincount(places, minlength=n_bins).tolist()
    return [DensityBin(low, high, count) for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts, strict=True)]


def sae_quality(sae: SparseAutoencoder, x_ND: Tensor, *, reference_mean_D: Tensor | None = None) -> SaeQuality:
    """The quality of a dictionary on raw activations [N, D]; see `QualityAccumulator` for arrays that do not fit in memory."""
    accumulator = QualityAccumulator(sae, reference_mean_D)
    accumulator.add(x_ND)
    return accumulator.result()


def quality_gate(quality: SaeQuality, limits: QualityLimits) -> list[str]:
    """The reasons why the latents of this dictionary must not be analysed, one line each; an empty list means that it passed."""
    reasons = []
    if quality.n_rows < limits.min_rows:
        reasons.append(f"measured on {quality.n_rows} rows, at least {limits.min_rows} are needed")
    if quality.fvu is None:
        reasons.append("FVU cannot be computed: the rows do not vary")
    elif quality.fvu > limits.max_fvu:
        reasons.append(f"FVU {quality.fvu:.3f} is above {limits.max_fvu:g}: the reconstruction misses too much of the activations")
    if quality.dead_share > limits.max_dead_share:
        reasons.append(f"{quality.dead_share:.0%} of {quality.n_latents} latents are dead, at most {limits.max_dead_share:.0%} may be")
    if quality.l0 > limits.max_l0_share_of_latents * quality.n_latents:
        reasons.append(
            f"not sparse: L0 {quality.l0:.1f} is {quality.l0 / quality.n_latents:.0%} of the latents, at most {limits.max_l0_share_of_latents:.0%} may be"
        )
    return reasons


def _nearest_cosine(W_dec_FD: Tensor) -> float:
    unit_FD = functional.normalize(W_dec_FD, dim=1)
    nearest = []
    for start in range(0, len(unit_FD), ROWS_PER_CHUNK):
        cosine_CF = unit_FD[start : start + ROWS_PER_CHUNK] @ unit_FD.T
        rows_C = torch.arange(len(cosine_CF))
        cosine_CF[rows_C, rows_C + start] = -1.0
        nearest.append(cosine_CF.amax(1))
    return torch.cat(nearest).mean().item()
