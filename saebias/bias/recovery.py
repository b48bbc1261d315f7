"""Was the plant learned, and does the pipeline find it: recovered p(o, l) against the planted one. Shapes: O contexts, R draws."""

from __future__ import annotations

import numpy as np

from saebias.bias.rows import BiasRow, ExactProbabilities, bias_row, languages_of
from saebias.bias.stereotype import Reference
from saebias.errors import InputError
from saebias.stats.correlation import spearman
from saebias.stats.heterogeneity import group_means, size_interval
from saebias.stats.resampling import Estimate, interval_of_draws


def recovery_rows(exact: ExactProbabilities, plant: Reference, *, seed: int, n_draws: int = 2000) -> tuple[BiasRow, ...]:
    """Recovered against planted p(o, l) per language: plant_error (recovered - planted) per context; plant_rmse, plant_slope, plant_spearman over contexts.

    The slope is that of least squares of recovered on planted; NaN with a note when the plant is flat (a null sibling). Intervals of error and slope resample
    image clusters within contexts; that of the RMSE is for the true one, sampling noise taken away; that of the rank correlation is over contexts. Raises
    InputError when a context has no planted value.
    """
    rows: list[BiasRow] = []
    for language in languages_of(exact):
        table = exact.ambiguous(language)
        found = group_means(table.p_female_N, table.context_N, table.cluster_N, n_draws=n_draws, seed=seed)
        missing = [str(context) for context in found.names_O if (str(context), language) not in plant]
        if missing:
            raise InputError(f"no planted share for context {missing[0]!r} in {language!r}; give one for every context with ambiguous images")
        planted_O = np.array([plant[str(context), language] for context in found.names_O])
        images, clusters = len(table), len(np.unique(table.cluster_N))
        for position, context in enumerate(found.names_O):
            error = _estimate(found.means_O[position] - planted_O[position], found.draws_RO[:, position] - planted_O[position])
            counts = {"n_rows": int(found.n_rows_O[position]), "n_clusters": int(found.n_clusters_O[position])}
            rows.append(bias_row("plant_error", language, Estimate(*error[:3], **counts, note=error[3]), context=str(context), gender="A"))
        rmse = float(np.sqrt(((found.means_O - planted_O) ** 2).mean()))
        low, high = size_interval(found.means_O - planted_O, found.draws_RO - found.means_O) if np.isfinite(found.draws_RO).all() else (np.nan, np.nan)
        note = "" if np.isfinite(low) else "a context has one cluster: no interval"
        # Sampling noise is part of the plain RMSE and not of the interval, so the value may lie above it.
        rows.append(bias_row("plant_rmse", language, Estimate(rmse, low, np.maximum(high, rmse).item(), images, clusters, note), gender="A"))
        value, low, high, note = _estimate(_slope(found.means_O[None], planted_O)[0], _slope(found.draws_RO, planted_O))
        note = "the plant is the same in every context: no slope" if np.ptp(planted_O) == 0 else note
        rows.append(bias_row("plant_slope", language, Estimate(value, low, high, images, clusters, note), gender="A"))
        rank = spearman(found.means_O, planted_O)
        rows.append(
            bias_row("plant_spearman", language, Estimate(rank.value, rank.low, rank.high, images, clusters, rank.note or "interval over contexts"), gender="A")
        )
    return tuple(rows)


def _estimate(value: float, draws_R: np.ndarray) -> tuple[float, float, float, str]:
    return (float(value), *interval_of_draws(float(value), draws_R))


def _slope(found_RO: np.ndarray, planted_O: np.ndarray) -> np.ndarray:
    centred_O = planted_O - planted_O.mean()
    total = (centred_O**2).sum()
    return found_RO @ centred_O / total if total > 0 else np.full(len(found_RO), np.nan)
