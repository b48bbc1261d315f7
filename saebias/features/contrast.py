"""Which latents differ between images of women and of men. A correlation, and called one: what a latent does is for `attribution` and for steering to say.

Shapes: N rows (one decision row per clear image), F latents, K selected latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saebias.stats.checks import binary, cluster_index, finite, same_rows
from saebias.stats.effects import auroc_columns, auroc_intervals, cluster_permutation_auroc, cohens_d, mean_difference
from saebias.stats.multiple import benjamini_hochberg


@dataclass(frozen=True)
class Contrast:
    """Visible-gender association of every latent on the select split; AUROC above .5 and positive differences mean larger on women."""

    auroc_F: np.ndarray
    mean_difference_F: np.ndarray
    cohens_d_F: np.ndarray
    firing_rate_F: np.ndarray
    p_F: np.ndarray
    q_F: np.ndarray
    n_images: int
    n_clusters: int

    @property
    def live_F(self) -> np.ndarray:
        """Latents that fire on at least one row."""
        return self.firing_rate_F > 0


@dataclass(frozen=True)
class LatentRow:
    """One selected latent: how it was found (`*_select`) and what it does on images that played no part in finding it (`*_report`, 95 % interval)."""

    latent: int
    auroc_select: float
    mean_difference_select: float
    cohens_d_select: float
    p: float
    q: float
    auroc_report: float
    auroc_low: float
    auroc_high: float
    mean_difference_report: float
    cohens_d_report: float
    firing_rate_report: float
    n_images: int
    n_clusters: int


def contrast(codes: ArrayLike, y: ArrayLike, clusters: ArrayLike, *, seed: int, n_permutations: int = 9999, strata: ArrayLike | None = None) -> Contrast:
    """Association of every column of codes_NF with y_N (1 = woman, 0 = man), q by Benjamini-Hochberg over all F latents, dead ones with p = 1 included.

    `strata` (such as the context) restricts the permutation to images of one stratum. Raises InputError when a cluster holds both genders.
    """
    codes_NF, y_N = finite(codes, "codes"), binary(y)
    same_rows(codes=codes_NF, y=y_N)
    p_F = cluster_permutation_auroc(codes_NF, y_N, clusters, n_permutations, seed, strata)
    return Contrast(
        auroc_F=auroc_columns(codes_NF, y_N),
        mean_difference_F=mean_difference(codes_NF, y_N),
        cohens_d_F=cohens_d(codes_NF, y_N),
        firing_rate_F=(codes_NF > 0).mean(axis=0),
        p_F=p_F,
        q_F=benjamini_hochberg(p_F),
        n_images=len(y_N),
        n_clusters=cluster_index(clusters)[1],
    )


def report_rows(found: Contrast, latents: ArrayLike, codes_report: ArrayLike, y: ArrayLike, clusters: ArrayLike) -> tuple[LatentRow, ...]:
    """The selected latents measured again on the report split: codes_NF of all latents there, y_N and clusters_N of its images.

    Intervals are for clustered rows, one latent at a time. Check first that the splits share no image (`selection.assert_disjoint`).
    """
    latents_K = np.asarray(latents, dtype=np.int64)
    codes_NK = finite(np.asarray(codes_report)[:, latents_K], "codes")
    auroc_K, low_K, high_K = auroc_intervals(codes_NK, y, clusters)
    difference_K, d_K = mean_difference(codes_NK, y), cohens_d(codes_NK, y)
    firing_K = (codes_NK > 0).mean(axis=0)
    n_clusters = cluster_index(clusters)[1]
    return tuple(
        LatentRow(
            latent=int(latent),
            auroc_select=float(found.auroc_F[latent]),
            mean_difference_select=float(found.mean_difference_F[latent]),
            cohens_d_select=float(found.cohens_d_F[latent]),
            p=float(found.p_F[latent]),
            q=float(found.q_F[latent]),
            auroc_report=float(auroc_K[k]),
            auroc_low=float(low_K[k]),
            auroc_high=float(high_K[k]),
            mean_difference_report=float(difference_K[k]),
            cohens_d_report=float(d_K[k]),
            firing_rate_report=float(firing_K[k]),
            n_images=len(codes_NK),
            n_clusters=n_clusters,
        )
        for k, latent in enumerate(latents_K)
    )
