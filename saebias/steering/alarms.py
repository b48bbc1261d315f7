"""Things that look like results and are mistakes: arms that are the same, arms that do nothing or everything, captions that merely got shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from saebias.errors import InputError
from saebias.steering.arms import ArmLabel

MAX_LENGTH_DRIFT = 0.05
MIN_CAPTIONS_FOR_ALL_CHANGED = 10


def caption_alarms(captions: Mapping[ArmLabel, Sequence[str]], baseline: Sequence[str]) -> list[str]:
    """One sentence per suspicious thing about the arms' captions (same images, same order as `baseline`).

    Looked for: two arms with identical captions, an arm equal to the baseline at a strength above 0, every caption changed, mean length off by more
    than 5 %. Arms A0 and A2 must equal the baseline, so for them the alarm is the reverse.
    """
    alarms = []
    for label, texts in captions.items():
        if len(texts) != len(baseline):
            raise InputError(f"{describe(label)} has {len(texts)} captions, the baseline {len(baseline)}; caption the same images")
        alarms += _against_baseline(label, texts, baseline)
    moved = {label: tuple(texts) for label, texts in captions.items() if tuple(texts) != tuple(baseline)}
    for (first, a), (second, b) in combinations(moved.items(), 2):
        if a == b:
            alarms.append(f"{describe(first)} and {describe(second)} have identical captions; are they one intervention under two names?")
    return alarms


def _against_baseline(label: ArmLabel, texts: Sequence[str], baseline: Sequence[str]) -> list[str]:
    changed = sum(after != before for after, before in zip(texts, baseline, strict=True))
    if label.arm in ("A0", "A2"):
        return [f"{describe(label)} changed {changed} of {len(texts)} captions; it must change none"] if changed else []
    alarms = []
    if changed == 0 and label.strength > 0:
        alarms.append(f"{describe(label)} left every greedy caption as it was; only the probabilities can show an effect")
    if changed == len(texts) >= MIN_CAPTIONS_FOR_ALL_CHANGED:
        alarms.append(f"{describe(label)} changed all {len(texts)} captions; an effect on gender cannot be told from damage")
    drift = length_drift(texts, baseline)
    if abs(drift) > MAX_LENGTH_DRIFT:
        alarms.append(f"{describe(label)} changed caption length by {drift:+.0%}; counts of words per caption are not comparable")
    return alarms


def length_drift(texts: Sequence[str], baseline: Sequence[str]) -> float:
    """Relative change of the number of words per caption over all captions; NaN when the baseline has no word."""
    before, after = (sum(len(text.split()) for text in group) for group in (baseline, texts))
    return after / before - 1 if before else float("nan")


def outcome_alarms(share_female: Mapping[ArmLabel, np.ndarray]) -> list[str]:
    """The same from exact probabilities (one array per arm, same images): arms that equal each other, or the baseline, to the last bit."""
    alarms = []
    baseline = [values for label, values in share_female.items() if label.arm == "A0"]
    for label, values in share_female.items():
        if label.strength > 0 and label.arm not in ("A0", "A2") and baseline and np.array_equal(values, baseline[0]):
            alarms.append(f"{describe(label)} left every probability as it was; does the edit reach the model?")
    moved = [(label, values) for label, values in share_female.items() if not baseline or not np.array_equal(values, baseline[0])]
    for (first, a), (second, b) in combinations(moved, 2):
        if np.array_equal(a, b):
            alarms.append(f"{describe(first)} and {describe(second)} have identical probabilities; are they one intervention under two names?")
    return alarms


def truncation_alarms(asked: int, sets: Mapping[str, Sequence[int]]) -> list[str]:
    """One sentence per set of latents that is smaller than the k asked for."""
    return [f"set {name} holds {len(latents)} latents, {asked} were asked for" for name, latents in sets.items() if len(latents) < asked]


def describe(label: ArmLabel) -> str:
    """The arm in words: `A3 ablate latents, error kept (visible/ar, strength 0.5)`."""
    return f"{label.arm} {label.name} ({label.target}, strength {label.strength:g})"
