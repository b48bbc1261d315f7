"""Edits of the residual stream: pure functions of activations, of the positions they may touch, and of a dictionary.

Shapes: B rows of a batch, T positions, D model width, F latents of the dictionary, K chosen latents, S sets of latents.
`mask_BT` is True where an edit may act; everywhere else the result is the very same number. An edit is any callable
`(x_BTD, mask_BT) -> x_BTD`; `functools.partial` binds the rest. Every edit of latents keeps the error term x - x_hat, because
only the chosen latents' share of the reconstruction is moved: x + (f' - f) W_dec equals decode(f') + (x - decode(f)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.sae.module import SparseAutoencoder

Edit = Callable[[Tensor, Tensor], Tensor]


def on_rows(x_BTD: Tensor, mask_BT: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change` applied to the rows [N, D] where the mask is True; the very same numbers elsewhere, and a new tensor."""
    if mask_BT.shape != x_BTD.shape[:-1] or mask_BT.dtype != torch.bool:
        raise InputError(f"mask {tuple(mask_BT.shape)} {mask_BT.dtype} does not fit activations {tuple(x_BTD.shape)}; give one boolean per row and position")
    edited_BTD = x_BTD.clone()
    edited_BTD[mask_BT] = change(x_BTD[mask_BT].float()).to(x_BTD.dtype)
    return edited_BTD


def hook_that_does_nothing(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Arm A0: the activations themselves; whatever differs from the unhooked model is the hook's own doing."""
    return x_BTD


@torch.no_grad()
def reconstruct(x_BTD: Tensor, mask_BT: Tensor, *, sae: SparseAutoencoder) -> Tensor:
    """Arm A1: the dictionary's reconstruction in place of the activations, the error dropped."""
    return on_rows(x_BTD, mask_BT, sae)


@torch.no_grad()
def reconstruct_with_error(x_BTD: Tensor, mask_BT: Tensor, *, sae: SparseAutoencoder) -> Tensor:
    """Arm A2: reconstruction plus error, computed as such; differs from A0 by float rounding only, or the wiring is wrong."""

    def change(x_ND: Tensor) -> Tensor:
        x_hat_ND = sae(x_ND)
        return x_hat_ND + (x_ND - x_hat_ND)

    return on_rows(x_BTD, mask_BT, change)


@torch.no_grad()
def ablate_latents(
    x_BTD: Tensor, mask_BT: Tensor, *, sae: SparseAutoencoder, indices: Sequence[int], toward_F: Tensor | float = 0.0, strength: float = 1.0
) -> Tensor:
    """Arm A3: the chosen latents moved from their value f to f + strength (toward - f), the error term kept.

    `toward_F` is the value each latent goes to: the mean code of a reference (F numbers), or one number for all. Strength 0 changes
    nothing, 1 puts every latent at its target, more goes beyond it.
    """
    index_K = checked_indices(indices, sae.spec.n_latents).to(x_BTD.device)
    toward_K = _targets(toward_F, sae)[index_K]

    def change(x_ND: Tensor) -> Tensor:
        return x_ND + (strength * (toward_K - sae.encode(x_ND)[:, index_K])) @ sae.W_dec_FD[index_K]

    return on_rows(x_BTD, mask_BT, change)


def clamp_latents(x_BTD: Tensor, mask_BT: Tensor, *, sae: SparseAutoencoder, indices: Sequence[int], values_F: Tensor | float) -> Tensor:
    """Arm A4: the chosen latents held at `values_F` (one number, or one per dictionary latent: the other gender's mean, a midpoint), error kept."""
    return ablate_latents(x_BTD, mask_BT, sae=sae, indices=indices, toward_F=values_F, strength=1.0)


@torch.no_grad()
def ablate_sets(
    x_BTD: Tensor,
    mask_BT: Tensor,
    *,
    sae: SparseAutoencoder,
    indices_SK: Tensor,
    toward_F: Tensor | float = 0.0,
    strength: float = 1.0,
    scale_S: Tensor | None = None,
) -> Tensor:
    """Arm A6: what `ablate_latents` gives for each of S sets of K latents at once, shape [S, B, T, D].

    `scale_S` multiplies each set's perturbation, so that its total norm can be made that of another arm (`rescaling`).
    """
    rows_ND = x_BTD[mask_BT].float()
    delta_SND = strength * set_deltas(sae.encode(rows_ND), sae, indices_SK, toward_F)
    if scale_S is not None:
        delta_SND *= scale_S.to(delta_SND)[:, None, None]
    edited_SBTD = x_BTD.expand(len(indices_SK), *x_BTD.shape).clone()
    edited_SBTD[:, mask_BT] = (rows_ND + delta_SND).to(x_BTD.dtype)
    return edited_SBTD


def set_deltas(codes_NF: Tensor, sae: SparseAutoencoder, indices_SK: Tensor, toward_F: Tensor | float) -> Tensor:
    """Perturbation [S, N, D] that moves each set's latents fully to their targets, from the codes of N rows."""
    index_SK = checked_sets(indices_SK, sae.spec.n_latents).to(codes_NF.device)
    change_SKN = _targets(toward_F, sae)[index_SK][..., None] - codes_NF.T[index_SK]
    return torch.bmm(change_SKN.transpose(1, 2), sae.W_dec_FD[index_SK])


@torch.no_grad()
def add_direction(x_BTD: Tensor, mask_BT: Tensor, *, direction_D: Tensor, strength: float = 1.0) -> Tensor:
    """Arms A5, A7, A8 (add): the activations plus strength times a direction, not normalised (its length is part of the arm)."""
    return on_rows(x_BTD, mask_BT, lambda x_ND: x_ND + strength * direction_D.to(x_ND))


@torch.no_grad()
def project_out(x_BTD: Tensor, mask_BT: Tensor, *, direction_D: Tensor, toward: float = 0.0, strength: float = 1.0) -> Tensor:
    """Arm A8 (project): the component along a direction moved to `toward`, in units of the activations (0 removes it)."""
    norm = torch.linalg.vector_norm(direction_D)
    if not norm > 0:
        raise InputError("the direction to project out has length 0; its two groups have the same mean")
    unit_D = direction_D.float() / norm
    return on_rows(x_BTD, mask_BT, lambda x_ND: x_ND + strength * (toward - x_ND @ unit_D)[:, None] * unit_D)


def edit_where(x_BTD: Tensor, mask_BT: Tensor, *, edit: Edit, gate: Callable[[Tensor], Tensor]) -> Tensor:
    """Arm A15: another edit, only at the rows where `gate(x_ND) -> bool_N` is True."""
    open_BT = mask_BT.clone()
    open_BT[mask_BT] = gate(x_BTD[mask_BT].float())
    return edit(x_BTD, open_BT)


def difference_of_means(x_ND: Tensor, is_first_N: Tensor) -> Tensor:
    """Mean of the rows marked True minus mean of the others (D numbers); InputError when one group is empty."""
    n_first = int(is_first_N.sum())
    if n_first in (0, len(is_first_N)):
        raise InputError(f"difference of means over {len(is_first_N)} rows has {n_first} in one group; both groups need a row")
    return x_ND[is_first_N].mean(0) - x_ND[~is_first_N].mean(0)


def random_direction(d: int, norm: float, seed: int) -> Tensor:
    """Arm A7: a direction uniform on the sphere of the given norm."""
    direction_D = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    return direction_D * (norm / torch.linalg.vector_norm(direction_D))


def perturbation_norm(x_BTD: Tensor, edited_BTD: Tensor) -> float:
    """Total size of an edit: the Frobenius norm of all it changed, in units of the activations."""
    return float(torch.linalg.vector_norm((edited_BTD - x_BTD).double()))


@torch.no_grad()
def set_norms(x_ND: Tensor, *, sae: SparseAutoencoder, indices_SK: Tensor, toward_F: Tensor | float = 0.0) -> Tensor:
    """Total perturbation norm of each of S sets over the rows given (S numbers), without a run of the model.

    The delta of a set is C_NK W_KD, so its squared norm is sum((C^T C) * (W W^T)): two K x K products per set, never N x D.
    """
    index_SK = checked_sets(indices_SK, sae.spec.n_latents)
    change_FN = (_targets(toward_F, sae) - sae.encode(x_ND.float())).double().T
    squared = []
    for index_K in index_SK:
        change_KN, rows_KD = change_FN[index_K], sae.W_dec_FD[index_K].double()
        squared.append(((change_KN @ change_KN.T) * (rows_KD @ rows_KD.T)).sum())
    return torch.stack(squared).clamp_min(0).sqrt().float()


def rescaling(target_norm: float, norm_S: Tensor) -> Tensor:
    """Factor per set that brings its total perturbation norm to the target arm's; InputError for a set that changes nothing."""
    silent = torch.nonzero(norm_S <= 0).flatten().tolist()
    if silent:
        raise InputError(f"{len(silent)} of {len(norm_S)} random sets change nothing (first: set {silent[0]}); match latents that fire at the edited positions")
    return target_norm / norm_S


def checked_indices(indices: Sequence[int], n_latents: int) -> Tensor:
    """The indices as a tensor; InputError for one outside the dictionary or given twice."""
    index_K = torch.tensor(list(indices), dtype=torch.long)
    outside = index_K[(index_K < 0) | (index_K >= n_latents)]
    if len(outside):
        raise InputError(f"latent {int(outside[0])} is not in a dictionary of {n_latents} latents; was it chosen in another dictionary?")
    if len(index_K.unique()) < len(index_K):
        raise InputError(f"{len(index_K)} latents given, {len(index_K.unique())} different ones; a latent is edited once")
    return index_K


def checked_sets(indices_SK: Tensor, n_latents: int) -> Tensor:
    """Sets of latents as an int64 tensor [S, K], each row checked as `checked_indices` does."""
    return torch.stack([checked_indices(row_K, n_latents) for row_K in torch.as_tensor(indices_SK).tolist()])


def _targets(toward_F: Tensor | float, sae: SparseAutoencoder) -> Tensor:
    """The value each latent of the dictionary goes to [F]."""
    if not isinstance(toward_F, Tensor):
        return torch.full_like(sae.b_enc_F, float(toward_F))
    if toward_F.shape != sae.b_enc_F.shape:
        raise InputError(f"target values have shape {tuple(toward_F.shape)}; give one number, or one per latent of the dictionary ({sae.spec.n_latents})")
    return toward_F.to(sae.b_enc_F)
