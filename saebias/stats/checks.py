"""What every statistic asks of its input, said once. Shapes: N rows, F columns, G clusters."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError


def finite(values: ArrayLike, name: str) -> np.ndarray:
    """`values` as float64; raises InputError when one is NaN or infinite, because leaving it out silently would change the sample."""
    array = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{name} holds {int(bad.sum())} values that are not finite (the first at {where}); leave those rows out and count them")
    return array


def table(values: ArrayLike, name: str) -> np.ndarray:
    """`values` as a finite float64 matrix [N, D] with a column at least; raises InputError naming its shape."""
    array = finite(values, name)
    if array.ndim != 2 or not array.shape[1]:
        raise InputError(f"{name} have shape {array.shape}; hand in [rows, dimensions], one dimension at least")
    return array


def same_rows(**arrays: Sized) -> int:
    """The row count the arrays share; raises InputError when they differ or there is none."""
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise InputError("row counts differ: " + ", ".join(f"{name} has {count}" for name, count in counts.items()) + "; hand in one entry per row")
    rows = next(iter(counts.values()))
    if rows == 0:
        raise InputError(f"{', '.join(counts)}: no rows; hand in at least one")
    return rows


def binary(labels: ArrayLike, name: str = "labels") -> np.ndarray:
    """`labels` as booleans; raises InputError unless every one is 0 or 1 and both occur."""
    array = np.asarray(labels)
    if not array.size:
        raise InputError(f"{name}: no row has one; a contrast needs both groups")
    if not np.isin(array, (0, 1)).all():
        raise InputError(f"{name} hold {sorted(set(array[~np.isin(array, (0, 1))].tolist()))[:3]}; code them as 0 and 1")
    array = array.astype(bool)
    if array.all() or not array.any():
        raise InputError(f"{name} are all {int(array[0])} in {len(array)} rows; a contrast needs both groups")
    return array


def cluster_index(clusters: ArrayLike) -> tuple[np.ndarray, int]:
    """Each row's cluster number (in the order of `np.unique`) and the number of clusters G; raises InputError where a row has none (NaN)."""
    clusters_N = np.asarray(clusters)
    if clusters_N.dtype.kind == "f" and np.isnan(clusters_N).any():
        raise InputError(f"{int(np.isnan(clusters_N).sum())} of {len(clusters_N)} rows have no cluster (NaN); give each row one, its own where it stands alone")
    names, index_N = np.unique(clusters_N, return_inverse=True)
    return index_N.reshape(-1), len(names)
