"""The stereotype and the default: what the model assumes when the picture does not show a gender.

p(o, l) = P(F | F or M) of ambiguous images of context o in language l, the mean over images of exact probabilities. Shapes: N rows, O contexts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import stats

from saebias.bias.rows import BiasRow, ExactProbabilities, bias_row, languages_of
from saebias.errors import InputError
from saebias.stats.correlation import spearman
from saebias.stats.equivalence import verdict
from saebias.stats.heterogeneity import group_means, spread_of_groups
from saebias.stats.resampling import Estimate
from saebias.stats.shares import share_estimate

Reference = Mapping[tuple[str, str], float]
_WITH_VERDICT = ("stereotype_spread", "masculine_default", "masculine_default_these_contexts")


def stereotype_rows(exact: ExactProbabilities, *, seed: int, n_draws: int = 2000, smallest: float = 0.05) -> tuple[BiasRow, ...]:
    """p(o, l), its spread over contexts, the default, and the neutral share, from the ambiguous images of every language.

    p_female, p_neutral               per context; interval over image clusters
    stereotype_spread                 S_l, standard deviation of p over these contexts beyond sampling noise; low is 0 when chance explains the differences
    stereotype_spread_variance        S_l squared before the root, signed: below 0 about half of the time when there is no stereotype
    stereotype_spread_p               permutation p of contexts over clusters (no interval)
    masculine_default                 D_l = 1/2 - mean_o p, above 0 for a masculine default; contexts count as a sample of contexts
    masculine_default_these_contexts  the same number; interval over images alone
    neutral_share                     mean_o P(N)
    masculine_default in "ar-en"      D_ar - D_en over images scored in both languages; contexts count as a sample
    A spread or default that is certain can still be tiny: their notes give the verdict (present, negligible, undecided) against `smallest`, the smallest one
    that matters; see `saebias.stats.equivalence.verdict`.
    """
    rows: list[BiasRow] = []
    for language in languages_of(exact):
        table = exact.ambiguous(language)
        rows.extend(_context_rows(table, language))
        rows.extend(_spread_rows(table, language, seed, n_draws))
        rows.extend(_default_rows(table.p_female_N, table, language, seed, n_draws))
        neutral = mean_over_contexts(table.p_n_N, table) if np.isfinite(table.p_n_N).all() else _no_neutral(table)
        rows.append(bias_row("neutral_share", language, neutral, gender="A"))
    if {"ar", "en"} <= set(languages_of(exact)):
        rows.append(default_difference(exact))
    return tuple(_with_verdict(row, smallest) if row.metric in _WITH_VERDICT else row for row in rows)


def _with_verdict(row: BiasRow, smallest: float) -> BiasRow:
    found = verdict(Estimate(row.value, row.low, row.high, row.n_images, row.n_clusters), smallest)
    return replace(row, note="; ".join(filter(None, [f"{found} (smallest that matters: {smallest:g})", row.note])))


def context_probabilities(exact: ExactProbabilities, language: str) -> dict[str, float]:
    """p(o, l) of every context in one language."""
    table = exact.ambiguous(language)
    p_female_N = table.p_female_N
    return {str(context): float(p_female_N[table.context_N == context].mean()) for context in np.unique(table.context_N)}


def _context_rows(table: ExactProbabilities, language: str) -> list[BiasRow]:
    rows = []
    for context in np.unique(table.context_N):
        part = table.where(table.context_N == context)
        neutral = share_estimate(np.minimum(part.p_n_N, 1.0), part.cluster_N) if np.isfinite(part.p_n_N).all() else _no_neutral(part)
        rows.append(bias_row("p_female", language, share_estimate(part.p_female_N, part.cluster_N), context=str(context), gender="A"))
        rows.append(bias_row("p_neutral", language, neutral, context=str(context), gender="A"))
    return rows


def _no_neutral(table: ExactProbabilities) -> Estimate:
    return Estimate(np.nan, np.nan, np.nan, len(table), len(np.unique(table.cluster_N)), "no neutral continuation was scored")


def _spread_rows(table: ExactProbabilities, language: str, seed: int, n_draws: int) -> list[BiasRow]:
    found = spread_of_groups(table.p_female_N, table.context_N, table.cluster_N, seed=seed, n_draws=n_draws)
    counts = (found.n_rows, found.n_clusters, found.note)
    return [
        bias_row("stereotype_spread", language, Estimate(found.spread, found.low, found.high, *counts), gender="A"),
        bias_row("stereotype_spread_variance", language, Estimate(found.variance, found.variance_low, found.variance_high, *counts), gender="A"),
        bias_row(
            "stereotype_spread_p",
            language,
            Estimate(found.p, np.nan, np.nan, found.n_rows, found.n_clusters, found.note or "a p value has no interval"),
            gender="A",
        ),
    ]


def _default_rows(p_female_N: np.ndarray, table: ExactProbabilities, language: str, seed: int, n_draws: int) -> list[BiasRow]:
    these = group_means(0.5 - p_female_N, table.context_N, table.cluster_N, n_draws=n_draws, seed=seed)
    mean_R = these.draws_RO.mean(axis=1)
    low, high = (float(end) for end in np.quantile(mean_R, [0.025, 0.975])) if np.isfinite(mean_R).all() else (np.nan, np.nan)
    note = "" if np.isfinite(low) else "a context has one cluster: no interval"
    fixed = Estimate(float(these.means_O.mean()), low, high, len(table), len(np.unique(table.cluster_N)), note)
    return [
        bias_row("masculine_default", language, mean_over_contexts(0.5 - p_female_N, table), gender="A"),
        bias_row("masculine_default_these_contexts", language, fixed, gender="A"),
    ]


def mean_over_contexts(values_N: np.ndarray, table: ExactProbabilities) -> Estimate:
    """The mean of context means, every context counting alike, with Student's t over contexts: images vary inside contexts, so contexts carry both variances.

    NaN ends with a note for a single context.
    """
    names, context_N = np.unique(table.context_N, return_inverse=True)
    means_O = np.bincount(context_N, weights=values_N) / np.bincount(context_N)
    n_clusters = len(np.unique(table.cluster_N))
    value = float(means_O.mean())
    if len(names) < 2:
        return Estimate(value, np.nan, np.nan, len(values_N), n_clusters, "one context: no interval over contexts")
    half = float(stats.t.ppf(0.975, len(names) - 1) * means_O.std(ddof=1) / np.sqrt(len(names)))
    return Estimate(value, value - half, value + half, len(values_N), n_clusters, f"interval over {len(names)} contexts")


def default_difference(exact: ExactProbabilities) -> BiasRow:
    """D_ar - D_en = mean_o (p_en - p_ar), paired by image; images scored in one language only are left out and counted in the note."""
    ar, en = exact.ambiguous("ar"), exact.ambiguous("en")
    shared, at_ar, at_en = np.intersect1d(ar.image_N, en.image_N, return_indices=True)
    if len(shared) == 0:
        raise InputError("no image is scored in both Arabic and English; the paired difference of defaults needs the same images")
    paired = ar.where(at_ar)
    estimate = mean_over_contexts(en.p_female_N[at_en] - ar.p_female_N[at_ar], paired)
    alone = len(ar) + len(en) - 2 * len(shared)
    row = bias_row("masculine_default", "ar-en", estimate, gender="A")
    return row if alone == 0 else replace(row, note=f"{row.note}; {alone} images scored in one language left out")


def alignment_rows(exact: ExactProbabilities, reference: Reference) -> tuple[BiasRow, ...]:
    """Rank correlation of p(o, l) with a reference share of women per (context, language), interval over contexts; metric `reference_alignment`.

    Contexts without a reference are left out and counted in the note.
    """
    rows = []
    for language in languages_of(exact):
        table = exact.ambiguous(language)
        found = context_probabilities(exact, language)
        known = [context for context in found if (context, language) in reference]
        estimate = spearman([found[context] for context in known], [reference[context, language] for context in known]) if known else _no_reference()
        missing = len(found) - len(known)
        note = "; ".join(filter(None, [estimate.note, f"interval over {len(known)} contexts", f"{missing} contexts have no reference" if missing else ""]))
        images, clusters = len(table), len(np.unique(table.cluster_N))
        rows.append(BiasRow("reference_alignment", language, None, "A", estimate.value, estimate.low, estimate.high, images, clusters, note))
    return tuple(rows)


def _no_reference() -> Estimate:
    return Estimate(np.nan, np.nan, np.nan, 0, 0, "no context has a reference")
