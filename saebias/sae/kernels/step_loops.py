"""Compiled loops of the rest of a step: each works on a range of rows or latents, so that threads can share the work without changing it.

Shapes: B rows, D model width, F latents, K places for active latents of a row, P nested prefixes of the latents.
"""

from __future__ import annotations

import numpy as np

from saebias.sae.kernels.compiling import compiled, dot


@compiled
def _add_rows(values_K, indices_K, W_dec_FD, start, end, error_D):
    for i in range(values_K.size):
        value = values_K[i]
        if value > 0 and start <= indices_K[i] < end:
            decoder_D = W_dec_FD[indices_K[i]]
            for d in range(error_D.size):
                error_D[d] += value * decoder_D[d]


@compiled
def rebuild_rows(x_BD, values_BK, indices_BK, W_dec_FD, b_dec_D, ends_P, first, last, errors_PBD, dots_BK, squared_B):
    """For rows first..last the summed errors of the prefixes, their dot products with the decoder rows of the active latents, and the squared errors."""
    n_prefixes = ends_P.size
    for b in range(first, last):
        squared = np.float32(0)
        for p in range(n_prefixes):
            error_D = errors_PBD[p, b]
            if p == 0:
                for d in range(error_D.size):
                    error_D[d] = b_dec_D[d] - x_BD[b, d]
            else:
                error_D[:] = errors_PBD[p - 1, b]
            _add_rows(values_BK[b], indices_BK[b], W_dec_FD, ends_P[p - 1] if p > 0 else 0, ends_P[p], error_D)
            squared += dot(error_D, error_D)
        squared_B[b] = squared
        for p in range(n_prefixes - 2, -1, -1):
            errors_PBD[p, b] += errors_PBD[p + 1, b]
        for i in range(values_BK.shape[1]):
            dots_BK[b, i] = 0
            if values_BK[b, i] > 0:
                group = 0
                while indices_BK[b, i] >= ends_P[group]:
                    group += 1
                dots_BK[b, i] = dot(errors_PBD[group, b], W_dec_FD[indices_BK[b, i]])


@compiled
def dots_at(rows_BD, indices_BK, wanted_BK, W_dec_FD, first, last, dots_BK):
    """For rows first..last their dot products with the decoder rows at the wanted places, 0 elsewhere."""
    for b in range(first, last):
        for i in range(indices_BK.shape[1]):
            dots_BK[b, i] = dot(rows_BD[b], W_dec_FD[indices_BK[b, i]]) if wanted_BK[b, i] else np.float32(0)


@compiled
def group_by_latent(values_BK, grad_pre_BK, indices_BK, starts_F1, places):
    """Counting sort of the places that matter to a gradient by latent: those of latent f are places[starts[f] : starts[f + 1]], in the order of the rows."""
    n_places = values_BK.shape[1]
    for f in range(starts_F1.size):
        starts_F1[f] = 0
    for b in range(values_BK.shape[0]):
        for i in range(n_places):
            if values_BK[b, i] != 0 or grad_pre_BK[b, i] != 0:
                starts_F1[indices_BK[b, i] + 1] += 1
    for f in range(1, starts_F1.size):
        starts_F1[f] += starts_F1[f - 1]
    for b in range(values_BK.shape[0]):
        for i in range(n_places):
            if values_BK[b, i] != 0 or grad_pre_BK[b, i] != 0:
                f = indices_BK[b, i]
                places[starts_F1[f]] = b * n_places + i
                starts_F1[f] += 1
    for f in range(starts_F1.size - 1, 0, -1):
        starts_F1[f] = starts_F1[f - 1]
    starts_F1[0] = 0


@compiled
def weight_gradients(centred_BD, errors_PBD, ends_P, values_BK, grad_pre_BK, starts_F1, places, scale, first, last, grad_enc_FD, grad_b_F, grad_dec_FD):
    """For latents first..last the gradients of encoder row, encoder bias and decoder row: sums over the rows where the latent is active."""
    n_places = values_BK.shape[1]
    group = 0
    for f in range(first, last):
        while f >= ends_P[group]:
            group += 1
        enc_D = grad_enc_FD[f]
        dec_D = grad_dec_FD[f]
        for d in range(enc_D.size):
            enc_D[d] = 0
            dec_D[d] = 0
        total = np.float32(0)
        for p in range(starts_F1[f], starts_F1[f + 1]):
            b = places[p] // n_places
            i = places[p] % n_places
            to_code = grad_pre_BK[b, i]
            to_row = scale * values_BK[b, i]
            total += to_code
            x_D = centred_BD[b]
            e_D = errors_PBD[group, b]
            for d in range(enc_D.size):
                enc_D[d] += to_code * x_D[d]
                dec_D[d] += to_row * e_D[d]
        grad_b_F[f] = total


@compiled
def adam_row(param_D, grad_D, first_D, second_D, learning_rate, shrink, beta1, beta2, root_correction, epsilon):
    """One Adam update of one row; `learning_rate` already has the bias correction of the first moment in it, `root_correction` is that of the second."""
    for d in range(param_D.size):
        g = grad_D[d] * shrink
        m = beta1 * first_D[d] + (1 - beta1) * g
        v = beta2 * second_D[d] + (1 - beta2) * g * g
        first_D[d] = m
        second_D[d] = v
        param_D[d] -= learning_rate * m / (np.sqrt(v) * root_correction + epsilon)


@compiled
def adam_rows(param_FD, grad_FD, first_FD, second_FD, learning_rate, shrink, beta1, beta2, root_correction, epsilon, unit_rows, first, last):
    """Adam on rows first..last; with `unit_rows` the radial part is taken off the gradient and the row is brought back to unit norm."""
    for f in range(first, last):
        param_D = param_FD[f]
        grad_D = grad_FD[f]
        if unit_rows:
            radial = dot(param_D, grad_D)
            for d in range(param_D.size):
                grad_D[d] -= radial * param_D[d]
        adam_row(param_D, grad_D, first_FD[f], second_FD[f], learning_rate, shrink, beta1, beta2, root_correction, epsilon)
        if unit_rows:
            inverse = 1 / np.sqrt(dot(param_D, param_D))
            for d in range(param_D.size):
                param_D[d] *= inverse
