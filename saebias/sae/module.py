"""What a sparse autoencoder is: its specification, its parameters, and the one way in which it encodes and decodes.

Shapes: N rows, D model width, F latents, K active latents a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from saebias.errors import InputError
from saebias.sae.selection import topk_positive

ARCHITECTURES = ("topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu")
THRESHOLDED = ("batchtopk", "matryoshka", "jumprelu")
PREFIX_SHARES = (1 / 32, 3 / 32, 7 / 32, 15 / 32)
"""Nested prefixes of a matryoshka dictionary, besides all latents, where none are given: each adds twice as many latents as the one before."""
ROWS_PER_CHUNK = 4096


@dataclass(frozen=True)
class SaeSpec:
    """Everything that says which dictionary is meant before any data is seen; raises InputError for sizes that make none."""

    d_model: int
    n_latents: int
    k: int
    """Active latents a row: exactly for topk, on average for batchtopk and matryoshka; training aims at it for the others, which may say 0 when imported."""
    architecture: str = "topk"
    """What makes codes of pre-activations p: `topk` the k largest positive ones; `batchtopk`, `matryoshka` and `jumprelu` those above a threshold for each
    latent; `relu` all positive ones; `gated` those whose gate is positive, with p scaled and shifted for the magnitude."""
    seed: int = 0
    """Seed of the initial weights; never the seed of the data or of its order."""
    frozen_decoder: bool = False
    """Control: the decoder keeps its random directions, only the encoder and the biases learn."""
    prefixes: tuple[int, ...] = ()
    """Only for matryoshka: sizes of the nested dictionaries that each rebuild the input, rising, the last being all latents; () takes `PREFIX_SHARES`."""

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise InputError(f"unknown SAE architecture {self.architecture!r}; choose one of {', '.join(ARCHITECTURES)}")
        if self.d_model < 1 or self.n_latents < 1:
            raise InputError(f"an SAE of {self.d_model} dimensions and {self.n_latents} latents is empty; both must be at least 1")
        fewest = 1 if self.architecture in ("topk", "batchtopk", "matryoshka") else 0
        if not fewest <= self.k < self.n_latents:
            raise InputError(f"k={self.k} active of {self.n_latents} latents is not sparse; choose 1 <= k < n_latents")
        object.__setattr__(self, "prefixes", self._checked_prefixes())

    def _checked_prefixes(self) -> tuple[int, ...]:
        if self.architecture != "matryoshka":
            if self.prefixes:
                raise InputError(f"prefixes {list(self.prefixes)} were given for a {self.architecture} SAE; only matryoshka has them")
            return ()
        # A prefix of fewer than k latents could not even hold what is active.
        usual = {size for share in PREFIX_SHARES if (size := round(share * self.n_latents)) >= self.k}
        prefixes = tuple(self.prefixes) or tuple(sorted(usual | {self.n_latents}))
        if list(prefixes) != sorted(set(prefixes)) or prefixes[0] < 1 or prefixes[-1] != self.n_latents:
            raise InputError(f"matryoshka prefixes {list(prefixes)} must rise from at least 1 to all {self.n_latents} latents")
        return prefixes


class SparseAutoencoder(nn.Module):
    """A dictionary with its encoder. Takes raw activations: whatever normalisation training used is folded into the weights."""

    def __init__(self, spec: SaeSpec) -> None:
        super().__init__()
        self.spec = spec
        generator = torch.Generator().manual_seed(spec.seed)
        decoder_FD = functional.normalize(torch.randn(spec.n_latents, spec.d_model, generator=generator), dim=1)
        self.W_enc_DF = nn.Parameter(decoder_FD.T.clone())
        self.b_enc_F = nn.Parameter(torch.zeros(spec.n_latents))
        self.W_dec_FD = nn.Parameter(decoder_FD)
        self.b_dec_D = nn.Parameter(torch.zeros(spec.d_model))
        if spec.architecture in THRESHOLDED:
            self.threshold_F = nn.Parameter(torch.zeros(spec.n_latents))
        if spec.architecture == "gated":
            self.r_mag_F = nn.Parameter(torch.zeros(spec.n_latents))
            self.b_mag_F = nn.Parameter(torch.zeros(spec.n_latents))

    def preactivations(self, x_ND: Tensor) -> Tensor:
        """`(x - b_dec) W_enc + b_enc` [N, F]: the same in training, in hooks and in analysis."""
        return torch.addmm(self.b_enc_F, x_ND - self.b_dec_D, self.W_enc_DF)

    def encode(self, x_ND: Tensor) -> Tensor:
        """Codes [N, F], never negative; with `topk` at most k of a row differ from 0 (fewer when fewer pre-activations are positive)."""
        self._check_width(x_ND)
        pre_NF = self.preactivations(x_ND)
        match self.spec.architecture:
            case "topk":
                values_NK, indices_NK = topk_positive(pre_NF, self.spec.k)
                return torch.zeros_like(pre_NF).scatter(1, indices_NK, values_NK)
            case "batchtopk" | "matryoshka" | "jumprelu":
                return torch.relu(pre_NF) * (pre_NF > self.threshold_F)
            case "gated":
                # The magnitude shares the encoder with the gate: p - b_enc is (x - b_dec) W_enc.
                return torch.relu((pre_NF - self.b_enc_F) * self.r_mag_F.exp() + self.b_mag_F) * (pre_NF > 0)
            case _:
                return torch.relu(pre_NF)

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The k largest codes of each row, (values [N, K], indices [N, K] int64), in no stated order; unused places have value 0.

        Rows go through in chunks, so that the full pre-activation matrix never exists. Only for `topk`: raises InputError otherwise.
        """
        self._check_width(x_ND)
        if self.spec.architecture != "topk":
            raise InputError(f"an SAE of architecture {self.spec.architecture!r} has no fixed number of active latents; use encode")
        chunks = [topk_positive(self.preactivations(x_CD), self.spec.k) for x_CD in x_ND.split(ROWS_PER_CHUNK)]
        return torch.cat([values for values, _ in chunks]), torch.cat([indices for _, indices in chunks])

    def decode(self, codes_NF: Tensor) -> Tensor:
        """The reconstruction [N, D] of dense codes, in the units of the raw activations."""
        return torch.addmm(self.b_dec_D, codes_NF, self.W_dec_FD)

    def decode_sparse(self, values_NK: Tensor, indices_NK: Tensor) -> Tensor:
        """The reconstruction [N, D] of codes kept as (values, indices); equals `decode` of the dense codes up to rounding."""
        return functional.embedding_bag(indices_NK, self.W_dec_FD, per_sample_weights=values_NK, mode="sum") + self.b_dec_D

    def forward(self, x_ND: Tensor) -> Tensor:
        """The reconstruction [N, D]: `decode(encode(x))`."""
        return self.decode(self.encode(x_ND))

    def _check_width(self, x_ND: Tensor) -> None:
        if x_ND.ndim != 2 or x_ND.shape[1] != self.spec.d_model:
            raise InputError(
                f"activations of shape {tuple(x_ND.shape)} do not fit an SAE on {self.spec.d_model} dimensions; hand in [rows, {self.spec.d_model}]"
            )
