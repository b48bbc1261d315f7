"""How alike two sets of representations are, without the biases that make noise look alike.

Shapes: N rows (the same samples in both), D and E dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.stats.checks import binary, cluster_index, finite, same_rows
from saebias.stats.effects import permute_within


def linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Debiased linear CKA of x_ND and y_NE (Kornblith et al. 2019 with the unbiased HSIC of Song et al. 2012): about 0 for independent noise, 1 for rotations.

    It can be slightly negative. NaN when one side does not vary. Raises InputError below four rows.
    """
    x_ND, y_NE = _centred_pair(x, y)
    if len(x_ND) < 4:
        raise InputError(f"{len(x_ND)} rows: debiased CKA needs at least four")
    xx, yy = _unbiased_hsic(x_ND, x_ND), _unbiased_hsic(y_NE, y_NE)
    if xx <= 0 or yy <= 0:
        return float("nan")
    return float(_unbiased_hsic(x_ND, y_NE) / np.sqrt(xx * yy))


def biased_linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Plain linear CKA, for comparison with published numbers only: it is near 1 for noise when there are more dimensions than rows."""
    x_ND, y_NE = _centred_pair(x, y)
    xx, yy = _inner_of_grams(x_ND, x_ND), _inner_of_grams(y_NE, y_NE)
    return float(_inner_of_grams(x_ND, y_NE) / np.sqrt(xx * yy)) if xx > 0 and yy > 0 else float("nan")


def linear_cka_of_pairings(x: ArrayLike, y: ArrayLike, orders: ArrayLike) -> np.ndarray:
    """Debiased linear CKA of x_ND with y_NE[order] for every row order of orders_RN (permutations of the rows), values_R: a null at a third of the cost."""
    x_ND, y_NE = _centred_pair(x, y)
    orders_RN = np.asarray(orders)
    xx, yy = _unbiased_hsic(x_ND, x_ND), _unbiased_hsic(y_NE, y_NE)
    if xx <= 0 or yy <= 0:
        return np.full(len(orders_RN), np.nan)
    return np.array([_unbiased_hsic(x_ND, y_NE[order_N]) for order_N in orders_RN]) / np.sqrt(xx * yy)


def _centred_pair(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x_ND, y_NE = finite(x, "x"), finite(y, "y")
    same_rows(x=x_ND, y=y_NE)
    return x_ND - x_ND.mean(axis=0), y_NE - y_NE.mean(axis=0)


def _inner_of_grams(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """<XX', YY'> from whichever product is smaller."""
    if x_ND.shape[1] * y_NE.shape[1] <= len(x_ND) ** 2:
        return float(((x_ND.T @ y_NE) ** 2).sum())
    return float(((x_ND @ x_ND.T) * (y_NE @ y_NE.T)).sum())


def _unbiased_hsic(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """Song et al. 2012, JMLR 13:1393, equation 5, for linear kernels of centred rows: K1 = 0 before its diagonal is removed, so every term is cheap."""
    n = len(x_ND)
    square_x_N, square_y_N = (x_ND**2).sum(axis=1), (y_NE**2).sum(axis=1)
    trace = _inner_of_grams(x_ND, y_NE) - square_x_N @ square_y_N
    totals = square_x_N.sum() * square_y_N.sum() / ((n - 1) * (n - 2))
    cross = 2 * (square_x_N @ square_y_N) / (n - 2)
    return float((trace + totals - cross) / (n * (n - 3)))


def procrustes_r2(x: ArrayLike, y: ArrayLike, clusters: ArrayLike, *, seed: int) -> float:
    """Held-out variance of y explained by rotating and scaling x: fitted on half of the clusters, scored on the other half, both ways averaged.

    1 - ||y - s x Q||^2 / ||y - mean||^2 on the scored half, centred by the fitted half's means. The narrower side is padded with zeros; below 0 is worse than
    the mean.
    """
    x_ND, y_ND = _same_width(finite(x, "x"), finite(y, "y"))
    index_N, n_clusters = cluster_index(clusters)
    same_rows(x=x_ND, y=y_ND, clusters=index_N)
    if n_clusters < 2:
        raise InputError("one cluster: a fit on one half and a score on the other needs at least two")
    first_N = _random_half(n_clusters, np.random.default_rng(seed))[index_N]
    return float(np.mean([_fit_and_score(x_ND, y_ND, fit_N) for fit_N in (first_N, ~first_N)]))


def _same_width(x_ND: np.ndarray, y_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = max(x_ND.shape[1], y_ND.shape[1])
    return np.pad(x_ND, ((0, 0), (0, width - x_ND.shape[1]))), np.pad(y_ND, ((0, 0), (0, width - y_ND.shape[1])))


def _random_half(n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    half_G = np.zeros(n_clusters, dtype=bool)
    half_G[rng.permutation(n_clusters)[: n_clusters // 2]] = True
    return half_G


def _fit_and_score(x_ND: np.ndarray, y_ND: np.ndarray, fit_N: np.ndarray) -> float:
    x_mean, y_mean = x_ND[fit_N].mean(axis=0), y_ND[fit_N].mean(axis=0)
    x_fit, y_fit = x_ND[fit_N] - x_mean, y_ND[fit_N] - y_mean
    left, singular, right = np.linalg.svd(x_fit.T @ y_fit)
    total = (x_fit**2).sum()
    scale = singular.sum() / total if total > 0 else 0.0
    residual = (y_ND[~fit_N] - y_mean) - scale * (x_ND[~fit_N] - x_mean) @ (left @ right)
    spread = ((y_ND[~fit_N] - y_ND[~fit_N].mean(axis=0)) ** 2).sum()
    return 1 - float((residual**2).sum() / spread) if spread > 0 else float("nan")


@dataclass(frozen=True)
class DirectionCosine:
    """Cosine of two difference-of-means directions. `corrected` is free of sampling noise.

    `floor`: what one permutation of the labels, the same in both, reaches in 95 % of draws: any contrast of the same rows, with the noise that they share.
    `unrelated`: what two permutations that have nothing to do with each other reach: chance in a space where few axes carry most of the variance.
    `p`: share of unrelated permutations whose |cosine| reaches |corrected|.
    """

    cosine: float
    corrected: float
    reliability_a: float
    reliability_b: float
    floor: float
    n_rows: int
    n_clusters: int
    note: str = ""
    unrelated: float = float("nan")
    p: float = float("nan")


def direction_cosine(
    x_a: ArrayLike, y_a: ArrayLike, x_b: ArrayLike, y_b: ArrayLike, clusters: ArrayLike, *, seed: int, n_splits: int = 50, n_permutations: int = 199
) -> DirectionCosine:
    """Cosine of the difference-of-means directions of a and b (one row per image in both, say one language each), raw and corrected for attenuation.

    corrected = <a_1, b_2> / sqrt(<a_1, a_2> <b_1, b_2>), inner products of directions from disjoint random halves of the clusters, averaged over `n_splits`
    (Spearman's correction, in a form where the images that both languages share add nothing). Reliabilities are split-half cosines stepped up to full length
    (Spearman-Brown). `floor`: 95th percentile of |raw cosine| with labels permuted among clusters, the same permutation in a and b; `unrelated`: the same with
    a permutation of its own in each, which shares no noise, so it is what `corrected` is held against (`p`). NaN with a note when a half lacks one of the
    groups or a reliability is not positive. Raises InputError when the label varies within a cluster.
    """
    x_a_ND, x_b_ND, y_a_N, y_b_N = finite(x_a, "x_a"), finite(x_b, "x_b"), binary(y_a), binary(y_b)
    index_N, n_clusters = cluster_index(clusters)
    rows = same_rows(x_a=x_a_ND, x_b=x_b_ND, y_a=y_a_N, y_b=y_b_N, clusters=index_N)
    halves = _half_inner_products((x_a_ND, y_a_N), (x_b_ND, y_b_N), index_N, n_clusters, n_splits, np.random.default_rng(seed))
    raw = _cosine(_direction(x_a_ND, y_a_N), _direction(x_b_ND, y_b_N))
    floor, unrelated_R = _permuted_cosines(x_a_ND, x_b_ND, y_a_N, y_b_N, index_N, n_clusters, n_permutations, seed)
    unrelated = _q95(unrelated_R)
    if halves is None:
        return DirectionCosine(raw, np.nan, np.nan, np.nan, floor, rows, n_clusters, "a half of the clusters lacks one group", unrelated)
    ab, aa, bb, cosine_aa, cosine_bb = halves
    reliability_a, reliability_b = 2 * cosine_aa / (1 + cosine_aa), 2 * cosine_bb / (1 + cosine_bb)
    if aa <= 0 or bb <= 0:
        note = "a direction is not reliable (split halves disagree)"
        return DirectionCosine(raw, np.nan, reliability_a, reliability_b, floor, rows, n_clusters, note, unrelated)
    corrected = float(ab / np.sqrt(aa * bb))
    p = float((1 + (unrelated_R >= abs(corrected)).sum()) / (1 + len(unrelated_R))) if len(unrelated_R) else float("nan")
    return DirectionCosine(raw, corrected, reliability_a, reliability_b, floor, rows, n_clusters, "", unrelated, p)


def _direction(x_ND: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    return x_ND[y_N].mean(axis=0) - x_ND[~y_N].mean(axis=0)


def _cosine(a_D: np.ndarray, b_D: np.ndarray) -> float:
    norms = np.linalg.norm(a_D) * np.linalg.norm(b_D)
    return float(a_D @ b_D / norms) if norms > 0 else float("nan")


def _half_inner_products(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], index_N: np.ndarray, n_clusters: int, n_splits: int, rng: np.random.Generator
) -> tuple[float, float, float, float, float] | None:
    collected = []
    for _ in range(n_splits):
        half_N = _random_half(n_clusters, rng)[index_N]
        if any(len(np.unique(y_N[part])) < 2 for _, y_N in (a, b) for part in (half_N, ~half_N)):
            return None
        a1, a2, b1, b2 = (_direction(x_ND[part], y_N[part]) for x_ND, y_N in (a, b) for part in (half_N, ~half_N))
        collected.append(((a1 @ b2 + a2 @ b1) / 2, a1 @ a2, b1 @ b2, _cosine(a1, a2), _cosine(b1, b2)))
    ab, aa, bb, cosine_aa, cosine_bb = np.array(collected).mean(axis=0)
    return float(ab), float(aa), float(bb), float(cosine_aa), float(cosine_bb)


def _permuted_cosines(
    x_a_ND: np.ndarray, x_b_ND: np.ndarray, y_a_N: np.ndarray, y_b_N: np.ndarray, index_N: np.ndarray, n_clusters: int, n_permutations: int, seed: int
) -> tuple[float, np.ndarray]:
    """(95th percentile of |cosine| under one permutation for both, |cosines| of a under one permutation with b under the next)."""
    labels_G = np.zeros((n_clusters, 2), dtype=bool)
    labels_G[index_N] = np.stack([y_a_N, y_b_N], axis=1)
    if (labels_G[index_N] != np.stack([y_a_N, y_b_N], axis=1)).any():
        raise InputError("a cluster holds rows of both groups; permuting among clusters needs one group per cluster (cluster by drawing, not by scene)")
    order_RG = permute_within(np.arange(n_clusters), None, index_N, n_permutations, seed)
    drawn = []
    for order_G in order_RG:
        y_N = labels_G[order_G][index_N]
        if y_N.any(axis=0).all() and not y_N.all(axis=0).any():
            drawn.append((_direction(x_a_ND, y_N[:, 0]), _direction(x_b_ND, y_N[:, 1])))
    same_R = np.array([abs(_cosine(a_D, b_D)) for a_D, b_D in drawn])
    # With fewer than three permutations the next one would be the same pair turned round.
    following = [*drawn[1:], drawn[0]] if len(drawn) > 2 else []
    return _q95(same_R), np.array([abs(_cosine(a_D, b_D)) for (a_D, _), (_, b_D) in zip(drawn, following, strict=False)])


def _q95(values_R: np.ndarray) -> float:
    return float(np.quantile(values_R, 0.95)) if len(values_R) else float("nan")


def _spectrum(x: ArrayLike) -> np.ndarray:
    """Variances along the principal axes of centred rows; raises InputError when nothing varies."""
    x_ND = finite(x, "x")
    singular = np.linalg.svd(x_ND - x_ND.mean(axis=0), compute_uv=False)
    if not singular[0] > 0:
        raise InputError(f"{len(x_ND)} equal rows have no spectrum; hand in rows that vary")
    return singular**2


def participation_ratio(x: ArrayLike) -> float:
    """(sum s)^2 / sum s^2 over the covariance eigenvalues s of centred rows: how many axes carry the variance."""
    s = _spectrum(x)
    return float(s.sum() ** 2 / (s**2).sum())


def stable_rank(x: ArrayLike) -> float:
    """Sum of the covariance eigenvalues over the largest (Frobenius norm squared over spectral norm squared of the centred matrix)."""
    s = _spectrum(x)
    return float(s.sum() / s[0])


def effective_rank(x: ArrayLike) -> float:
    """exp of the entropy of the singular values' shares, of centred rows (Roy & Vetterli 2007, EUSIPCO)."""
    share = np.sqrt(_spectrum(x))
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
