"""What the model says under one arm, per image, and the two axes made of it: the stereotype left, and harm on clear images.

Shapes: N images (one language), A arms or random sets, R bootstrap draws, G clusters, O contexts, C cells (context x cluster). Statistics are
sums over cells, so a bootstrap draw is a product with the cells' multiplicities, for all arms alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from saebias.errors import InputError
from saebias.stats.checks import cluster_index, finite, same_rows

GENDERS = ("F", "M", "A")


@dataclass(frozen=True)
class Images:
    """The images that every arm is measured on, in one language: near-duplicate cluster, context and visual gender (F, M, A) of each."""

    image_N: np.ndarray
    cluster_N: np.ndarray
    context_N: np.ndarray
    gender_N: np.ndarray

    def __post_init__(self) -> None:
        same_rows(image=self.image_N, cluster=self.cluster_N, context=self.context_N, gender=self.gender_N)
        unknown = sorted(set(np.unique(self.gender_N).tolist()) - set(GENDERS))
        if unknown:
            raise InputError(f"visual gender {unknown[0]!r} is none of F, M, A; label the image or leave it out")

    @cached_property
    def ambiguous_N(self) -> np.ndarray:
        """True where the picture does not say."""
        return self.gender_N == "A"

    def where(self, keep_N: np.ndarray) -> Images:
        """The images marked True."""
        return Images(self.image_N[keep_N], self.cluster_N[keep_N], self.context_N[keep_N], self.gender_N[keep_N])


@dataclass(frozen=True)
class ClosedSet:
    """Exact probabilities of the closed set of continuations, summed by gender: one row per image, or one row of images per random set [A, N].

    `neutral` is None where no neutral continuation was given. They need not add up to 1: shares are taken within the closed set.
    """

    female: np.ndarray
    male: np.ndarray
    neutral: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, values in {"female": self.female, "male": self.male, "neutral": self.neutral}.items():
            if values is not None and (finite(values, f"P({name})") < 0).any():
                raise InputError(f"P({name}) is negative for {int((values < 0).sum())} images; hand in probabilities, not logits")
        if not ((self.female + self.male) > 0).all():
            raise InputError("P(F) + P(M) is 0 for an image; its continuations do not fit the model's prompt")

    @property
    def share_female(self) -> np.ndarray:
        """P(F | F or M)."""
        return self.female / (self.female + self.male)

    @property
    def joint(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(P(F), P(M), P(N)) within the closed set, adding up to 1."""
        neutral = np.zeros_like(self.female) if self.neutral is None else self.neutral
        total = self.female + self.male + neutral
        return self.female / total, self.male / total, neutral / total


def clear_shares(images: Images, closed: ClosedSet) -> dict[str, np.ndarray]:
    """Exact probability of a right, wrong and neutral caption on each clear image, the ambiguous ones left out (last axis: clear images)."""
    clear_N = ~images.ambiguous_N
    female, male, neutral = (share[..., clear_N] for share in closed.joint)
    shows_woman = images.gender_N[clear_N] == "F"
    return {"right": np.where(shows_woman, female, male), "wrong": np.where(shows_woman, male, female), "neutral": neutral}


@dataclass(frozen=True)
class Cells:
    """Ambiguous images grouped by context x cluster: the cells' image counts, contexts, and clusters (numbered as in `clusters_N` of all images)."""

    cell_N: np.ndarray
    count_C: np.ndarray
    cluster_C: np.ndarray
    is_context_CO: np.ndarray

    @classmethod
    def of(cls, images: Images, cluster_N: np.ndarray) -> Cells:
        """Cells of the images given; `cluster_N` numbers their clusters."""
        context_N, n_contexts = cluster_index(images.context_N)
        if n_contexts < 2:
            raise InputError(f"{n_contexts} context among {len(images.image_N)} ambiguous images; a spread over contexts needs two")
        cells_C2, cell_N = np.unique(np.stack([context_N, cluster_N], axis=1), axis=0, return_inverse=True)
        is_context_CO = (cells_C2[:, :1] == np.arange(n_contexts)).astype(float)
        return cls(cell_N.reshape(-1), np.bincount(cell_N.reshape(-1)).astype(float), cells_C2[:, 1], is_context_CO)

    def sums(self, values_AN: np.ndarray) -> np.ndarray:
        """Sums over each cell [A, C]."""
        return np.stack([np.bincount(self.cell_N, weights=values_N, minlength=len(self.count_C)) for values_N in np.atleast_2d(values_AN)])


def context_means(cells: Cells, sums_C: np.ndarray, weight_RC: np.ndarray) -> np.ndarray:
    """Mean per context [R, O] under each draw's multiplicities of the cells; NaN where a draw holds no image of the context."""
    count_RO = (weight_RC * cells.count_C) @ cells.is_context_CO
    sums_RO = (weight_RC * sums_C) @ cells.is_context_CO
    return np.divide(sums_RO, count_RO, out=np.full_like(sums_RO, np.nan), where=count_RO > 0)


def spread_variance(cells: Cells, sums_C: np.ndarray, weight_RC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(corrected_R, noise_R): variance over contexts of the mean share, less the variance that sampling images puts there, and that variance.

    A context's mean has the cluster-robust variance n/(n-1) * sum_c e_c^2 / (number of images)^2 over its n clusters, e_c the cluster's sum of
    deviations from the context's mean; contexts with a single cluster borrow the average of the others, and where no context has two the
    noise counts as 0. NaN below two contexts.
    """
    mean_RO = context_means(cells, sums_C, weight_RC)
    count_RO = (weight_RC * cells.count_C) @ cells.is_context_CO
    clusters_RO = weight_RC @ cells.is_context_CO
    moments = (sums_C**2, sums_C * cells.count_C, cells.count_C**2)
    square_RO, cross_RO, counts_RO = ((weight_RC * moment_C) @ cells.is_context_CO for moment_C in moments)
    residual_RO = square_RO - 2 * mean_RO * cross_RO + mean_RO**2 * counts_RO
    several_RO = clusters_RO > 1
    factor_RO = np.divide(clusters_RO, (clusters_RO - 1) * count_RO**2, out=np.full_like(count_RO, np.nan), where=several_RO)
    noise_R = np.where(several_RO.any(axis=1), defined_mean(residual_RO * factor_RO), 0.0)
    n_contexts_R = (count_RO > 0).sum(axis=1)
    squared_R = np.nansum((mean_RO - defined_mean(mean_RO)[:, None]) ** 2, axis=1)
    variance_R = np.divide(squared_R, n_contexts_R - 1, out=np.full_like(squared_R, np.nan), where=n_contexts_R > 1)
    return variance_R - noise_R, noise_R


def defined_mean(values_RO: np.ndarray) -> np.ndarray:
    """Row means of what is defined; NaN for a row without any."""
    defined_RO = ~np.isnan(values_RO)
    count_R = defined_RO.sum(axis=1)
    return np.divide(np.where(defined_RO, values_RO, 0.0).sum(axis=1), count_R, out=np.full(len(values_RO), np.nan), where=count_R > 0)
