"""Laws of the contrast between languages: the right verdict on planted worlds, orthogonal directions at 90 degrees, transfer by equivalence."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.mechanistic.alignment import PairedActivations
from saebias.mechanistic.contrastive import ContrastiveLanguageAnalyzer, LanguageContrast, causal_transfer_row, latent_effect_rows
from saebias.mechanistic.worlds import KINDS, World, WorldSpec, plant_world

ANALYZER = ContrastiveLanguageAnalyzer(n_permutations=99)


def paired(world: World) -> PairedActivations:
    return PairedActivations(3, world.x_en_ND, world.x_ar_ND, world.gender_N, world.cluster_N)


def contrast(kind: str, seed: int) -> LanguageContrast:
    world = plant_world(WorldSpec(kind, n_context=0), seed)
    return ANALYZER.read(paired(world), codes=(world.codes_en_NF, world.codes_ar_NF), seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_on_a_planted_world_is_right(kind: str) -> None:
    assert contrast(kind, 1).verdict == kind


@pytest.mark.slow
def test_the_verdict_is_right_on_95_percent_of_40_planted_worlds() -> None:
    right = [contrast(kind, seed).verdict == kind for kind in KINDS for seed in range(10, 20)]
    assert np.mean(right) >= 0.95


def test_one_direction_is_no_angle_and_orthogonal_ones_are_ninety_degrees() -> None:
    assert contrast("shared", 2).angle_degrees < 25
    assert abs(contrast("separate", 2).angle_degrees - 90) < 15


def test_without_gender_in_both_languages_there_is_no_angle() -> None:
    nothing = contrast("null", 1)
    assert np.isnan(nothing.angle_degrees) and "English and Arabic" in nothing.note


def test_a_cosine_that_unrelated_contrasts_reach_shows_nothing_shared() -> None:
    rng = np.random.default_rng(3)
    gender_N, axes = np.array(["F", "M"] * 100), np.eye(30)
    sign_N, of_ar = np.where(gender_N == "F", 1, -1), 0.5 * axes[1] + np.sqrt(0.75) * axes[2]
    # One axis carries most of the variance in both languages, though of other pictures' content in each.
    en, ar = (4 * rng.normal(size=(200, 1)) * axes[0] + np.outer(sign_N, of) + 0.1 * rng.normal(size=(200, 30)) for of in (axes[1], of_ar))
    found = ANALYZER.read(PairedActivations(3, en, ar, gender_N, np.arange(200)), seed=1)
    assert found.verdict == "undecided" and "unrelated contrasts" in found.note


def test_effects_of_joint_latents_agree_in_a_shared_world_only() -> None:
    rows = {kind: {row.measure: row for row in contrast(kind, 3).rows} for kind in ("shared", "separate")}
    assert rows["shared"]["latent_top_overlap"].value > 0.45 > rows["separate"]["latent_top_overlap"].value
    assert rows["shared"]["latent_rank_correlation"].value > rows["separate"]["latent_rank_correlation"].value


def test_effects_of_permuted_labels_stay_at_the_floor_though_the_pictures_make_them_agree() -> None:
    above, agree = [], []
    for seed in range(30):
        world = plant_world(WorldSpec("shared", n_context=0), seed)
        # One gender for each cluster, drawn anew: nothing follows it.
        drawn_N = np.random.default_rng(seed).permutation(np.arange(160) % 2)[world.cluster_N]
        codes = world.codes_en_NF, world.codes_ar_NF
        rank, overlap = latent_effect_rows(3, *codes, np.where(drawn_N == 0, "F", "M"), world.cluster_N, n_permutations=39, seed=seed)
        assert rank.p is not None and overlap.p is not None
        above += [rank.p <= 0.05, overlap.p <= 0.05]
        agree.append(rank.value)
    assert np.mean(agree) > 0.3, "the same pictures in both languages"
    assert np.mean(above) <= 0.12


def test_the_interval_of_an_agreement_of_effects_is_over_clusters_of_pictures() -> None:
    world = plant_world(WorldSpec("shared", n_context=0), 1)
    codes = world.codes_en_NF, world.codes_ar_NF
    once = latent_effect_rows(3, *codes, world.gender_N, world.cluster_N, n_permutations=19, seed=1)[0]
    # Each latent written down twice is no more evidence.
    doubled = latent_effect_rows(3, *(np.repeat(side, 2, axis=1) for side in codes), world.gender_N, world.cluster_N, n_permutations=19, seed=1)[0]
    assert doubled.high - doubled.low == pytest.approx(once.high - once.low, rel=0.05)
    assert once.low < once.value < once.high


def test_one_language_without_any_effect_has_no_rank_correlation_and_says_why() -> None:
    world = plant_world(WorldSpec("shared", n_context=0), 1)
    rank, _ = latent_effect_rows(3, world.codes_en_NF, np.zeros_like(world.codes_ar_NF), world.gender_N, world.cluster_N, n_permutations=9)
    assert np.isnan(rank.value) and rank.p is None and rank.floor is None and "all equal" in rank.note


def test_causal_transfer_is_claimed_by_equivalence_not_by_a_large_p() -> None:
    rng, clusters = np.random.default_rng(1), np.arange(200)
    own = rng.normal(-1.0, 0.3, 200)
    same = causal_transfer_row(3, "causal", own, own + rng.normal(0, 0.1, 200), clusters, margin=0.1, seed=1)
    assert same.note == "equivalent within 0.1" and same.ceiling == 0 and same.floor == pytest.approx(1.0, abs=0.1)
    assert causal_transfer_row(3, "causal", own, np.zeros(200), clusters, margin=0.1, seed=1).note == "different"
    few = causal_transfer_row(3, "causal", own[:6], own[:6] + rng.normal(0, 0.5, 6), clusters[:6], margin=0.1, seed=1)
    assert few.note == "undecided"


def test_two_dictionaries_are_not_compared_by_index() -> None:
    world = plant_world(WorldSpec("shared"), 1)
    with pytest.raises(InputError, match="only within one joint dictionary"):
        latent_effect_rows(3, world.codes_en_NF, world.codes_ar_NF[:, :100], world.gender_N, world.cluster_N)
