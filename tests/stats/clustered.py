"""Simulated rows with near-duplicates: what the intervals of clustered data are tested on."""

from __future__ import annotations

import numpy as np


def clustered_noise(n_clusters: int, per_cluster: int, rng: np.random.Generator, *, shared: float = 1.0, own: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """(noise_N, clusters_N): rows of a cluster share most of their noise, as near-duplicate images do."""
    clusters_N = np.repeat(np.arange(n_clusters), per_cluster)
    return shared * rng.normal(size=n_clusters)[clusters_N] + own * rng.normal(size=len(clusters_N)), clusters_N
