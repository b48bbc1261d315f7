"""Choices made on the select split, the matched random sets that control them, and the score they earn on report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.pipeline.stage import StageContext
from saebias.stages.steer_setup import Scene, chosen_latents

if TYPE_CHECKING:
    from saebias.stages.steer import Bench
    from saebias.stages.steer_measure import Measured
    from saebias.steering.arms import RandomSets
    from saebias.steering.effects import EffectRow
    from saebias.steering.frontier import Budgets, Choice, DosePoint


def budgets(ctx: StageContext) -> Budgets:
    """What a debiased model may cost, from the configuration."""
    from saebias.steering.frontier import Budgets

    return Budgets(ctx.cfg.steer.max_accuracy_loss, ctx.cfg.steer.max_cross_entropy_rise, ctx.cfg.steer.max_default_shift)


def select_points(ctx: StageContext, unit: str, arms: Sequence[str], layer: int | None = None, language: str | None = None) -> list[DosePoint]:
    """The dose points that a unit on select wrote (its rows' notes begin with `unit`), of some arms, one layer and language or all."""
    from saebias.steering.effects import EffectRow
    from saebias.steering.frontier import dose_points

    rows = []
    for row in ctx.table("steering_effects").to_pylist():
        if (row["note"] or "").startswith(unit) and layer in (None, row["layer"]) and language in (None, row["language"]):
            for name in ("value", "low", "high"):
                row[name] = float("nan") if row[name] is None else row[name]
            rows.append(EffectRow(**row))
    return [point for point in dose_points(rows) if point.label.arm in arms]


def choices_on_select(ctx: StageContext, layer: int, language: str) -> list[Choice]:
    """The strength chosen for every arm and target, from the rows that the select unit wrote."""
    from saebias.steering.frontier import choose_strengths

    return choose_strengths(select_points(ctx, "dose on select", ("A3", "A7", "A8"), layer, language), budgets(ctx))


def strength_of(ctx: StageContext, chosen: Sequence[Choice], target: str) -> float:
    """The strength at which arm A3 is controlled and captioned: the chosen one, or the full dose where none kept the budgets."""
    for choice in chosen:
        if choice.arm == "A3" and choice.target == target and choice.strength is not None:
            return choice.strength
    return max(ctx.cfg.steer.strengths)


def random_arms(bench: Bench, layer: int, language: str, strengths: Mapping[str, float]) -> tuple[list[RandomSets], list[dict[str, Any]], dict[str, str]]:
    """Matched random sets (arm A6) per target, how well they match, and per target that cannot be matched the sentence that says so."""
    import torch

    from saebias.features.matching import matched_sets
    from saebias.steering.arms import random_sets

    ctx, dictionary, known = bench.ctx, bench.dictionaries[layer], bench.known(layer, language)
    groups, balance, unlike = [], [], {}
    for target, strength in strengths.items():
        latents = chosen_latents(ctx, layer)[target]
        found = matched_sets(known.profile, np.array(latents), n_sets=ctx.cfg.steer.random_sets, seed=ctx.seed(f"random-{target}"), refuse=False)
        if found.largest_imbalance >= 0.1:
            worst = max(found.balance, key=lambda row: abs(row.standardised_difference))
            unlike[target] = f"random sets are matched only to {found.largest_imbalance:.3f} SD ({worst.covariate}), below 0.1 is alike: no p"
            ctx.reporter.warn(f"steer ({target}): {unlike[target]}", alarm=True)
        groups.append(random_sets(dictionary.sae, target, latents, torch.from_numpy(np.asarray(found.sets_RK)), known.mean_F, strength, known.x_ND))
        balance += [
            {
                "sae_id": dictionary.sae_id,
                "target": target,
                "language": language,
                "covariate": row.covariate,
                "target_mean": row.target_mean,
                "random_mean": row.matched_mean,
                "standardized_difference": row.standardised_difference,
            }
            for row in found.balance
        ]
    return groups, balance, unlike


def without_p(rows: Sequence[EffectRow], unlike: Mapping[str, str]) -> list[EffectRow]:
    """The rows; where the random sets are not like the latents they control, p is taken back and the note says why."""
    return [
        replace(row, p=None, note="; ".join(filter(None, [row.note, unlike[row.target]])))
        if row.target in unlike and (row.p is not None or row.arm == "A6")
        else row
        for row in rows
    ]


def debias_rows(chosen: Sequence[Choice], found: Measured, select: Scene, report: Scene) -> list[EffectRow]:
    """The selective-debias score of every choice on the report images: 1 - S(a)/S(0), undefined where nothing can be removed."""
    from saebias.steering.effects import EffectRow
    from saebias.steering.frontier import selective_debias

    select_ids, report_ids = ({sample["image_id"] for sample in scene.samples} for scene in (select, report))
    draws = found.draws["stereotype_spread"]
    rows = []
    for choice in chosen:
        value, low, high, note = selective_debias(choice, found.labels, draws, split=report.split, select_images=select_ids, report_images=report_ids)
        strength = 0.0 if choice.strength is None else choice.strength
        head = (choice.arm, choice.name, choice.target, found.place.layer, found.place.language, found.place.split, strength)
        rows.append(EffectRow(*head, "selective_debias", value, low, high, None, draws.n_images, draws.n_clusters, note))
    return rows
