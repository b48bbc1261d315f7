"""Laws of the trade-off: budgets hold, the choice is made on select and reported on report, and no stereotype means no score."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.steering.arms import ArmLabel
from saebias.steering.effects import Draws, EffectRow
from saebias.steering.frontier import Budgets, Choice, DosePoint, choose_layer, choose_strengths, dose_points, selective_debias

A0 = ArmLabel("A0", "nothing", "none", 0.0)


def a3(strength: float) -> ArmLabel:
    return ArmLabel("A3", "ablate", "stereotype/ar", strength)


def point(strength: float, spread: float, loss: float, rise: float | None = None, split: str = "select") -> DosePoint:
    return DosePoint(a3(strength), 3, "ar", split, loss, loss, spread, 0.1, rise)


def test_the_strength_with_the_least_spread_within_the_budgets_is_chosen() -> None:
    points = [point(0.5, 0.10, 0.01), point(1.0, 0.05, 0.015), point(1.5, 0.01, 0.2), point(2.0, 0.02, 0.0, rise=0.5)]
    (choice,) = choose_strengths(points, Budgets())
    assert choice.strength == 1.0


def test_when_every_strength_breaks_a_budget_none_is_chosen_and_the_score_is_undefined_with_the_reason() -> None:
    (choice,) = choose_strengths([point(1.0, 0.05, 0.3)], Budgets())
    assert choice.strength is None
    value, _, _, note = selective_debias(choice, [A0], draws([0.2]), split="report", select_images=[], report_images=[])
    assert np.isnan(value) and "budgets" in note


def draws(values: list[float], noise: float = 0.01) -> Draws:
    value_A = np.array(values)
    return Draws(value_A, value_A[:, None] + noise * np.random.default_rng(1).normal(size=(1, 500)), 40, 20)


def test_the_score_is_the_share_of_the_spread_that_is_gone_on_report_images() -> None:
    choice = Choice("A3", "ablate", "stereotype/ar", 1.0, "")
    labels = [A0, a3(0.5), a3(1.0)]
    value, low, high, note = selective_debias(choice, labels, draws([0.2, 0.1, 0.04]), split="report", select_images=["a"], report_images=["b"])
    assert value == pytest.approx(0.8) and low < 0.8 < high and note == ""


def test_choosing_on_report_or_reporting_on_select_is_refused() -> None:
    with pytest.raises(InputError, match="chosen on select"):
        choose_strengths([point(1.0, 0.05, 0.0, split="report")], Budgets())
    choice = Choice("A3", "ablate", "stereotype/ar", 1.0, "")
    with pytest.raises(InputError, match="report split only"):
        selective_debias(choice, [A0, a3(1.0)], draws([0.2, 0.1]), split="select", select_images=[], report_images=[])
    with pytest.raises(InputError, match="1 images are both in select and report"):
        selective_debias(choice, [A0, a3(1.0)], draws([0.2, 0.1]), split="report", select_images=["x", "y"], report_images=["y"])


def test_without_a_stereotype_there_is_nothing_to_remove() -> None:
    choice = Choice("A3", "ablate", "stereotype/ar", 1.0, "")
    flat = Draws(np.array([0.02, 0.01]), np.abs(np.random.default_rng(1).normal(0, 0.02, (2, 500))) * (np.arange(500) > 100), 40, 20)
    value, _, _, note = selective_debias(choice, [A0, a3(1.0)], flat, split="report", select_images=[], report_images=[])
    assert np.isnan(value) and "no share of it" in note


def row(label: ArmLabel, metric: str, value: float) -> EffectRow:
    return EffectRow(label.arm, label.name, label.target, 3, "ar", "select", label.strength, metric, value, value, value, None, 40, 20, "")


def test_dose_points_are_the_effect_rows_seen_on_both_axes() -> None:
    metrics = {"clear_accuracy": 0.98, "clear_harm": 0.0, "stereotype_spread": 0.2, "masculine_default": 0.1}
    rows = [row(A0, metric, value) for metric, value in metrics.items()]
    rows += [row(a3(1.0), metric, value) for metric, value in {**metrics, "clear_accuracy": 0.95, "cross_entropy_rise": 0.01}.items()]
    baseline, arm = dose_points(rows)
    assert baseline.accuracy_loss == 0 and arm.accuracy_loss == pytest.approx(0.03) and arm.cross_entropy_rise == 0.01
    with pytest.raises(InputError, match="no arm A0"):
        dose_points(rows[4:])


def at(layer: int, label: ArmLabel, spread: float, loss: float, language: str = "ar") -> DosePoint:
    return DosePoint(label, layer, language, "select", loss, loss, spread, 0.1, None)


def test_the_layer_chosen_is_where_an_affordable_dose_removes_most_not_where_a_full_dose_is_harmless() -> None:
    early = [at(0, A0, 0.2, 0.0), at(0, a3(0.5), 0.2, 0.0), at(0, a3(1.0), 0.19, 0.0)]
    late = [at(5, A0, 0.2, 0.0), at(5, a3(0.5), 0.12, 0.01), at(5, a3(1.0), 0.05, 0.3)]
    assert choose_layer(early + late, Budgets()) == 5
    ruinous = [at(7, A0, 0.2, 0.0), at(7, a3(0.5), 0.01, 0.5)]
    assert choose_layer(early + ruinous, Budgets()) == 0


def test_a_layer_is_chosen_for_all_languages_together() -> None:
    points = [at(layer, A0, 0.2, 0.0, language) for layer in (2, 4) for language in ("en", "ar")]
    points += [at(2, a3(1.0), 0.0, 0.0, "en"), at(4, a3(1.0), 0.08, 0.0, "en"), at(4, a3(1.0), 0.08, 0.0, "ar")]
    assert choose_layer(points, Budgets()) == 4
    with pytest.raises(InputError, match="hand in arm A0"):
        choose_layer([at(2, a3(1.0), 0.1, 0.5)], Budgets())
    with pytest.raises(InputError, match="layers are chosen on select"):
        choose_layer([point(1.0, 0.1, 0.0, split="report")], Budgets())
