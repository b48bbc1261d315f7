"""Leakage: content that goes with gender is found after masking, content that does not stays at chance, and a bad masker gives itself away."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.bias.leakage import characters, leakage_rows, masker_rows, words
from tests.bias.planted import by_metric

OBJECTS = ["guitar", "kettle", "ladder", "drum", "lamp", "chair", "bicycle", "piano"]


def masked_captions(
    skew: float, rng: np.random.Generator, *, n_clusters: int = 150, per_cluster: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """(image_N, cluster_N, is_female_N, captions): with probability `skew` a woman gets one of the first four objects and a man one of the last four."""
    cluster_N = np.repeat(np.arange(n_clusters), per_cluster)
    female_N = cluster_N % 2 == 0
    side_N = np.where(rng.random(len(cluster_N)) < skew, ~female_N, rng.random(len(cluster_N)) < 0.5).astype(int)
    texts = [f"a person beside a {OBJECTS[4 * side + rng.integers(4)]}" for side in side_N]
    return np.arange(len(cluster_N)), cluster_N, female_N, texts


def test_masked_captions_without_skew_leak_nothing() -> None:
    chance, small_p = [], []
    for seed in range(20):
        row = by_metric(leakage_rows("en", *masked_captions(0.0, np.random.default_rng(seed)), seed=seed, n_permutations=39), "leakage", "en", None, None)
        chance.append(row.low <= 0.5 <= row.high)
        small_p.append(float(row.note.split("=")[1]) <= 0.05)
    assert np.mean(chance) >= 0.85
    assert np.mean(small_p) <= 0.2


def test_objects_that_go_with_gender_leak_as_much_as_planted() -> None:
    rows = leakage_rows("en", *masked_captions(0.6, np.random.default_rng(0)), seed=0)
    for attacker in ("words", "characters"):
        row = by_metric(rows, f"leakage_{attacker}", "en", None, None)
        assert row.value == pytest.approx(0.8, abs=0.05) and row.low > 0.7 and "p = 0.01" in row.note
    assert by_metric(rows, "leakage_length", "en", None, None).value == pytest.approx(0.5, abs=0.1)


def test_the_gap_to_the_reference_is_what_the_model_adds() -> None:
    rng = np.random.default_rng(1)
    image_N, cluster_N, female_N, reference = masked_captions(0.2, rng)
    _, _, _, said = masked_captions(0.7, rng)
    rows = leakage_rows("en", image_N, cluster_N, female_N, said, reference, seed=0, n_permutations=0)
    gap = by_metric(rows, "leakage_gap_words", "en", None, None)
    assert gap.low <= 0.25 <= gap.high and gap.low > 0
    same = leakage_rows("en", image_N, cluster_N, female_N, said, said, seed=0, n_permutations=0)
    assert by_metric(same, "leakage_gap_words", "en", None, None).value == 0


def test_a_masker_that_leaves_endings_is_found_out() -> None:
    rng = np.random.default_rng(2)
    texts = [f"a person beside a {OBJECTS[number]}" for number in rng.integers(0, 8, 100)]
    clean = masker_rows("en", texts, texts, seed=0)
    assert by_metric(clean, "masker_alike", "en", None, None).value == 1
    assert by_metric(clean, "masker_leakage_words", "en", None, None).value == pytest.approx(0.5, abs=0.02)
    sloppy = masker_rows("en", texts, [text.replace("person", "personess") for text in texts], seed=0)
    assert by_metric(sloppy, "masker_alike", "en", None, None).value == 0
    assert by_metric(sloppy, "masker_leakage_words", "en", None, None).value == 1


def test_captions_that_are_all_alike_leak_nothing_and_say_so() -> None:
    rows = leakage_rows("en", np.arange(60), np.arange(60), np.arange(60) % 2, ["a person"] * 60, seed=0)
    row = by_metric(rows, "leakage", "en", None, None)
    assert row.value == 0.5 and "no term varies" in row.note


def test_too_few_drawings_are_nan_with_the_reason() -> None:
    image_N, cluster_N, female_N, texts = masked_captions(0.5, np.random.default_rng(3), n_clusters=6)
    row = by_metric(leakage_rows("en", image_N, cluster_N, female_N, texts, seed=0), "leakage", "en", None, None)
    assert np.isnan(row.value) and "3 clusters for 5 folds" in row.note


def test_terms_do_not_depend_on_the_order_in_which_sets_are_walked() -> None:
    texts = ["b a", "a b", "c a"] * 3
    np.testing.assert_array_equal(words(texts)[:, 0], 1)
    assert words(texts).shape == (9, 3)
    assert characters(["ab", "ab"]).shape == (2, 2)
