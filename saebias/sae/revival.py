"""Dead latents that start anew at what the dictionary explains worst.

Shapes: B rows, D model width, F latents of this process, M latents of all, P latents picked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from saebias.sae.kernels.contract import Weights
from saebias.sae.peers import Peers

REVIVED_SHARE = 1 / 50
"""Share of all latents that at most start anew at a time: they all compete for the same few places of a row."""
REVIVED_UNTIL = 0.7
"""Share of the steps after which none does: it would have no time left to learn."""


def revive(weights: Weights, moments: tuple[Weights, Weights], dead_F: Tensor, error_BD: Tensor, peers: Peers, *, seed: int) -> Tensor:
    """Set some dead latents, in place, to directions of x - x_hat, and return which [F] bool.

    Rows are drawn with probabilities in proportion to their squared error, latents at random among the dead (after the resampling of Bricken et al. 2023,
    "Towards Monosemanticity"; here a few at a time and often). No row is drawn twice: two latents that start alike with equal moments stay alike for ever.
    The encoder row gets the mean norm of those of the living, so that the latent wins a place at once, and its moments are forgotten. All is drawn on the CPU
    with `seed`: neither the device nor the number of processes changes what is picked.
    """
    every_dead_M = torch.cat(peers.gathered(dead_F.to(torch.int8))).bool().cpu()
    chosen_F, dead = torch.zeros_like(dead_F), torch.nonzero(every_dead_M).flatten()
    n_alive = len(every_dead_M) - len(dead)
    squared_B = error_BD.square().sum(1).cpu()
    n_picked = min(len(dead), max(1, round(REVIVED_SHARE * len(every_dead_M))), int((squared_B > 0).sum()))
    if n_picked == 0 or n_alive == 0:
        return chosen_F
    generator = torch.Generator().manual_seed(seed)
    picked_P = dead[torch.randperm(len(dead), generator=generator)[:n_picked]]
    rows_P = torch.multinomial(squared_B, n_picked, generator=generator)
    norm = peers.total(torch.linalg.vector_norm(weights.W_enc_FD, dim=1)[~dead_F].sum()) / n_alive
    first = peers.rank * len(dead_F)
    is_own_P = (picked_P >= first) & (picked_P < first + len(dead_F))
    own_P = (picked_P[is_own_P] - first).to(error_BD.device)
    directions_PD = functional.normalize(-error_BD[rows_P[is_own_P].to(error_BD.device)], dim=1)
    weights.W_dec_FD[own_P], weights.W_enc_FD[own_P], weights.b_enc_F[own_P] = directions_PD, directions_PD * norm, 0.0
    for moment in moments:
        moment.W_dec_FD[own_P], moment.W_enc_FD[own_P], moment.b_enc_F[own_P] = 0.0, 0.0, 0.0
    chosen_F[own_P] = True
    return chosen_F
