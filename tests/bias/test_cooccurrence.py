"""Directional co-occurrence: each direction by itself, signed by the reference."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.bias.cooccurrence import directional_rows
from saebias.errors import InputError


def kitchen_scenes(rng: np.random.Generator, n: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(image_N, cluster_N, female_N, content_NA): women are commoner with attribute 0, rarer with 1, and 2 is unrelated up to chance."""
    female_N = rng.random(n) < 0.5
    content_NA = rng.random((n, 3)) < np.stack([np.where(female_N, 0.7, 0.3), np.where(female_N, 0.2, 0.5), np.full(n, 0.5)], axis=1)
    return np.arange(n), np.arange(n) // 3, female_N, content_NA


def figures(said_female_N: np.ndarray, said_content_NA: np.ndarray, scenes: tuple) -> dict:
    rows = directional_rows("en", *scenes, said_female_N, said_content_NA, seed=0, n_draws=300)
    return {row.metric.removeprefix("cooccurrence_"): row for row in rows}


def test_captions_that_repeat_the_reference_amplify_nothing() -> None:
    scenes = kitchen_scenes(np.random.default_rng(0))
    found = figures(scenes[2], scenes[3], scenes)
    assert all(row.value == row.low == row.high == 0 for row in found.values())


def test_guessing_gender_from_content_shows_in_one_direction_only() -> None:
    scenes = kitchen_scenes(np.random.default_rng(1))
    said_female_N = scenes[3][:, 0] & ~scenes[3][:, 1]
    found = figures(said_female_N, scenes[3], scenes)
    assert found["content_to_gender"].low > 0.05
    assert found["gender_to_content"].value == 0


def test_adding_kitchens_to_women_shows_in_the_other_direction_only() -> None:
    scenes = kitchen_scenes(np.random.default_rng(2))
    said_content_NA = scenes[3].copy()
    said_content_NA[:, 0] |= scenes[2]
    found = figures(scenes[2], said_content_NA, scenes)
    assert found["gender_to_content"].low > 0.05
    assert found["content_to_gender"].value == 0


def test_dampening_counts_as_negative_and_noise_as_nothing_signed() -> None:
    rng = np.random.default_rng(3)
    scenes = kitchen_scenes(rng)
    random_gender_N = rng.random(len(scenes[2])) < 0.5
    assert figures(random_gender_N, scenes[3], scenes)["content_to_gender"].high < 0


def test_a_reference_without_men_is_refused() -> None:
    scenes = kitchen_scenes(np.random.default_rng(4))
    with pytest.raises(InputError, match="one gender only"):
        directional_rows("en", scenes[0], scenes[1], np.ones(600), scenes[3], scenes[2], scenes[3], seed=0)
