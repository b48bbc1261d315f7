"""Alarms fire on what looks like a result and is a mistake, and stay silent otherwise."""

from __future__ import annotations

import numpy as np

from saebias.steering.alarms import caption_alarms, length_drift, outcome_alarms, truncation_alarms
from saebias.steering.arms import ArmLabel

BASELINE = [f"a woman cook beside a guitar {n}" for n in range(12)]
A0 = ArmLabel("A0", "nothing", "none", 0.0)
A3 = ArmLabel("A3", "ablate", "visible/en", 1.0)
A6 = ArmLabel("A6", "random", "visible/en", 1.0)


def some_changed(changed: int, word: str = "person") -> list[str]:
    return [text.replace("woman", word) if n < changed else text for n, text in enumerate(BASELINE)]


def test_ordinary_arms_raise_no_alarm() -> None:
    assert caption_alarms({A0: BASELINE, A3: some_changed(5), A6: some_changed(1)}, BASELINE) == []


def test_two_arms_with_identical_captions_are_an_alarm() -> None:
    (alarm,) = caption_alarms({A3: some_changed(5), A6: some_changed(5)}, BASELINE)
    assert "identical captions" in alarm and "A3" in alarm and "A6" in alarm


def test_an_arm_equal_to_the_baseline_is_an_alarm_unless_its_strength_is_zero() -> None:
    (alarm,) = caption_alarms({A3: BASELINE}, BASELINE)
    assert "left every greedy caption as it was" in alarm
    assert caption_alarms({ArmLabel("A3", "ablate", "visible/en", 0.0): BASELINE}, BASELINE) == []


def test_a_control_that_changes_captions_is_an_alarm() -> None:
    (alarm,) = caption_alarms({A0: some_changed(2)}, BASELINE)
    assert "changed 2 of 12 captions; it must change none" in alarm


def test_everything_changed_and_length_drift_are_alarms() -> None:
    alarms = caption_alarms({A3: ["a cook"] * 12}, BASELINE)
    assert any("changed all 12 captions" in alarm for alarm in alarms)
    assert any("changed caption length by -71%" in alarm for alarm in alarms)
    assert np.isnan(length_drift(["a"], [""]))


def test_probabilities_that_did_not_move_or_moved_alike_are_alarms() -> None:
    base, moved = np.array([0.2, 0.3]), np.array([0.4, 0.5])
    alarms = outcome_alarms({A0: base, A3: base.copy(), A6: moved})
    assert len(alarms) == 1 and "does the edit reach the model" in alarms[0]
    assert "identical probabilities" in outcome_alarms({A0: base, A3: moved, A6: moved.copy()})[0]


def test_a_set_shorter_than_asked_is_an_alarm() -> None:
    assert truncation_alarms(3, {"visible/en": [1, 2, 3], "stereotype/en": [4]}) == ["set stereotype/en holds 1 latents, 3 were asked for"]
