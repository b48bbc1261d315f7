"""The part of the training loss that dead latents see.

Shapes: B rows, D model width, A dead latents, K of them chosen in a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saebias.sae.kernels.contract import Weights
from saebias.sae.peers import ALONE, Peers


def add_aux_gradients(
    grads: Weights, centred_BD: Tensor, error_BD: Tensor, weights: Weights, dead_A: Tensor, *, aux_k: int, coefficient: float, peers: Peers = ALONE
) -> float:
    """Add the gradients of AuxK to `grads` and return its loss: the `aux_k` dead latents that answer most in each row learn to rebuild the residual.

    `centred = x - b_dec`, `error = x_hat - x`. After Gao et al. 2024 (arXiv:2406.04093, appendix A.2) with one change: the ReLU is passed straight through on
    the way back. A dead latent is often negative on every row, and with the mask its encoder row would never move again.
    `dead` are latents of this process; which of all dead ones answer most is settled with its `peers`.
    """
    k = min(aux_k, len(dead_A))
    W_enc_AD, W_dec_AD = weights.W_enc_FD[dead_A], weights.W_dec_FD[dead_A]
    pre_BA = torch.addmm(weights.b_enc_F[dead_A], centred_BD, W_enc_AD.T)
    top_BK, places_BK = pre_BA.topk(k, dim=1, sorted=False)
    wins_BK = peers.winning(top_BK, aux_k).to(pre_BA.dtype)
    codes_BA = torch.zeros_like(pre_BA).scatter_(1, places_BK, torch.relu(top_BK) * wins_BK)
    # x - x_hat is a constant here: the main codes do not learn from what the dead ones miss.
    miss_BD = peers.total(codes_BA @ W_dec_AD) + error_BD
    grad_BD = miss_BD * (2.0 * coefficient / miss_BD.numel())
    chosen_BA = torch.zeros_like(pre_BA).scatter_(1, places_BK, wins_BK)
    grad_codes_BA = (grad_BD @ W_dec_AD.T).mul_(chosen_BA)
    grads.W_dec_FD.index_add_(0, dead_A, codes_BA.T @ grad_BD)
    grads.W_enc_FD.index_add_(0, dead_A, grad_codes_BA.T @ centred_BD)
    grads.b_enc_F.index_add_(0, dead_A, grad_codes_BA.sum(0))
    return coefficient * miss_BD.square().mean().item()
