"""Three axes on which a layer's decision activations can be looked at: gender in English, gender in Arabic, and the largest variation left.

Axes are fitted on some images and other images are shown on them. Shapes: N rows (image x language), D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError, NotEnoughData
from saebias.stats.checks import finite, same_rows, table


@dataclass(frozen=True)
class ProjectionRow:
    """One row of activations as a point, in units of the activations, 0 at the mean of the fitted rows."""

    layer: int
    sample_id: str
    language: str
    visual_gender: str
    context: str | None
    x: float
    y: float
    z: float


@dataclass(frozen=True)
class GenderAxes:
    """Orthonormal axes [3, D] and their origin.

    x: direction from men to women in English; y: the part of the Arabic direction at right angles to x; z: first principal component of the rest.
    `cosine` is the raw cosine of the two directions, `y_share` = sqrt(1 - cosine^2) the length of the Arabic direction that y keeps: near 0 the two
    languages share one direction and y is noise.
    """

    axes_3D: np.ndarray
    origin_D: np.ndarray
    cosine: float
    y_share: float

    def project(
        self, layer: int, x_ND: np.ndarray, sample_ids: Sequence[str], language: Sequence[str], visual_gender: Sequence[str], context: Sequence[str | None]
    ) -> list[ProjectionRow]:
        """The rows as points on the axes; they must be other images than those the axes were fitted on (the caller's split says so)."""
        points_N3 = (finite(x_ND, "activations") - self.origin_D) @ self.axes_3D.T
        same_rows(x=points_N3, sample_ids=np.asarray(sample_ids), language=np.asarray(language), gender=np.asarray(visual_gender), context=np.asarray(context))
        columns = zip(sample_ids, language, visual_gender, context, points_N3.tolist(), strict=True)
        return [ProjectionRow(layer, str(sample), str(spoken), str(shown), told, *point) for sample, spoken, shown, told, point in columns]


def fit_gender_axes(x_ND: np.ndarray, language: Sequence[str], visual_gender: Sequence[str]) -> GenderAxes:
    """Axes from rows of both languages, women and men among them (ambiguous rows only help to find z). Raises InputError where a group is missing."""
    x_ND, language_N, gender_N = table(x_ND, "activations"), np.asarray(language), np.asarray(visual_gender)
    same_rows(x=x_ND, language=language_N, visual_gender=gender_N)
    english_D, arabic_D = (_direction(x_ND, language_N, gender_N, spoken) for spoken in ("en", "ar"))
    x_axis_D = english_D / np.linalg.norm(english_D)
    rest_D = arabic_D - (arabic_D @ x_axis_D) * x_axis_D
    y_share = float(np.linalg.norm(rest_D) / np.linalg.norm(arabic_D))
    if y_share < 1e-6:
        raise InputError("the English and Arabic gender directions are the same vector; was one language's activations given twice?")
    y_axis_D = rest_D / np.linalg.norm(rest_D)
    origin_D = x_ND.mean(axis=0)
    centred_ND = x_ND - origin_D
    plane_2D = np.stack([x_axis_D, y_axis_D])
    left_ND = centred_ND - (centred_ND @ plane_2D.T) @ plane_2D
    _, _, components = np.linalg.svd(left_ND, full_matrices=False)
    z_axis_D = components[0] - plane_2D.T @ (plane_2D @ components[0])
    # A principal component has no sign of its own; the largest entry is made positive, so that two runs draw one picture.
    z_axis_D *= np.sign(z_axis_D[np.argmax(np.abs(z_axis_D))]) / np.linalg.norm(z_axis_D)
    return GenderAxes(np.stack([x_axis_D, y_axis_D, z_axis_D]), origin_D, float(arabic_D @ x_axis_D / np.linalg.norm(arabic_D)), y_share)


def _direction(x_ND: np.ndarray, language_N: np.ndarray, gender_N: np.ndarray, spoken: str) -> np.ndarray:
    women, men = ((language_N == spoken) & (gender_N == shown) for shown in ("F", "M"))
    if not women.any() or not men.any():
        raise NotEnoughData(f"{int(women.sum())} rows of women and {int(men.sum())} of men in {spoken!r}; a gender direction needs both")
    direction_D = x_ND[women].mean(axis=0) - x_ND[men].mean(axis=0)
    if not np.linalg.norm(direction_D) > 0:
        raise InputError(f"women and men have the same mean activations in {spoken!r}; there is no gender direction")
    return direction_D
