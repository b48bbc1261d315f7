"""Tuned lens: an affine map per layer in front of the logit lens, trained so that the layer says what the model will say.

Belrose et al. 2023 (arXiv:2303.08112): minimise KL(model || lens). Fit it on images that nothing is reported on, and separately for image and text tokens,
which live in different parts of the space. Shapes: L layers, N rows, D model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.mechanistic.lens import Unembed
from saebias.stats.checks import finite, same_rows


@dataclass(frozen=True)
class TunedLensConfig:
    """How the maps are trained."""

    steps: int = 300
    batch_rows: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    """Pulls the map toward the identity: with few rows a free map would fit them by heart."""


@dataclass(frozen=True, eq=False)
class TunedLens:
    """Maps x -> x + x A + b per layer; hand `translated` to a `LogitLens`. `kl_before_L`, `kl_after_L` are on the rows held out from fitting, nats."""

    A_LDD: Tensor
    b_LD: Tensor
    kl_before_L: np.ndarray
    kl_after_L: np.ndarray

    def translated(self, x_LND: Tensor) -> Tensor:
        """Activations of the layers the lens was fitted on, ready for unembedding."""
        if x_LND.shape[0] != len(self.A_LDD):
            raise InputError(f"{x_LND.shape[0]} layers of activations for a lens of {len(self.A_LDD)}; hand in the layers it was fitted on")
        return x_LND + torch.bmm(x_LND, self.A_LDD.to(x_LND)) + self.b_LD.to(x_LND)[:, None]


def fit_tuned_lens(
    x_LND: Tensor, final_ND: Tensor, unembed: Unembed, is_held_out_N: np.ndarray, *, seed: int, config: TunedLensConfig | None = None
) -> TunedLens:
    """A tuned lens for L layers from the rows not held out; `final_ND` is the residual stream after the model's last layer.

    Held-out rows must be other images (the caller's split says so). Raises InputError when a side of the split is empty.
    """
    config = config or TunedLensConfig()
    if x_LND.ndim != 3 or x_LND.shape[1:] != final_ND.shape:
        raise InputError(f"activations of shape {tuple(x_LND.shape)}, last layer's {tuple(final_ND.shape)}; hand in [layers, rows, width] and [rows, width]")
    for x_ND in (*x_LND, final_ND):
        finite(x_ND.float().numpy(force=True), "activations")
    held_N = torch.from_numpy(np.asarray(is_held_out_N, dtype=bool))
    same_rows(activations=final_ND, is_held_out=held_N)
    if not 0 < int(held_N.sum()) < len(held_N):
        raise InputError(f"{int(held_N.sum())} of {len(held_N)} rows are held out; a tuned lens needs rows to fit and rows to judge it by")
    with torch.no_grad():
        model_NV = torch.log_softmax(unembed(final_ND).float(), dim=-1)
    n_layers, _, d = x_LND.shape
    A_LDD = torch.zeros(n_layers, d, d, device=x_LND.device, requires_grad=True)
    b_LD = torch.zeros(n_layers, d, device=x_LND.device, requires_grad=True)
    optimizer = torch.optim.AdamW([A_LDD, b_LD], lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    fitted = torch.nonzero(~held_N).flatten()
    generator = torch.Generator().manual_seed(seed)
    # Layers differ in scale by orders of magnitude; in units of each layer's own size one learning rate serves all.
    scale_L11 = x_LND[:, fitted].float().pow(2).mean((1, 2), keepdim=True).sqrt()
    for _ in range(config.steps):
        rows = fitted[torch.randint(len(fitted), (min(config.batch_rows, len(fitted)),), generator=generator)]
        x = x_LND[:, rows].float()
        moved = x + torch.bmm(x, A_LDD) + scale_L11 * b_LD[:, None]
        loss = _kl(model_NV[rows], torch.log_softmax(unembed(moved).float(), dim=-1)).mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        lens = TunedLens(A_LDD.detach(), (scale_L11[:, 0] * b_LD).detach(), np.zeros(n_layers), np.zeros(n_layers))
        held = torch.nonzero(held_N).flatten()
        before, after = (
            _kl(model_NV[held], torch.log_softmax(unembed(x.to(x_LND)).float(), dim=-1)).mean(1).cpu().numpy()
            for x in (x_LND[:, held], lens.translated(x_LND[:, held].float()))
        )
    return TunedLens(lens.A_LDD, lens.b_LD, before, after)


def _kl(model_NV: Tensor, lens_LNV: Tensor) -> Tensor:
    """KL(model || lens) per layer and row [L, N], nats."""
    return (model_NV.exp() * (model_NV - lens_LNV)).sum(-1)


@dataclass(frozen=True)
class NeighbourWord:
    """What stands near one vector: the commonest token among its nearest neighbours, the share of them that are it, and its best cosine."""

    token_id: int
    share: float
    cosine: float


def neighbour_words(query_ND: Tensor, bank_MD: Tensor, token_id_M: np.ndarray, k: int = 10) -> list[NeighbourWord]:
    """The word of each query [N] by its k nearest vectors of the bank, whose tokens are `token_id_M`; of equally common ones the nearest."""
    if len(token_id_M) != len(bank_MD):
        raise InputError(f"{len(token_id_M)} tokens for {len(bank_MD)} vectors of the bank; give one for each")
    rows_NK, cosine_NK = contextual_neighbours(query_ND, bank_MD, k)
    found = []
    for ids_K, cosine_K in zip(token_id_M[rows_NK], cosine_NK, strict=True):
        # First places in order of nearness, so that the first of the largest counts is the nearest of them.
        names, first, counts = np.unique(ids_K, return_index=True, return_counts=True)
        best = min(range(len(names)), key=lambda n: (-counts[n], first[n]))
        found.append(NeighbourWord(int(names[best]), float(counts[best] / len(ids_K)), float(cosine_K[first[best]])))
    return found


@torch.no_grad()
def contextual_neighbours(query_ND: Tensor, bank_MD: Tensor, k: int = 5, rows_per_pass: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """(rows [N, k], cosines [N, k]) of the bank's vectors nearest to each query, both centred on the bank's mean; best first.

    What to read on image tokens, where a logit lens is unreliable: the bank holds text activations of the same layer, so an image token is described by the
    words in whose company it lies.
    """
    if not 1 <= k <= len(bank_MD):
        raise InputError(f"{k} neighbours of {len(bank_MD)} vectors; choose 1 to {len(bank_MD)}")
    mean_D = bank_MD.float().mean(0)
    bank_MD, query_ND = (torch.nn.functional.normalize(x.float() - mean_D, dim=-1) for x in (bank_MD, query_ND))
    found = [(part @ bank_MD.T).topk(k, dim=-1) for part in query_ND.split(rows_per_pass)]
    return torch.cat([f.indices for f in found]).cpu().numpy(), torch.cat([f.values for f in found]).cpu().numpy()
