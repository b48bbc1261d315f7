"""Laws of matching latents across languages: a hidden permutation is recovered, unrelated data match nothing, a bare index compares nothing."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.feature_alignment import CrossLingualFeatureAligner, DictionaryCodes
from saebias.mechanistic.worlds import World, WorldSpec, plant_world

ALIGNER = CrossLingualFeatureAligner(n_permutations=9)


def named(sae_id: str, n: int) -> tuple[FeatureRef, ...]:
    return tuple(FeatureRef(sae_id, index) for index in range(n))


@pytest.fixture(scope="module")
def world() -> World:
    return plant_world(WorldSpec("shared"), 5)


def test_within_one_dictionary_a_latent_of_both_languages_matches_itself(world: World) -> None:
    features = named("sae", 200)
    matches = ALIGNER.read(DictionaryCodes(features, world.codes_en_NF), DictionaryCodes(features, world.codes_ar_NF), world.cluster_N, seed=1)
    of_shared = [match for match in matches if match.en.index in world.truth["shared"]]
    assert all(match.is_match and match.is_same_latent for match in of_shared)
    dead = set(world.truth["dead"]) | set(world.truth["ar_language"])
    assert not dead & {match.en.index for match in matches}


def test_a_hidden_permutation_between_two_dictionaries_is_recovered(world: World) -> None:
    order = np.random.default_rng(2).permutation(200)
    en = DictionaryCodes(named("first", 200), world.codes_en_NF, world.W_dec_FD)
    ar = DictionaryCodes(named("second", 200), world.codes_ar_NF[:, order], world.W_dec_FD[order])
    matches = [match for match in ALIGNER.read(en, ar, world.cluster_N, seed=1) if match.is_match]
    right = [order[match.ar.index] == match.en.index for match in matches]
    assert len(matches) > 120 and np.mean(right) > 0.97
    assert np.mean([match.decoder_cosine for match in matches if match.decoder_cosine is not None]) > 0.97
    assert not any(match.is_same_latent for match in matches)


def test_unrelated_languages_match_nothing_above_the_null() -> None:
    en, ar = plant_world(WorldSpec("null"), 6), plant_world(WorldSpec("null"), 7)
    matches = ALIGNER.read(DictionaryCodes(named("a", 200), en.codes_en_NF), DictionaryCodes(named("b", 200), ar.codes_ar_NF), en.cluster_N, seed=1)
    assert sum(match.is_match for match in matches) <= 1


def test_a_reliable_latent_is_scored_against_its_reliability() -> None:
    rng, cluster_N = np.random.default_rng(1), np.repeat(np.arange(120), 4)
    content_N = np.abs(rng.normal(size=120))[cluster_N]
    en, ar = (np.stack([content_N + 0.3 * np.abs(rng.normal(size=480)), np.abs(rng.normal(size=480))], axis=1) for _ in range(2))
    best = ALIGNER.read(DictionaryCodes(named("s", 2), en), DictionaryCodes(named("s", 2), ar), cluster_N, seed=1)[0]
    assert best.is_same_latent and best.correlation < best.score


def test_bad_input_is_named(world: World) -> None:
    with pytest.raises(InputError, match="a bare index means nothing"):
        DictionaryCodes(named("sae", 5), world.codes_en_NF)
    with pytest.raises(InputError, match="one dictionary at a time"):
        DictionaryCodes((FeatureRef("a", 0), FeatureRef("b", 1)), world.codes_en_NF[:, :2])
    dead = DictionaryCodes(named("sae", 200), np.zeros_like(world.codes_en_NF))
    with pytest.raises(InputError, match="nothing to match"):
        ALIGNER.read(dead, dead, world.cluster_N, seed=1)
    with pytest.raises(InputError, match="2 clusters of paired images"):
        few = DictionaryCodes(named("sae", 200), world.codes_en_NF)
        ALIGNER.read(few, few, world.cluster_N % 2, seed=1)
    with pytest.raises(InputError, match="unknown matching"):
        CrossLingualFeatureAligner(method="greedy")


def test_optimal_transport_finds_the_same_partners_as_the_hungarian_method(world: World) -> None:
    pytest.importorskip("ot", reason="the extra `ot` is not installed")
    features = named("sae", 200)
    en, ar = DictionaryCodes(features, world.codes_en_NF), DictionaryCodes(features, world.codes_ar_NF)
    both = [CrossLingualFeatureAligner(n_permutations=3, method=method).read(en, ar, world.cluster_N, seed=1) for method in ("hungarian", "transport")]
    hungarian, transport = ({match.en: match.ar for match in matches if match.is_match} for matches in both)
    assert len(hungarian) > 120 and np.mean([transport.get(en) == ar for en, ar in hungarian.items()]) > 0.95


def test_transport_splits_no_latent_between_two_partners() -> None:
    pytest.importorskip("ot", reason="the extra `ot` is not installed")
    rng = np.random.default_rng(1)
    matched = CrossLingualFeatureAligner(method="transport")._match(rng.random((7, 5)))
    assert len(set(matched[0].tolist())) == len(matched[0]) == len(set(matched[1].tolist())) <= 5
