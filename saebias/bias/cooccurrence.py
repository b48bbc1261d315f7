"""Does the captioner tie gender and content together more than its reference does: directional co-occurrence, each direction by itself.

Bias amplification of Wang & Russakovsky 2021 (ICML, "Directional Bias Amplification"), signed: pairs that go together in the reference count upwards, pairs
that avoid each other downwards; the mean of absolute values would call noise amplification. Shapes: N rows (captions), A attributes (contexts or words).
"""

from __future__ import annotations

import numpy as np

from saebias.bias.rows import BiasRow
from saebias.errors import InputError
from saebias.stats.checks import cluster_index, same_rows
from saebias.stats.resampling import bootstrap_counts, cluster_sums, interval_of_draws

DIRECTIONS = ("content_to_gender", "gender_to_content")


def directional_rows(
    language: str,
    image_N: np.ndarray,
    cluster_N: np.ndarray,
    reference_female_N: np.ndarray,
    reference_content_NA: np.ndarray,
    said_female_N: np.ndarray,
    said_content_NA: np.ndarray,
    *,
    seed: int,
    n_draws: int = 2000,
) -> tuple[BiasRow, ...]:
    """Amplification of the reference's gender-content associations by the captions, metrics cooccurrence_content_to_gender and cooccurrence_gender_to_content.

    `*_female_N` is 1 (woman) or 0 (man) per caption; `*_content_NA` is whether attribute a is in the picture or reference caption (reference) or in the caption
    (said). With y_a = sign(P(F, a) - P(F) P(a)) in the reference and delta_a the change from reference to captions of P(F | a) (content to gender) or of
    P(a | F) - P(a | M) (gender to content), conditioned on the reference, the figure is mean_a y_a delta_a. Attributes without association, present everywhere
    or nowhere in the reference are left out and counted. Intervals: image clusters; the signs y_a stay those of the reference.
    """
    rows = same_rows(
        image=image_N,
        cluster=cluster_N,
        reference_female=reference_female_N,
        reference_content=reference_content_NA,
        said_female=said_female_N,
        said_content=said_content_NA,
    )
    female_N, content_NA = np.asarray(reference_female_N, dtype=np.float64), np.asarray(reference_content_NA, dtype=np.float64)
    if not 0 < female_N.mean() < 1:
        raise InputError("the reference holds one gender only; co-occurrence compares women with men")
    use_A, sign_A = _associated(female_N, content_NA)
    index_N, n_clusters = cluster_index(cluster_N)
    sums = _Sums(index_N, female_N, np.asarray(said_female_N, dtype=np.float64), content_NA[:, use_A], np.asarray(said_content_NA, dtype=np.float64)[:, use_A])
    counts_RG = bootstrap_counts(index_N, n_draws, seed)
    note = f"{int(use_A.sum())} of {len(use_A)} attributes are associated with gender in the reference; {rows} captions"
    found = []
    for direction in DIRECTIONS:
        value = low = high = float("nan")
        reason = ""
        if use_A.any():
            value = float(_figure(sums, np.ones((1, n_clusters)), sign_A, direction)[0])
            low, high, reason = interval_of_draws(value, _figure(sums, counts_RG, sign_A, direction))
        full_note = "; ".join(filter(None, [note, reason]))
        found.append(BiasRow(f"cooccurrence_{direction}", language, None, None, value, low, high, len(np.unique(image_N)), n_clusters, full_note))
    return tuple(found)


def _associated(female_N: np.ndarray, content_NA: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(use_A, signs of the attributes used): attributes neither everywhere nor nowhere whose covariance with gender is not 0 in the reference."""
    share_A = content_NA.mean(axis=0)
    joint_A = (female_N[:, None] * content_NA).mean(axis=0) - female_N.mean() * share_A
    use_A = (np.abs(joint_A) > 1e-12) & (share_A > 0) & (share_A < 1)
    return use_A, np.sign(joint_A)[use_A]


class _Sums:
    """Cluster sums of every product that the two figures need, so that a draw is a product with counts."""

    def __init__(self, index_N: np.ndarray, female_N: np.ndarray, said_N: np.ndarray, content_NA: np.ndarray, said_content_NA: np.ndarray) -> None:
        man_N = 1 - female_N
        self.content = cluster_sums(index_N, content_NA)
        self.female_in_content = cluster_sums(index_N, female_N[:, None] * content_NA)
        self.said_in_content = cluster_sums(index_N, said_N[:, None] * content_NA)
        self.genders = cluster_sums(index_N, np.stack([female_N, man_N], axis=1))
        self.content_change = [cluster_sums(index_N, gender_N[:, None] * (said_content_NA - content_NA)) for gender_N in (female_N, man_N)]


def _figure(sums: _Sums, counts_RG: np.ndarray, sign_A: np.ndarray, direction: str) -> np.ndarray:
    if direction == "content_to_gender":
        change_RA = _safe_ratio(counts_RG @ (sums.said_in_content - sums.female_in_content), counts_RG @ sums.content)
    else:
        genders_R2 = counts_RG @ sums.genders
        women_RA, men_RA = (_safe_ratio(counts_RG @ change_GA, genders_R2[:, [column]]) for column, change_GA in enumerate(sums.content_change))
        change_RA = women_RA - men_RA
    return (change_RA * sign_A).mean(axis=1)


def _safe_ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan), where=bottom > 0)
