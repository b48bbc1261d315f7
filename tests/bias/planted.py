"""Images of contexts with a planted share of women per language, as the pipeline would score and caption them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from saebias.bias.rows import CaptionLabels, ExactProbabilities

Plant = Mapping[tuple[str, str], float]


def plant_of(shares_en: list[float], shares_ar: list[float]) -> dict[tuple[str, str], float]:
    """{(context, language): share of women} with contexts c00, c01, ..."""
    return {(f"c{o:02d}", language): share for language, shares in (("en", shares_en), ("ar", shares_ar)) for o, share in enumerate(shares)}


def exact_rows(plant: Plant, rng: np.random.Generator, *, clusters: int = 6, images: int = 3, noise: float = 0.25) -> ExactProbabilities:
    """Ambiguous images whose exact probabilities scatter around the plant in log-odds; images of a cluster (and both languages) share most of the scatter."""
    contexts = sorted({context for context, _ in plant})
    n_clusters = len(contexts) * clusters
    cluster_N = np.repeat(np.arange(n_clusters), images)
    context_N = np.array(contexts)[cluster_N // clusters]
    shared_N = noise * rng.normal(size=n_clusters)[cluster_N]
    parts = []
    for language in sorted({language for _, language in plant}):
        planted_N = np.array([plant[context, language] for context in context_N])
        p_N = 1 / (1 + np.exp(-(np.log(planted_N / (1 - planted_N)) + shared_N + 0.3 * noise * rng.normal(size=len(cluster_N)))))
        languages_N, genders_N = np.full(len(cluster_N), language), np.full(len(cluster_N), "A")
        parts.append((np.arange(len(cluster_N)), cluster_N, context_N, languages_N, genders_N, 0.9 * p_N, 0.9 * (1 - p_N), np.full(len(cluster_N), 0.1)))
    return ExactProbabilities(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def captions_of(exact: ExactProbabilities, rng: np.random.Generator | None, per_image: int = 1) -> CaptionLabels:
    """Captions sampled from the exact probabilities, or greedy ones when there is no generator."""
    row = np.repeat(np.arange(len(exact)), per_image)
    p_N = exact.p_female_N[row]
    label_N = np.where(p_N > 0.5 if rng is None else rng.random(len(row)) < p_N, "F", "M")
    columns = (exact.image_N, exact.cluster_N, exact.context_N, exact.language_N, exact.gender_N)
    return CaptionLabels(*(column[row] for column in columns), label_N, np.ones(len(row), dtype=bool))


def by_metric(rows: tuple, metric: str, language: str, context: str | None = None, gender: str | None = "A"):
    """The one row of that metric, language, context and gender."""
    found = [row for row in rows if (row.metric, row.language, row.context, row.gender) == (metric, language, context, gender)]
    assert len(found) == 1, (metric, language, context, gender, len(found))
    return found[0]
