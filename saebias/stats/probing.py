"""Linear probes that do not flatter: folds by cluster, scaling inside the fold, a control task, permuted labels, and an interval.

Shapes: N training rows, M test rows, D dimensions, K label columns (the true one first, then control tasks, then permutations).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.stats.checks import binary, cluster_index, finite, same_rows
from saebias.stats.discriminant import Discriminant, Moments, fit, moments
from saebias.stats.effects import auroc, permute_within
from saebias.stats.shares import interval_from_influence

CENTRES = ("train", "own")
# Strong to weak; which one suits depends on whether the gender direction lies in a high- or a low-variance subspace, so each training set chooses for itself.
_SHRINKAGES = (0.5, 0.05, 0.001)


@dataclass(frozen=True)
class ProbeResult:
    """What a linear probe reads, out of fold. `low`, `high`: 95 % interval of the balanced accuracy over clusters.

    `permuted_accuracy`, `permuted_high`: mean and 95th percentile of what probes of permuted labels reach.
    """

    balanced_accuracy: float
    low: float
    high: float
    auroc: float
    control_accuracy: float
    selectivity: float
    permuted_accuracy: float
    p: float
    n_rows: int
    n_clusters: int
    note: str = ""
    permuted_high: float = float("nan")


def grouped_folds(clusters: ArrayLike, y: ArrayLike, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """A fold number per row: a cluster lies in one fold, and each class is dealt as evenly as the cluster sizes allow.

    Raises InputError when a class has fewer clusters than there are folds, or for fewer than three folds (one is scored, one chooses the shrinkage).
    """
    if n_folds < 3:
        raise InputError(f"{n_folds} folds are too few; use at least 3")
    y_N = binary(y)
    index_N, n_clusters = cluster_index(clusters)
    same_rows(clusters=index_N, y=y_N)
    rows_GL = np.stack([np.bincount(index_N, weights=y_N == label, minlength=n_clusters) for label in (0, 1)], axis=1)
    for label in (0, 1):
        if (holding := int((rows_GL[:, label] > 0).sum())) < n_folds:
            raise InputError(f"class {label} has {holding} clusters for {n_folds} folds; lower the number of folds or add images")
    shuffled_G = np.random.default_rng(seed).permutation(n_clusters)
    fold_G = np.empty(n_clusters, dtype=np.int64)
    load_KL = np.zeros((n_folds, 2))
    has_0_G, has_1_G = rows_GL[:, 0] > 0, rows_GL[:, 1] > 0
    # Clusters of both classes go first; the others then even out what they left uneven.
    for members, labels in ((has_0_G & has_1_G, [0, 1]), (has_0_G & ~has_1_G, [0]), (has_1_G & ~has_0_G, [1])):
        dealt = shuffled_G[members[shuffled_G]]
        for cluster in dealt[np.argsort(-rows_GL[dealt].sum(axis=1), kind="stable")]:
            fold_G[cluster] = np.argmin(load_KL[:, labels].sum(axis=1))
            load_KL[fold_G[cluster]] += rows_GL[cluster]
    return fold_G[index_N]


def probe(
    x: ArrayLike,
    y: ArrayLike,
    clusters: ArrayLike,
    *,
    types: ArrayLike | None = None,
    seed: int,
    n_folds: int = 5,
    n_control: int = 10,
    n_permutations: int = 99,
) -> ProbeResult:
    """How well y_N (0/1) is read linearly from x_ND, by cross-fitting over clusters.

    `auroc` compares rows of one fold only, averaged over folds by pairs. `selectivity` = balanced accuracy minus that of `n_control` control tasks, where every
    type of `types` (context, token) gets a fixed random label (Hewitt & Liang 2019, EMNLP); NaN without types. `permuted_accuracy` and the one-sided `p` come
    from labels permuted among clusters, cross-fitted alike; NaN when the label varies within clusters. Raises InputError as `grouped_folds` does.
    """
    x_ND, y_N = finite(x, "x"), binary(y)
    index_N, _ = cluster_index(clusters)
    same_rows(x=x_ND, y=y_N, clusters=index_N)
    fold_N = grouped_folds(index_N, y_N, n_folds, seed)
    control_NK, control_note = _control_labels(types, fold_N, n_control, seed)
    permuted_NK, permuted_note = _permuted_labels(y_N, index_N, fold_N, n_permutations, seed)
    labels_NK = np.concatenate([y_N[:, None], control_NK, permuted_NK], axis=1)
    scores_NK = _out_of_fold_scores(x_ND, labels_NK, fold_N, x_ND, fold_N, "train")
    accuracy_K = _balanced_accuracy(scores_NK, labels_NK)
    control = float(accuracy_K[1 : 1 + control_NK.shape[1]].mean()) if control_NK.shape[1] else float("nan")
    permuted_K = accuracy_K[1 + control_NK.shape[1] :]
    note = "; ".join(reason for reason in (control_note, permuted_note) if reason)
    return _result(scores_NK[:, 0], y_N, index_N, fold_N, control, permuted_K, note)


def probe_transfer(
    train_x: ArrayLike,
    train_y: ArrayLike,
    train_clusters: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    test_clusters: ArrayLike,
    *,
    seed: int,
    n_folds: int = 5,
    centre: str = "train",
    n_permutations: int = 0,
) -> ProbeResult:
    """As `probe`, trained on one set of rows (one language) and tested on another, never on a cluster it was trained on.

    `centre="own"` subtracts the test set's own mean over the training clusters before scoring, which forgives a constant shift between languages (the AUROC
    hardly notices). With `n_permutations`, training labels are permuted among clusters and tested against the true ones, all in the one cross-fit: a floor
    that lies above .5, because a direction picked at random is a little aligned with any strong direction. The control task is NaN: `probe` carries it.
    """
    if centre not in CENTRES:
        raise InputError(f"centre {centre!r} is unknown; choose one of {', '.join(CENTRES)}")
    train_ND, test_MD, train_y_N, test_y_M = finite(train_x, "train_x"), finite(test_x, "test_x"), binary(train_y), binary(test_y)
    index, _ = cluster_index(np.concatenate([np.asarray(train_clusters), np.asarray(test_clusters)]))
    n_train = same_rows(train_x=train_ND, train_y=train_y_N, train_clusters=np.asarray(train_clusters))
    same_rows(test_x=test_MD, test_y=test_y_M, test_clusters=np.asarray(test_clusters))
    fold = grouped_folds(index, np.concatenate([train_y_N, test_y_M]), n_folds, seed)
    permuted_NK, note = _permuted_labels(train_y_N, index[:n_train], fold[:n_train], n_permutations, seed)
    labels_NK = np.concatenate([train_y_N[:, None], permuted_NK], axis=1)
    scores_MK = _out_of_fold_scores(train_ND, labels_NK, fold[:n_train], test_MD, fold[n_train:], centre)
    permuted_K = _balanced_accuracy(scores_MK[:, 1:], np.broadcast_to(test_y_M[:, None], (len(test_MD), permuted_NK.shape[1])))
    return _result(scores_MK[:, 0], test_y_M, index[n_train:], fold[n_train:], float("nan"), permuted_K, note)


def linear_direction(x: ArrayLike, y: ArrayLike, clusters: ArrayLike, *, seed: int) -> tuple[np.ndarray, float]:
    """(weights_D, offset) of the probe fitted on all rows, in the space of x: x @ weights - offset is above 0 for label 1."""
    x_ND, y_N = finite(x, "x"), binary(y)
    index_N, _ = cluster_index(clusters)
    same_rows(x=x_ND, y=y_N, clusters=index_N)
    centre_D = x_ND.mean(axis=0)
    centred_ND, inner_N = x_ND - centre_D, grouped_folds(index_N, y_N, 5, seed) == 0
    shrinkage = _choose_shrinkage(moments(centred_ND[~inner_N], y_N[~inner_N, None]), centred_ND[inner_N], y_N[inner_N])
    fitted = fit(moments(centred_ND, y_N[:, None]), shrinkage)
    return fitted.weights_DK[:, 0], float(fitted.offset_K[0] + centre_D @ fitted.weights_DK[:, 0])


def _out_of_fold_scores(train_ND: np.ndarray, labels_NK: np.ndarray, fold_N: np.ndarray, test_MD: np.ndarray, fold_M: np.ndarray, centre: str) -> np.ndarray:
    shift_D = train_ND.mean(axis=0)
    train_ND, test_MD = train_ND - shift_D, test_MD - shift_D
    folds = np.unique(fold_N)
    by_fold = {fold: moments(train_ND[fold_N == fold], labels_NK[fold_N == fold]) for fold in folds}
    total = reduce(operator.add, by_fold.values())
    scores_MK = np.empty((len(test_MD), labels_NK.shape[1]))
    for position, fold in enumerate(folds):
        training = total - by_fold[fold]
        inner_N = fold_N == folds[(position + 1) % len(folds)]
        shrinkage = _choose_shrinkage(training - by_fold[folds[(position + 1) % len(folds)]], train_ND[inner_N], labels_NK[inner_N, 0])
        fitted = fit(training, shrinkage)
        scores_MK[fold_M == fold] = (test_MD[fold_M == fold] - _offset_of_centre(test_MD, fold_M != fold, fitted, centre)) @ fitted.weights_DK - fitted.offset_K
    return scores_MK


def _choose_shrinkage(training: Moments, inner_ND: np.ndarray, inner_labels_N: np.ndarray) -> float:
    """The shrinkage that reads the true label best on one inner fold of the training set; the fold that will be scored plays no part."""
    true_only = training.first_label()
    scores = [auroc(inner_ND @ fit(true_only, shrinkage).weights_DK[:, 0], inner_labels_N) for shrinkage in _SHRINKAGES]
    return _SHRINKAGES[int(np.argmax(scores))]


def _offset_of_centre(test_MD: np.ndarray, elsewhere_M: np.ndarray, fitted: Discriminant, centre: str) -> np.ndarray:
    if centre == "train":
        return np.zeros(test_MD.shape[1])
    return test_MD[elsewhere_M].mean(axis=0) - fitted.mean_D


def _balanced_accuracy(scores_NK: np.ndarray, labels_NK: np.ndarray) -> np.ndarray:
    hits_NK = (scores_NK > 0) == labels_NK
    positive_K = labels_NK.sum(axis=0)
    recall1_K = (hits_NK & labels_NK).sum(axis=0) / positive_K
    recall0_K = (hits_NK & ~labels_NK).sum(axis=0) / (len(labels_NK) - positive_K)
    return (recall1_K + recall0_K) / 2


def _control_labels(types: ArrayLike | None, fold_N: np.ndarray, n_control: int, seed: int) -> tuple[np.ndarray, str]:
    empty_NK = np.zeros((len(fold_N), 0), dtype=bool)
    if types is None or n_control == 0:
        return empty_NK, ""
    type_N, n_types = cluster_index(types)
    same_rows(types=type_N, rows=fold_N)
    if n_types < 2:
        return empty_NK, "one type only: no control task"
    rng = np.random.default_rng([seed, 1])
    balanced_T = np.arange(n_types) % 2 == 0
    labels_NK = rng.permuted(np.broadcast_to(balanced_T, (n_control, n_types)), axis=1).T[type_N]
    usable_NK = labels_NK[:, _both_classes_in_training(labels_NK, fold_N)]
    return usable_NK, "" if usable_NK.shape[1] else "types lie inside single folds: no control task"


def _permuted_labels(y_N: np.ndarray, index_N: np.ndarray, fold_N: np.ndarray, n_permutations: int, seed: int) -> tuple[np.ndarray, str]:
    if n_permutations == 0:
        return np.zeros((len(y_N), 0), dtype=bool), ""
    y_G = np.zeros(index_N.max() + 1, dtype=bool)
    y_G[index_N] = y_N
    if (y_G[index_N] != y_N).any():
        return np.zeros((len(y_N), 0), dtype=bool), "the label varies within clusters: no permutation baseline"
    labels_NK = permute_within(y_G, None, index_N, n_permutations, seed).T[index_N]
    return labels_NK[:, _both_classes_in_training(labels_NK, fold_N)], ""


def _both_classes_in_training(labels_NK: np.ndarray, fold_N: np.ndarray) -> np.ndarray:
    return np.all([labels_NK[fold_N != fold].any(axis=0) & ~labels_NK[fold_N != fold].all(axis=0) for fold in np.unique(fold_N)], axis=0)


def _within_fold_auroc(scores_N: np.ndarray, y_N: np.ndarray, fold_N: np.ndarray) -> float:
    pairs_and_aurocs = []
    for fold in np.unique(fold_N):
        y_fold = y_N[fold_N == fold]
        if y_fold.any() and not y_fold.all():
            pairs_and_aurocs.append((y_fold.sum() * (~y_fold).sum(), auroc(scores_N[fold_N == fold], y_fold)))
    pairs, aurocs = np.array(pairs_and_aurocs).T
    return float((pairs * aurocs).sum() / pairs.sum())


def _result(scores_N: np.ndarray, y_N: np.ndarray, index_N: np.ndarray, fold_N: np.ndarray, control: float, permuted_K: np.ndarray, note: str) -> ProbeResult:
    accuracy = float(_balanced_accuracy(scores_N[:, None], y_N[:, None])[0])
    low, high = _accuracy_interval(scores_N, y_N, index_N, fold_N, accuracy)
    permuted = p = permuted_high = float("nan")
    if len(permuted_K):
        permuted, permuted_high = float(permuted_K.mean()), float(np.quantile(permuted_K, 0.95))
        p = float((1 + np.sum(permuted_K >= accuracy)) / (len(permuted_K) + 1))
    return ProbeResult(
        balanced_accuracy=accuracy,
        low=low,
        high=high,
        auroc=_within_fold_auroc(scores_N, y_N, fold_N),
        control_accuracy=control,
        selectivity=accuracy - control,
        permuted_accuracy=permuted,
        p=p,
        n_rows=len(y_N),
        n_clusters=len(np.unique(index_N)),
        note=note,
        permuted_high=permuted_high,
    )


def _accuracy_interval(scores_N: np.ndarray, y_N: np.ndarray, index_N: np.ndarray, fold_N: np.ndarray, accuracy: float) -> tuple[float, float]:
    hits_N = (scores_N > 0) == y_N
    recall = {label: hits_N[y_N == label].mean() for label in (False, True)}
    influence_N = np.where(y_N, (hits_N - recall[True]) / y_N.sum(), (hits_N - recall[False]) / (~y_N).sum()) / 2
    # Fits of different folds share most of their rows, so their errors go together; with this allowance simulated intervals cover (Nadeau & Bengio 2003).
    n_folds = len(np.unique(fold_N))
    influence_N *= np.sqrt(n_folds / (n_folds - 1))
    rarer = min(len(np.unique(index_N[y_N])), len(np.unique(index_N[~y_N])))
    low_F, high_F = interval_from_influence(np.array([accuracy]), influence_N[:, None], index_N, 0.95, 2 * rarer, len(y_N))
    return float(low_F[0]), float(high_F[0])
