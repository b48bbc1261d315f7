"""Laws of interactions: a planted pair is found, shuffled labels find next to none, dead latents give nothing, and additive ablations do not interact."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.interaction import InteractionPatternAnalyzer, causal_pair

FEATURES = [FeatureRef("sae", index) for index in range(12)]


def planted(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents 2 and 7 fire together on women's images only; latent 11 is dead; the others are independent."""
    rng, cluster_N = np.random.default_rng(seed), np.repeat(np.arange(240), 2)
    gender_N = np.where(cluster_N % 2 == 0, "F", "M")
    codes_NK = (rng.random((480, 12)) < 0.4) * rng.gamma(4, 0.25, size=(480, 12))
    women = gender_N == "F"
    codes_NK[women, 7] = codes_NK[women, 2] * rng.gamma(20, 0.05, size=women.sum())
    codes_NK[:, 11] = 0
    return codes_NK, gender_N, cluster_N


def test_a_pair_that_fires_together_for_women_only_is_found_and_no_other() -> None:
    codes, gender, clusters = planted(1)
    rows = InteractionPatternAnalyzer().read(FEATURES, codes, gender, clusters)
    best = rows[0]
    assert (best.a.index, best.b.index) == (2, 7) and best.q < 1e-2
    assert best.correlation_women > 0.8 and abs(best.correlation_men) < 0.2 and best.pmi > 0
    assert set(InteractionPatternAnalyzer().graph(rows)[FEATURES[2]]) == {FEATURES[7]}


def test_shuffled_genders_find_next_to_no_pair() -> None:
    found = []
    for seed in range(30):
        codes, gender, clusters = planted(seed)
        shuffled = np.random.default_rng(seed).permutation(gender[::2]).repeat(2)
        found.append(any(row.q <= 0.05 for row in InteractionPatternAnalyzer().read(FEATURES, codes, shuffled, clusters)))
    assert np.mean(found) <= 0.15


def test_shuffled_genders_find_next_to_no_pair_of_sparse_latents_that_overlap() -> None:
    found = []
    for seed in range(20):
        rng, clusters = np.random.default_rng(seed), np.arange(80)
        # Latents of few scenes, half of which share their scenes: mostly zeros, tied, and strongly correlated.
        scenes = rng.random((80, 6)) < 0.2
        codes = np.repeat(scenes, 2, axis=1) * rng.gamma(4, 0.25, size=(80, 12)) * (rng.random((80, 12)) < 0.9)
        shuffled = rng.permutation(np.resize(["F", "M"], 80))
        analyzer = InteractionPatternAnalyzer(n_permutations=1999)
        found.append(any(row.q <= 0.05 for row in analyzer.read(FEATURES, codes, shuffled, clusters, seed=seed)))
    assert np.mean(found) <= 0.15


def test_a_latent_that_is_commoner_for_one_gender_is_no_interaction() -> None:
    found = []
    for seed in range(20):
        rng, clusters = np.random.default_rng(seed), np.arange(160)
        gender = np.resize(["F", "M"], 160)
        rate = np.where(gender == "F", 0.8, 0.3)[:, None]
        codes = (rng.random((160, 12)) < rate) * rng.gamma(4, 0.25, size=(160, 12))
        analyzer = InteractionPatternAnalyzer(n_permutations=1999)
        found.append(any(row.q <= 0.05 for row in analyzer.read(FEATURES, codes, gender, clusters, seed=seed)))
    assert np.mean(found) <= 0.2


def test_dead_latents_take_part_in_no_pair() -> None:
    codes, gender, clusters = planted(1)
    rows = InteractionPatternAnalyzer().read(FEATURES, codes, gender, clusters)
    assert len(rows) == 11 * 10 // 2 and all(np.isfinite(row.z) for row in rows)
    assert InteractionPatternAnalyzer().read(FEATURES, np.zeros_like(codes), gender, clusters) == []


def test_additive_ablations_do_not_interact_and_a_planted_departure_is_measured() -> None:
    rng, clusters = np.random.default_rng(3), np.repeat(np.arange(60), 2)
    gap, effect_a, effect_b = rng.normal(size=120), rng.normal(0.3, 0.1, 120), rng.normal(-0.2, 0.1, 120)
    additive = causal_pair(FEATURES[0], FEATURES[1], gap, gap + effect_a, gap + effect_b, gap + effect_a + effect_b, clusters, seed=1)
    assert additive.interaction == pytest.approx(0, abs=1e-12)
    joint = causal_pair(FEATURES[0], FEATURES[1], gap, gap + effect_a, gap + effect_b, gap + effect_a + effect_b + rng.normal(0.5, 0.1, 120), clusters, seed=1)
    assert joint.low < 0.5 < joint.high and joint.low > 0.3


def test_bad_input_is_named() -> None:
    codes, gender, clusters = planted(1)
    with pytest.raises(InputError, match="without_a has 5"):
        causal_pair(FEATURES[0], FEATURES[1], np.zeros(6), np.zeros(5), np.zeros(6), np.zeros(6), np.arange(6), seed=1)
    with pytest.raises(InputError, match="interactions are within one dictionary"):
        InteractionPatternAnalyzer().read([FeatureRef("a", 0), FeatureRef("b", 1)], codes[:, :2], gender, clusters)
    with pytest.raises(InputError, match="no image of visual gender M"):
        InteractionPatternAnalyzer().read(FEATURES, codes[gender == "F"], gender[gender == "F"], clusters[gender == "F"])


def test_latents_that_meet_one_gender_only_have_their_firing_told_and_their_test_refused_with_the_reason() -> None:
    codes, gender, clusters = planted(2)
    codes[gender == "M", 4] = 0
    rows = [row for row in InteractionPatternAnalyzer().read(FEATURES, codes, gender, clusters) if 4 in (row.a.index, row.b.index)]
    assert rows and all(
        np.isnan(row.p) and np.isfinite(row.pmi) and row.note == "latent 4 fires on 0 picture groups of men: no correlation there" for row in rows
    )
    assert rows[0].n_both == int(((codes[:, rows[0].a.index] > 0) & (codes[:, rows[0].b.index] > 0)).sum())
