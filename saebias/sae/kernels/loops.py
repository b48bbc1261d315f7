"""Compiled loops over rows and over latents. Each works on a range, so that threads can share the work; none depends on how it is shared.

Shapes: B rows, D model width, F latents, K places for active latents of a row, C candidates of a row.
"""

from __future__ import annotations

import numba
import numpy as np

# Sums may be reordered (vectorised); NaN and infinity keep their meaning.
_compiled = numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")


@_compiled
def _group_maxima(row_F, maxima_G):
    """Maximum over each residue class of places: group g holds the places g, g + G, g + 2 G ..."""
    n_groups = maxima_G.size
    for j in range(n_groups):
        maxima_G[j] = row_F[j]
    start = n_groups
    while start < row_F.size:
        piece = row_F[start : start + n_groups]
        for j in range(piece.size):
            maxima_G[j] = max(maxima_G[j], piece[j])
        start += n_groups


@_compiled
def _n_reaching(maxima_G, bound):
    n = 0
    for j in range(maxima_G.size):
        n += 1 if maxima_G[j] >= bound else 0
    return n


@_compiled
def _lower_bound(maxima_G, k, octaves):
    """A bit pattern >= 1 that at least k of the groups reach, and few more; 1 when fewer than k are positive.

    Halving intervals of bit patterns halves ratios of numbers: `octaves` below the largest (as a difference of patterns) is where the search starts.
    """
    high = np.int64(0)
    for j in range(maxima_G.size):
        high = max(high, np.int64(maxima_G[j]))
    high += 1
    low = max(high - octaves, np.int64(1))
    n_low = _n_reaching(maxima_G, maxima_G.dtype.type(low))
    if n_low < k:
        low, high = np.int64(1), low
        n_low = maxima_G.size
    while high - low > 1 and n_low > k + k // 16:
        middle = (low + high) // 2
        n_middle = _n_reaching(maxima_G, maxima_G.dtype.type(middle))
        if n_middle >= k:
            low, n_low = middle, n_middle
        else:
            high = middle
    return maxima_G.dtype.type(low)


@_compiled
def _places_from(row_F, maxima_G, bound, groups_G, places_F):
    """Write the places of `row` that reach `bound` to `places`; their number is returned."""
    n_groups = 0
    for j in range(maxima_G.size):
        # Written always, kept by the counter: a branch here would be mispredicted half of the time.
        groups_G[n_groups] = j
        n_groups += 1 if maxima_G[j] >= bound else 0
    n = 0
    for g in range(n_groups):
        for place in range(groups_G[g], row_F.size, maxima_G.size):
            places_F[n] = place
            n += 1 if row_F[place] >= bound else 0
    return n


@_compiled
def _keep_largest(values_C, places_C, n, k):
    """Move the k largest of n (value, place) pairs to the front, in place, and return how many these are; Hoare's selection."""
    low, high = 0, n - 1
    while low < high and n > k:
        pivot = values_C[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values_C[i] > pivot:
                i += 1
            while values_C[j] < pivot:
                j -= 1
            if i <= j:
                values_C[i], values_C[j] = values_C[j], values_C[i]
                places_C[i], places_C[j] = places_C[j], places_C[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return min(n, k)


@_compiled
def _write_row(values_C, places_C, n, values_K, indices_K):
    for i in range(values_K.size):
        values_K[i] = values_C[i] if i < n else np.float32(0)
        indices_K[i] = places_C[i] if i < n else 0


@_compiled
def largest_positive(pre_BF, bits_BF, n_groups, first, last, values_BK, indices_BK):
    """For rows first..last the K largest positive pre-activations and their places, padded with value 0.

    `bits` are the same numbers as int32: among positive ones the order of the bits is the order of the numbers, and integers compare faster.
    """
    k = values_BK.shape[1]
    n_latents = pre_BF.shape[1]
    maxima_G = np.empty(n_groups, np.int32)
    groups_G = np.empty(n_groups + 1, np.int32)
    places_F = np.empty(n_latents + 1, np.int32)
    values_F = np.empty(n_latents, np.float32)
    for b in range(first, last):
        _group_maxima(bits_BF[b], maxima_G)
        n = _places_from(bits_BF[b], maxima_G, _lower_bound(maxima_G, k, 8 << 23), groups_G, places_F)
        for i in range(n):
            values_F[i] = pre_BF[b, places_F[i]]
        n = _keep_largest(values_F, places_F, n, k)
        _write_row(values_F, places_F, n, values_BK[b], indices_BK[b])


@_compiled
def _dot(left_D, right_D):
    total = np.float32(0)
    for d in range(left_D.size):
        total += left_D[d] * right_D[d]
    return total


@_compiled
def largest_refined(bits_BF, n_candidates, n_groups, centred_BD, W_enc_FD, b_enc_F, first, last, values_BK, indices_BK):
    """The K largest positive pre-activations of rows first..last, exact, from a bfloat16 search.

    `bits` are bfloat16 pre-activations as int16. At least `n_candidates` of the roughly largest are computed anew in float32, and the K largest of those kept.
    """
    k = values_BK.shape[1]
    n_latents = bits_BF.shape[1]
    maxima_G = np.empty(n_groups, np.int16)
    groups_G = np.empty(n_groups + 1, np.int32)
    places_F = np.empty(n_latents + 1, np.int32)
    values_F = np.empty(n_latents, np.float32)
    for b in range(first, last):
        _group_maxima(bits_BF[b], maxima_G)
        n_rough = _places_from(bits_BF[b], maxima_G, _lower_bound(maxima_G, n_candidates, 8 << 7), groups_G, places_F)
        n = 0
        for i in range(n_rough):
            place = places_F[i]
            value = _dot(centred_BD[b], W_enc_FD[place]) + b_enc_F[place]
            if value > 0:
                values_F[n] = value
                places_F[n] = place
                n += 1
        n = _keep_largest(values_F, places_F, n, k)
        _write_row(values_F, places_F, n, values_BK[b], indices_BK[b])


@_compiled
def all_reaching(bits_BF, bits_bound, bound, n_groups, centred_BD, W_enc_FD, b_enc_F, first, last, values_BC, indices_BC, counts_B):
    """For rows first..last all pre-activations that reach `bound` > 0, exact, from a search among `bits` (int32 of float32, or int16 of bfloat16).

    `counts` says how many a row has, also when they are more than the C places there are; unused places get value 0.
    """
    n_latents = bits_BF.shape[1]
    maxima_G = np.empty(n_groups, bits_BF.dtype)
    groups_G = np.empty(n_groups + 1, np.int32)
    places_F = np.empty(n_latents + 1, np.int32)
    for b in range(first, last):
        _group_maxima(bits_BF[b], maxima_G)
        n_rough = _places_from(bits_BF[b], maxima_G, bits_bound, groups_G, places_F)
        n = 0
        for i in range(n_rough):
            place = places_F[i]
            value = _dot(centred_BD[b], W_enc_FD[place]) + b_enc_F[place]
            if value >= bound:
                if n < values_BC.shape[1]:
                    values_BC[b, n] = value
                    indices_BC[b, n] = place
                n += 1
        counts_B[b] = n
        for i in range(n, values_BC.shape[1]):
            values_BC[b, i] = 0
            indices_BC[b, i] = 0


@_compiled
def rebuild_rows(x_BD, values_BK, indices_BK, W_dec_FD, b_dec_D, first, last, error_BD, dots_BK):
    """For rows first..last the error `decode(codes) - x` and its dot products with the decoder rows of the active latents."""
    for b in range(first, last):
        error_D = error_BD[b]
        for d in range(error_D.size):
            error_D[d] = b_dec_D[d] - x_BD[b, d]
        for i in range(values_BK.shape[1]):
            value = values_BK[b, i]
            if value > 0:
                decoder_D = W_dec_FD[indices_BK[b, i]]
                for d in range(error_D.size):
                    error_D[d] += value * decoder_D[d]
        for i in range(values_BK.shape[1]):
            dots_BK[b, i] = _dot(error_D, W_dec_FD[indices_BK[b, i]]) if values_BK[b, i] > 0 else np.float32(0)


@_compiled
def group_by_latent(values_BK, indices_BK, starts_F1, places):
    """Counting sort of the used places by latent: those of latent f are places[starts[f] : starts[f + 1]], in the order of the rows."""
    n_places = values_BK.shape[1]
    for f in range(starts_F1.size):
        starts_F1[f] = 0
    for b in range(values_BK.shape[0]):
        for i in range(n_places):
            if values_BK[b, i] > 0:
                starts_F1[indices_BK[b, i] + 1] += 1
    for f in range(1, starts_F1.size):
        starts_F1[f] += starts_F1[f - 1]
    for b in range(values_BK.shape[0]):
        for i in range(n_places):
            if values_BK[b, i] > 0:
                f = indices_BK[b, i]
                places[starts_F1[f]] = b * n_places + i
                starts_F1[f] += 1
    for f in range(starts_F1.size - 1, 0, -1):
        starts_F1[f] = starts_F1[f - 1]
    starts_F1[0] = 0


@_compiled
def weight_gradients(centred_BD, error_BD, values_BK, dots_BK, starts_F1, places, scale, first, last, grad_enc_FD, grad_b_F, grad_dec_FD):
    """For latents first..last the gradients of encoder row, encoder bias and decoder row: sums over the rows where the latent is active."""
    n_places = values_BK.shape[1]
    for f in range(first, last):
        enc_D = grad_enc_FD[f]
        dec_D = grad_dec_FD[f]
        for d in range(enc_D.size):
            enc_D[d] = 0
            dec_D[d] = 0
        total = np.float32(0)
        for p in range(starts_F1[f], starts_F1[f + 1]):
            b = places[p] // n_places
            i = places[p] % n_places
            to_code = scale * dots_BK[b, i]
            to_row = scale * values_BK[b, i]
            total += to_code
            x_D = centred_BD[b]
            e_D = error_BD[b]
            for d in range(enc_D.size):
                enc_D[d] += to_code * x_D[d]
                dec_D[d] += to_row * e_D[d]
        grad_b_F[f] = total


@_compiled
def adam_row(param_D, grad_D, first_D, second_D, learning_rate, shrink, beta1, beta2, root_correction, epsilon):
    """One Adam update of one row; `learning_rate` already has the bias correction of the first moment in it, `root_correction` is that of the second."""
    for d in range(param_D.size):
        g = grad_D[d] * shrink
        m = beta1 * first_D[d] + (1 - beta1) * g
        v = beta2 * second_D[d] + (1 - beta2) * g * g
        first_D[d] = m
        second_D[d] = v
        param_D[d] -= learning_rate * m / (np.sqrt(v) * root_correction + epsilon)


@_compiled
def adam_rows(param_FD, grad_FD, first_FD, second_FD, learning_rate, shrink, beta1, beta2, root_correction, epsilon, unit_rows, first, last):
    """Adam on rows first..last; with `unit_rows` the radial part is taken off the gradient and the row is brought back to unit norm."""
    for f in range(first, last):
        param_D = param_FD[f]
        grad_D = grad_FD[f]
        if unit_rows:
            radial = _dot(param_D, grad_D)
            for d in range(param_D.size):
                grad_D[d] -= radial * param_D[d]
        adam_row(param_D, grad_D, first_FD[f], second_FD[f], learning_rate, shrink, beta1, beta2, root_correction, epsilon)
        if unit_rows:
            inverse = 1 / np.sqrt(_dot(param_D, param_D))
            for d in range(param_D.size):
                param_D[d] *= inverse
