"""Both axes of debiasing at once: what is left of the stereotype, against harm on clear images, and the best trade within budgets.

The strength is chosen on the select images and its effect is reported on the report images; nothing else is accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError
from saebias.stats.resampling import interval_of_draws
from saebias.steering.arms import ArmLabel
from saebias.steering.effects import Draws, EffectRow

NO_CHOICE = "no strength stays within the budgets"
NO_STEREOTYPE = "the baseline's spread on these images is not told from 0, so no share of it can be said to be removed"


@dataclass(frozen=True)
class Budgets:
    """What a debiased model may cost."""

    max_accuracy_loss: float = 0.02
    """Probability of a right caption that may be lost on clear images."""
    max_cross_entropy_rise: float = 0.05
    """Rise of the reference captions' cross-entropy off the gender words, nats per token."""
    max_default_shift: float = 0.05
    """How much further from 1/2 the mean P(woman) of ambiguous images may move: a model that says one gender to everybody has no spread either."""


@dataclass(frozen=True)
class DosePoint:
    """One arm at one strength on both axes. `cross_entropy_rise` is None where captions were not scored."""

    label: ArmLabel
    layer: int
    language: str
    split: str
    clear_harm: float
    accuracy_loss: float
    spread: float
    default: float
    cross_entropy_rise: float | None
    default_shift: float = 0.0
    """|D| of the arm minus |D| of arm A0."""

    def within(self, budgets: Budgets) -> bool:
        """Whether the arm costs no more than the budgets allow."""
        rise = 0.0 if self.cross_entropy_rise is None else self.cross_entropy_rise
        affordable = self.accuracy_loss <= budgets.max_accuracy_loss and rise <= budgets.max_cross_entropy_rise
        return affordable and self.default_shift <= budgets.max_default_shift


@dataclass(frozen=True)
class Choice:
    """The strength chosen on the select split for one arm and target, or None with the reason."""

    arm: str
    name: str
    target: str
    strength: float | None
    note: str


def dose_points(rows: Iterable[EffectRow]) -> list[DosePoint]:
    """The two-axes view of effect rows: one point per arm, strength, language and split; the rows must hold arm A0 as their baseline."""
    table: dict[tuple[ArmLabel, int, str, str], dict[str, float]] = {}
    for row in rows:
        label = ArmLabel(row.arm, row.arm_name, row.target, row.strength)
        table.setdefault((label, row.layer, row.language, row.split), {})[row.metric] = row.value
    accuracy = {key[1:]: metrics["clear_accuracy"] for key, metrics in table.items() if key[0].arm == "A0" and "clear_accuracy" in metrics}
    default = {key[1:]: metrics["masculine_default"] for key, metrics in table.items() if key[0].arm == "A0" and "masculine_default" in metrics}
    points = []
    for (label, layer, language, split), metrics in table.items():
        place = (layer, language, split)
        if not {"clear_harm", "clear_accuracy", "stereotype_spread", "masculine_default"} <= set(metrics):
            continue
        if place not in accuracy:
            raise InputError(f"no arm A0 at layer {layer}, {language}, {split}; without it no accuracy is lost or kept")
        loss, rise = accuracy[place] - metrics["clear_accuracy"], metrics.get("cross_entropy_rise")
        axes = metrics["clear_harm"], loss, metrics["stereotype_spread"], metrics["masculine_default"]
        points.append(DosePoint(label, *place, *axes, rise, abs(metrics["masculine_default"]) - abs(default[place])))
    return points


def choose_strengths(points: Sequence[DosePoint], budgets: Budgets) -> list[Choice]:
    """For every arm and target the strength with the least spread left among those within the budgets; of equals the weakest.

    All points must come from the select split and one language and layer: InputError otherwise, because a choice made on the images that are reported flatters.
    """
    _check_split(points, "select", "strengths are chosen on select")
    if len({(point.language, point.layer) for point in points}) > 1:
        raise InputError("points of several languages or layers; choose for one at a time")
    groups: dict[tuple[str, str, str], list[DosePoint]] = {}
    for point in points:
        groups.setdefault((point.label.arm, point.label.name, point.label.target), []).append(point)
    choices = []
    for key, group in groups.items():
        allowed = [point for point in group if point.within(budgets) and not np.isnan(point.spread)]
        best = min(allowed, key=lambda point: (point.spread, point.label.strength), default=None)
        choices.append(Choice(*key, best.label.strength, "") if best else Choice(*key, None, NO_CHOICE))
    return choices


def choose_layer(points: Sequence[DosePoint], budgets: Budgets) -> int:
    """The layer with the least spread left, summed over languages, when each language takes its best dose within the budgets there.

    `points` are those of one kind of arm and target per language at several layers and strengths, on select, arm A0 of every layer and language among
    them: doing nothing is always within the budgets. Comparing layers at one dose would favour layers where a full dose is cheap because it does nothing.
    """
    _check_split(points, "select", "layers are chosen on select")
    left: dict[int, dict[str, float]] = {}
    for point in points:
        if point.within(budgets) and not np.isnan(point.spread):
            of_layer = left.setdefault(point.layer, {})
            of_layer[point.language] = min(point.spread, of_layer.get(point.language, np.inf))
    languages = {point.language for point in points}
    complete = {layer: sum(of_layer.values()) for layer, of_layer in left.items() if set(of_layer) == languages}
    if not complete:
        raise InputError("no layer has a point within the budgets in every language; hand in arm A0 of every layer and language")
    return min(complete, key=lambda layer: (complete[layer], layer))


def selective_debias(
    choice: Choice, labels: Sequence[ArmLabel], spread: Draws, *, split: str, select_images: Collection[str], report_images: Collection[str]
) -> tuple[float, float, float, str]:
    """(value, low, high, note): 1 - S(a)/S(0) of the chosen strength on the report images, 1 when no stereotype is left.

    `spread` holds the draws of `stereotype_spread` for `labels`, arm A0 among them: numerator and denominator see the same draws. NaN with a note when
    no strength was within the budgets or the baseline's spread is not told from 0. InputError unless `split` is report and no image served in both splits.
    """
    if split != "report":
        raise InputError(f"split {split!r}: the selective-debias score is reported on the report split only")
    shared = set(select_images) & set(report_images)
    if shared:
        raise InputError(f"{len(shared)} images are both in select and report (first: {min(shared)}); a strength chosen on an image cannot be reported on it")
    undefined = float("nan"), float("nan"), float("nan")
    if choice.strength is None:
        return *undefined, choice.note
    base, arm = _number_of(labels, "A0", None, None, None), _number_of(labels, choice.arm, choice.name, choice.target, choice.strength)
    base_low, _, _ = interval_of_draws(float(spread.value_A[base]), spread.draw_AR[base])
    if not base_low > 0:
        return *undefined, NO_STEREOTYPE
    value = float(1 - spread.value_A[arm] / spread.value_A[base])
    before_R = spread.draw_AR[base]
    drawn_R = 1 - np.divide(spread.draw_AR[arm], before_R, out=np.full_like(before_R, np.nan), where=before_R > 0)
    return value, *interval_of_draws(value, drawn_R)


def _number_of(labels: Sequence[ArmLabel], arm: str, name: str | None, target: str | None, strength: float | None) -> int:
    found = [
        number
        for number, label in enumerate(labels)
        if label.arm == arm and (name is None or (label.name, label.target, label.strength) == (name, target, strength))
    ]
    if len(found) != 1:
        raise InputError(f"{len(found)} arms are {arm} of {target} at strength {strength}; name it exactly once among the arms reported")
    return found[0]


def _check_split(points: Sequence[DosePoint], split: str, rule: str) -> None:
    wrong = sorted({point.split for point in points} - {split})
    if wrong:
        raise InputError(f"points of split {wrong[0]!r}: {rule}, never on the images whose numbers are reported")
