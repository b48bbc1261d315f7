"""The behaviour metrics of a corpus: joins captions, probabilities and samples, and hands them to saebias.bias."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.pipeline.stage import StageContext
from saebias.stages.model_access import was_taught_plant

if TYPE_CHECKING:
    from saebias.bias.rows import BiasRow, CaptionLabels, ExactProbabilities


def behavior_rows(ctx: StageContext) -> list[dict[str, Any]]:
    """All rows of behavior_metrics; what cannot be computed is null with its reason in `note`."""
    from saebias.bias.amplification import amplification_rows
    from saebias.bias.outcomes import ambiguous_shares, clear_outcomes
    from saebias.bias.recovery import recovery_rows
    from saebias.bias.stereotype import alignment_rows, stereotype_rows

    samples = {row["sample_id"]: row for row in ctx.table("samples").to_pylist()}
    captions = [row for row in ctx.table("generated_captions").to_pylist() if samples[row["sample_id"]]["visual_gender"] is not None]
    seed, draws = ctx.seed("metrics"), ctx.cfg.analyze.bootstrap
    rows: list[BiasRow] = []
    greedy = caption_labels([row for row in captions if row["mode"] == "greedy"], samples)
    if greedy is not None and (greedy.gender_N != "A").any():
        rows += clear_outcomes(greedy)
    else:
        ctx.reporter.warn("analyze: no sample shows a clear gender (data.columns.visual_gender), so there are no outcomes on clear images")
    if greedy is not None and (greedy.gender_N == "A").any():
        rows += ambiguous_shares(greedy)
    exact = exact_probabilities(ctx, samples)
    if exact is not None:
        rows += coverage_rows(exact)
        exact = _covered(ctx, exact)
    if exact is None:
        ctx.reporter.warn("analyze: no ambiguous sample (visual_gender A) with a context was scored, so there are no stereotype and default")
    else:
        references = _true_of_model(ctx, reference_shares(ctx))
        sampled = caption_labels([row for row in captions if row["mode"] == "sample"], samples)
        for part in _together_or_apart(ctx, exact):
            rows += _without_neutral(stereotype_rows(part, seed=seed, n_draws=draws), ctx)
            for source, shares in references.items():
                if source == "planted":
                    rows += recovery_rows(part, shares, seed=seed, n_draws=draws)
                rows += alignment_rows(part, shares)
            dataset = references.get("planted") or (_caption_shares(ctx, samples) if ctx.cfg.data.source == "table" else {})
            if dataset:
                rows += amplification_rows(part, sampled, greedy, dataset, seed=seed, n_draws=draws)
    return catalogue_rows(rows)


def coverage_rows(exact: ExactProbabilities) -> list[BiasRow]:
    """How much of what the model would say the closed set holds: mean total probability of F, M and N per language, over all images scored."""
    from saebias.bias.rows import bias_row, languages_of
    from saebias.stats.shares import share_estimate

    rows = []
    for language in languages_of(exact):
        part = exact.where(exact.language_N == language)
        total_N = np.minimum(part.p_f_N + part.p_m_N + part.p_n_N, 1.0)
        rows.append(bias_row("closed_set_coverage", language, share_estimate(total_N, part.cluster_N)))
    return rows


def _covered(ctx: StageContext, exact: ExactProbabilities) -> ExactProbabilities | None:
    """The languages with ambiguous images whose closed set the model says at all; the others are left out and said."""
    kept = []
    for language in sorted(set(exact.language_N.tolist())):
        part = exact.where((exact.language_N == language) & (exact.gender_N == "A"))
        if len(part) == 0:
            continue
        mean = float((part.p_f_N + part.p_m_N + part.p_n_N).mean())
        if mean < ctx.cfg.analyze.min_coverage:
            ctx.reporter.warn(
                f"analyze ({language}): the model gives the closed set a probability of {mean:.2g} on average, below analyze.min_coverage: "
                "P(woman) of captions it never says is left out; give data.continuations that begin as its captions do",
                alarm=True,
            )
            continue
        kept.append(language)
    return exact.where(np.isin(exact.language_N, kept)) if kept else None


def _together_or_apart(ctx: StageContext, exact: ExactProbabilities) -> list[ExactProbabilities]:
    """All languages at once where they share ambiguous images (then their difference is paired by image), else one by one."""
    languages = sorted(set(exact.language_N.tolist()))
    open_images = [set(exact.image_N[(exact.language_N == language) & (exact.gender_N == "A")].tolist()) for language in languages]
    if len(languages) < 2 or open_images[0] & open_images[1]:
        return [exact]
    ctx.reporter.warn("analyze: the languages share no ambiguous image, so the difference of their defaults is left out")
    return [exact.where(exact.language_N == language) for language in languages]


def caption_labels(rows: Sequence[dict[str, Any]], samples: dict[str, dict[str, Any]]) -> CaptionLabels | None:
    """Captions with labels as columns, or None when there is none."""
    from saebias.bias.rows import CaptionLabels

    if not rows:
        return None
    of = [samples[row["sample_id"]] for row in rows]
    return CaptionLabels(
        image_N=np.array([sample["image_id"] for sample in of]),
        cluster_N=np.array([sample["cluster_id"] for sample in of]),
        context_N=np.array([sample["context"] or "-" for sample in of]),
        language_N=np.array([row["language"] for row in rows]),
        gender_N=np.array([sample["visual_gender"] for sample in of]),
        label_N=np.array([row["label"] for row in rows]),
        explicit_N=np.array([row["explicit"] for row in rows]),
    )


def exact_probabilities(ctx: StageContext, samples: dict[str, dict[str, Any]]) -> ExactProbabilities | None:
    """The exact probabilities as columns (probability mass of F, M and N), one row per image and language; None when nothing was scored."""
    from saebias.bias.rows import ExactProbabilities

    seen: set[tuple[str, str]] = set()
    kept = []
    for row in ctx.table("exact_probabilities").to_pylist():
        sample = samples[row["sample_id"]]
        key = (sample["image_id"], row["language"])
        # The same picture in two rows of a table says the same thing twice; a picture without a context belongs to no profession.
        if sample["visual_gender"] is not None and sample["context"] is not None and key not in seen:
            seen.add(key)
            kept.append((row, sample))
    if not kept:
        return None
    said = np.array([row["coverage"] * (1 - (row["p_neutral"] or 0.0)) for row, _ in kept])
    return ExactProbabilities(
        image_N=np.array([sample["image_id"] for _, sample in kept]),
        cluster_N=np.array([sample["cluster_id"] for _, sample in kept]),
        context_N=np.array([sample["context"] for _, sample in kept]),
        language_N=np.array([row["language"] for row, _ in kept]),
        gender_N=np.array([sample["visual_gender"] for _, sample in kept]),
        p_f_N=said * np.array([row["p_female"] for row, _ in kept]),
        p_m_N=said * np.array([row["p_male"] for row, _ in kept]),
        p_n_N=np.array([row["coverage"] * (row["p_neutral"] or 0.0) for row, _ in kept]),
    )


def reference_shares(ctx: StageContext) -> dict[str, dict[tuple[str, str], float]]:
    """Per source, the reference share of women per (context, language)."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in ctx.table("reference_shares").to_pylist():
        found.setdefault(row["source"], {})[row["context"], row["language"]] = row["p_female"]
    return found


def _true_of_model(ctx: StageContext, references: dict[str, dict[tuple[str, str], float]]) -> dict[str, dict[tuple[str, str], float]]:
    """The references without the planted shares where this model never saw captions that follow them: there is nothing to recover or amplify then."""
    # In a table of one's own, whoever names a source "planted" knows the truth.
    if "planted" not in references or ctx.cfg.data.source == "table" or was_taught_plant(ctx.cfg):
        return references
    ctx.reporter.info(
        f"analyze: {ctx.cfg.model.name} was not trained on captions of the plant {ctx.cfg.data.captioner!r}: no planted truth to compare with, no amplification"
    )
    return {source: shares for source, shares in references.items() if source != "planted"}


def _caption_shares(ctx: StageContext, samples: dict[str, dict[str, Any]]) -> dict[tuple[str, str], float]:
    """The share of women among the gendered reference captions of ambiguous images, per (context, language): what the data says where nothing was planted."""
    said: dict[tuple[str, str], list[bool]] = {}
    for row in ctx.table("captions").to_pylist():
        sample = samples.get(row["sample_id"])
        if sample is not None and sample["visual_gender"] == "A" and row["label"] in ("F", "M"):
            said.setdefault((sample["context"] or "-", row["language"]), []).append(row["label"] == "F")
    return {key: float(np.mean(values)) for key, values in said.items()}


def _without_neutral(rows: Iterable[BiasRow], ctx: StageContext) -> list[BiasRow]:
    """Without the neutral shares of languages whose closed set has no neutral continuation: a probability nobody asked for is not 0."""
    has = {row["language"] for row in ctx.table("continuations").to_pylist() if row["gender"] == "N"}
    return [row for row in rows if row.language in has or row.metric not in ("p_neutral", "neutral_share")]


def catalogue_rows(rows: Iterable[BiasRow]) -> list[dict[str, Any]]:
    """Rows of behavior_metrics, NaN as null."""
    found = []
    for row in rows:
        values = asdict(row)
        for name in ("value", "low", "high"):
            values[name] = none_if_nan(values[name])
        values["note"] = row.note or None
        found.append(values)
    return found


def none_if_nan(value: float | None) -> float | None:
    """NaN as None (SQL null); a reason stands beside it in the row's note."""
    return None if value is None or math.isnan(value) else float(value)
