"""Compiled search for the latents that stay active. Each loop works on a range of rows, so that threads can share the work without changing it.

Shapes: B rows, D model width, F latents, G groups of latents, K places for active latents of a row, C candidates of a row.
"""

from __future__ import annotations

import numpy as np

from saebias.sae.kernels.compiling import compiled, dot


@compiled
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


@compiled
def _n_reaching(maxima_G, bound):
    n = 0
    for j in range(maxima_G.size):
        n += 1 if maxima_G[j] >= bound else 0
    return n


@compiled
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


@compiled
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


@compiled
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


@compiled
def _write_row(values_C, places_C, n, values_K, indices_K):
    for i in range(values_K.size):
        values_K[i] = values_C[i] if i < n else np.float32(0)
        indices_K[i] = places_C[i] if i < n else 0


@compiled
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


@compiled
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
            value = dot(centred_BD[b], W_enc_FD[place]) + b_enc_F[place]
            if value > 0:
                values_F[n] = value
                places_F[n] = place
                n += 1
        n = _keep_largest(values_F, places_F, n, k)
        _write_row(values_F, places_F, n, values_BK[b], indices_BK[b])


@compiled
def all_reaching(bits_BF, bits_bound, bound, n_groups, centred_BD, W_enc_FD, b_enc_F, first, last, values_BC, indices_BC, counts_B):
    """For rows first..last all pre-activations that reach `bound` > 0, exact, from a search among `bits` (int32 of float32, or int16 of bfloat16).

    `counts` says how many a row has, also when they are more than the C places there are; unused places are left as they are.
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
            value = dot(centred_BD[b], W_enc_FD[place]) + b_enc_F[place]
            if value >= bound:
                if n < values_BC.shape[1]:
                    values_BC[b, n] = value
                    indices_BC[b, n] = place
                n += 1
        counts_B[b] = n


@compiled
def used_values(values_BC, counts_B, found):
    """Write the used values of all rows one after the other."""
    n = 0
    for b in range(counts_B.size):
        for i in range(counts_B[b]):
            found[n] = values_BC[b, i]
            n += 1


@compiled
def used_places(values_BC, indices_BC, counts_B, values, indices):
    """Write the used places of all rows one after the other."""
    n = 0
    for b in range(counts_B.size):
        for i in range(counts_B[b]):
            values[n] = values_BC[b, i]
            indices[n] = indices_BC[b, i]
            n += 1


@compiled
def most_reaching(values, counts_B, bound):
    """The most values that reach `bound` in one row, the rows lying one after the other."""
    most = 0
    start = 0
    for b in range(counts_B.size):
        n = 0
        for i in range(start, start + counts_B[b]):
            n += 1 if values[i] >= bound else 0
        start += counts_B[b]
        most = max(most, n)
    return most


@compiled
def rows_reaching(values, indices, counts_B, bound, values_BK, indices_BK):
    """Give each row its places that reach `bound` > 0, padded with value 0."""
    start = 0
    for b in range(counts_B.size):
        n = 0
        for i in range(start, start + counts_B[b]):
            if values[i] >= bound:
                values_BK[b, n] = values[i]
                indices_BK[b, n] = indices[i]
                n += 1
        start += counts_B[b]
        for i in range(n, values_BK.shape[1]):
            values_BK[b, i] = 0
            indices_BK[b, i] = 0


@compiled
def count_above(pre_BF, bounds_F, first, last, counts_B):
    """For rows first..last the number of pre-activations larger than their latent's bound."""
    for b in range(first, last):
        n = 0
        for f in range(bounds_F.size):
            n += 1 if pre_BF[b, f] > bounds_F[f] else 0
        counts_B[b] = n


@compiled
def all_above(pre_BF, bounds_F, first, last, values_BK, indices_BK):
    """For rows first..last the pre-activations larger than their latent's bound and their places, padded with -inf."""
    for b in range(first, last):
        n = 0
        for f in range(bounds_F.size):
            if pre_BF[b, f] > bounds_F[f]:
                values_BK[b, n] = pre_BF[b, f]
                indices_BK[b, n] = f
                n += 1
        for i in range(n, values_BK.shape[1]):
            values_BK[b, i] = -np.inf
            indices_BK[b, i] = 0
