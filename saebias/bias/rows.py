"""The row every bias figure becomes, and the column tables the figures are computed from.

Shapes: N rows (captions, or images per language).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from saebias.errors import InputError
from saebias.stats.resampling import Estimate

GENDERS = ("F", "M", "A")
CLEAR_GENDERS = ("F", "M")
LABELS = ("F", "M", "N", "X", "0")


@dataclass(frozen=True)
class BiasRow:
    """One bias figure. `context` or `gender` None means all of them; NaN comes with its reason in `note`; the interval is 95 %."""

    metric: str
    language: str
    context: str | None
    gender: str | None
    value: float
    low: float
    high: float
    n_images: int
    n_clusters: int
    note: str = ""


def bias_row(metric: str, language: str, estimate: Estimate, *, context: str | None = None, gender: str | None = None, n_images: int | None = None) -> BiasRow:
    """An estimate as a row; `n_images` where the estimate counts captions."""
    images = estimate.n_rows if n_images is None else n_images
    return BiasRow(metric, language, context, gender, estimate.value, estimate.low, estimate.high, images, estimate.n_clusters, estimate.note)


@dataclass(frozen=True)
class CaptionLabels:
    """One row per caption: its image with cluster, context and visible gender (F, M, A); the caption's language, label (F, M, N, X, 0) and explicitness."""

    image_N: np.ndarray
    cluster_N: np.ndarray
    context_N: np.ndarray
    language_N: np.ndarray
    gender_N: np.ndarray
    label_N: np.ndarray
    explicit_N: np.ndarray

    def __post_init__(self) -> None:
        _as_columns(self)
        _known(self.gender_N, GENDERS, "visible gender")
        _known(self.label_N, LABELS, "caption label")
        _known(self.explicit_N.astype(int), (0, 1), "explicit")
        object.__setattr__(self, "explicit_N", self.explicit_N.astype(bool))

    def where(self, keep_N: np.ndarray) -> CaptionLabels:
        """The rows marked in keep_N."""
        return replace(self, **{field.name: getattr(self, field.name)[keep_N] for field in fields(self)})

    def __len__(self) -> int:
        return len(self.image_N)


@dataclass(frozen=True)
class ExactProbabilities:
    """One row per image and language: the probability mass of captions that say F, M or no gender (N), from scoring a closed set of continuations.

    Only the ratio of F to M is read, so P(F | F or M) and its complement serve as well. P(N) may be NaN where no neutral continuation was scored.
    """

    image_N: np.ndarray
    cluster_N: np.ndarray
    context_N: np.ndarray
    language_N: np.ndarray
    gender_N: np.ndarray
    p_f_N: np.ndarray
    p_m_N: np.ndarray
    p_n_N: np.ndarray

    def __post_init__(self) -> None:
        _as_columns(self)
        _known(self.gender_N, GENDERS, "visible gender")
        for name in ("p_f_N", "p_m_N", "p_n_N"):
            values_N = getattr(self, name).astype(np.float64)
            object.__setattr__(self, name, values_N)
            bad_N = ~((values_N >= 0) & (values_N <= 1 + 1e-6))
            if name == "p_n_N":
                bad_N &= ~np.isnan(values_N)
            if bad_N.any():
                raise InputError(f"{name[:-2]} of image {self.image_N[bad_N][0]!s} is {values_N[bad_N][0]}; probabilities lie in [0, 1]")
        neither_N = self.p_f_N + self.p_m_N <= 0
        if neither_N.any():
            raise InputError(
                f"image {self.image_N[neither_N][0]!s} gives F and M no probability at all; score both continuations, or leave it out and count it"
            )
        keys = np.stack([self.image_N.astype(str), self.language_N.astype(str)], axis=1)
        if len(np.unique(keys, axis=0)) != len(keys):
            raise InputError("an image occurs twice in one language; average over prompts before, one row per image and language")

    @property
    def p_female_N(self) -> np.ndarray:
        """P(F | F or M) of every row."""
        return self.p_f_N / (self.p_f_N + self.p_m_N)

    def where(self, keep_N: np.ndarray) -> ExactProbabilities:
        """The rows marked in keep_N."""
        return replace(self, **{field.name: getattr(self, field.name)[keep_N] for field in fields(self)})

    def ambiguous(self, language: str) -> ExactProbabilities:
        """The ambiguous images of one language; raises InputError when there is none."""
        keep_N = (self.gender_N == "A") & (self.language_N == language)
        if not keep_N.any():
            raise InputError(f"no ambiguous images in language {language!r}; a stereotype is measured on images without visible gender")
        return self.where(keep_N)

    def __len__(self) -> int:
        return len(self.image_N)


def languages_of(table: CaptionLabels | ExactProbabilities) -> list[str]:
    """The languages of a table, sorted."""
    return sorted(str(language) for language in np.unique(table.language_N))


def _as_columns(table: CaptionLabels | ExactProbabilities) -> None:
    sizes = {}
    for field in fields(table):
        column = np.asarray(getattr(table, field.name))
        object.__setattr__(table, field.name, column)
        sizes[field.name] = column.shape
    if len(set(sizes.values())) != 1 or any(len(shape) != 1 for shape in sizes.values()):
        raise InputError("columns differ in length: " + ", ".join(f"{name} {shape}" for name, shape in sizes.items()) + "; hand in one entry per row")


def _known(values: np.ndarray, allowed: tuple, what: str) -> None:
    unknown = sorted({str(value) for value in np.unique(values)} - {str(value) for value in allowed})
    if unknown:
        raise InputError(f"unknown {what} {unknown[0]!r}; known are {', '.join(str(value) for value in allowed)}")
