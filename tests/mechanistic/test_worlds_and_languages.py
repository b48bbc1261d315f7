"""Laws of the tools that sort latents by language: planted classes are recovered, null worlds stay silent, names of latents do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.codes import SparseCodes
from saebias.mechanistic.language_profile import GROUPS, LanguageFeatureProfile, LanguageProfile, top_contexts
from saebias.mechanistic.language_specific import LanguageSpecificFeatureIdentifier, SpecificityRow
from saebias.mechanistic.stereotype_followers import follow_stereotype
from saebias.mechanistic.worlds import KINDS, World, WorldSpec, plant_world

PROFILER = LanguageFeatureProfile(n_permutations=1999)
IDENTIFIER = LanguageSpecificFeatureIdentifier(n_permutations=1999)


def profile(world: World, language: str = "en") -> LanguageProfile:
    codes = {"en": world.codes_en_NF, "ar": world.codes_ar_NF}[language]
    return PROFILER.read("sae", language, codes, world.gender_N, world.cluster_N, seed=3)


def verdicts(world: World) -> list[SpecificityRow]:
    return IDENTIFIER.read("sae", world.codes_en_NF, world.codes_ar_NF, world.gender_N, world.cluster_N, seed=3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worlds_truth_names_every_latent_once_and_the_seed_decides_it(kind: str) -> None:
    world, again, other = (plant_world(WorldSpec(kind), seed) for seed in (1, 1, 2))
    assert sorted(np.concatenate(list(world.truth.values())).tolist()) == list(range(world.spec.n_latents))
    np.testing.assert_array_equal(world.x_ar_ND, again.x_ar_ND)
    assert not np.array_equal(world.codes_en_NF, other.codes_en_NF)
    assert (world.codes_en_NF[:, world.truth["ar_language"]] == 0).all()


def test_a_profiles_groups_are_disjoint_cover_all_and_hold_the_planted_latents() -> None:
    world = plant_world(WorldSpec("hierarchical"), 1)
    found = profile(world)
    groups = {group: found.features(group) for group in GROUPS}
    everything = [feature for members in groups.values() for feature in members]
    assert len(everything) == len(set(everything)) == world.spec.n_latents
    gendered = {feature.index for feature in groups["female"] + groups["male"]}
    assert set(world.truth["shared"]) | set(world.truth["en"]) <= gendered
    assert len(gendered - set(world.truth["shared"]) - set(world.truth["en"]) - set(world.truth["context"])) <= 3
    dead = {feature.index for feature in groups["dead"]}
    assert dead == set(world.truth["dead"]) | set(world.truth["ar_language"])
    row = found.row()
    assert row.n_dead == len(dead) and row.n_female + row.n_male + row.n_neutral + row.n_dead == row.n_latents


def test_a_null_world_has_no_gendered_latents_in_either_language() -> None:
    counts = [len(profile(plant_world(WorldSpec("null"), seed), language).features("female")) for seed in range(4) for language in ("en", "ar")]
    assert sum(counts) <= 1


def test_planted_classes_are_recovered() -> None:
    world = plant_world(WorldSpec("hierarchical"), 2)
    found = {row.latent: row.verdict for row in verdicts(world)}
    assert all(found[latent] == "shared" for latent in world.truth["shared"])
    for language in ("en", "ar"):
        of_language = [found[latent] for latent in world.truth[language]]
        assert of_language.count(f"{language}_only") >= 6 and set(of_language) <= {f"{language}_only", "unclear", "shared"}


def test_the_verdict_does_not_depend_on_the_numbers_of_the_latents() -> None:
    world, order = plant_world(WorldSpec("separate"), 3), np.random.default_rng(1).permutation(200)
    there = [row.verdict for row in verdicts(world)]
    shuffled = IDENTIFIER.read("sae", world.codes_en_NF[:, order], world.codes_ar_NF[:, order], world.gender_N, world.cluster_N, seed=3)
    assert [row.verdict for row in shuffled] == [there[latent] for latent in order]


def test_the_false_discovery_rate_is_at_most_the_one_asked_for() -> None:
    shares = []
    for seed in range(12):
        world = plant_world(WorldSpec("hierarchical", n_context=0), seed)
        claimed = {"shared": set(), "en_only": set(), "ar_only": set()}
        for row in verdicts(world):
            if row.verdict in claimed:
                claimed[row.verdict].add(row.latent)
        true = {"shared": set(world.truth["shared"]), "en_only": set(world.truth["en"]), "ar_only": set(world.truth["ar"])}
        n_claimed = sum(len(members) for members in claimed.values())
        shares.append(sum(len(members - true[name]) for name, members in claimed.items()) / max(1, n_claimed))
    assert np.mean(shares) <= 0.08


def test_top_contexts_are_those_where_a_latent_is_active() -> None:
    world = plant_world(WorldSpec("shared"), 1)
    latent = int(world.truth["context"][2])
    assert top_contexts(world.codes_en_NF, world.context_N, latent)[0][0] == "2"


def test_bad_input_is_named() -> None:
    world = plant_world(WorldSpec("shared"), 1)
    with pytest.raises(InputError, match="all 200 latents of sae are dead"):
        PROFILER.read("sae", "en", np.zeros_like(world.codes_en_NF), world.gender_N, world.cluster_N, seed=1)
    with pytest.raises(InputError, match="visible gender are all 1"):
        only = world.gender_N == "F"
        PROFILER.read("sae", "en", world.codes_en_NF[only], world.gender_N[only], world.cluster_N[only], seed=1)
    with pytest.raises(InputError, match="both must come from dictionary sae"):
        IDENTIFIER.read("sae", world.codes_en_NF[:, :50], world.codes_ar_NF, world.gender_N, world.cluster_N, seed=1)
    with pytest.raises(InputError, match="unknown group"):
        profile(world).features("women")
    with pytest.raises(InputError, match="unknown world"):
        WorldSpec("both")
    assert profile(world).features("dead")[0] == FeatureRef("sae", int(np.flatnonzero(profile(world).group_F == "dead")[0]))


def test_a_corpus_where_nobody_is_shown_and_a_test_without_permutations_are_refused() -> None:
    codes, clusters = np.random.default_rng(1).random((40, 5)), np.arange(40)
    with pytest.raises(InputError, match="no row has one"):
        LanguageFeatureProfile(n_permutations=99).read("a", "en", codes, np.array(["A"] * 40), clusters, seed=1)
    with pytest.raises(InputError, match="0 permutations"):
        LanguageFeatureProfile(n_permutations=0).read("a", "en", codes, np.array(["F", "M"] * 20), clusters, seed=1)


def test_a_latent_of_women_in_one_language_and_of_men_in_the_other_is_not_shared() -> None:
    rng, clusters = np.random.default_rng(1), np.arange(200)
    women = clusters % 2 == 0
    en, ar = (np.stack([rng.random(200) + 3 * side, rng.random(200) + 3 * women, rng.random(200)], axis=1) for side in (women, ~women))
    gender = np.where(women, "F", "M")
    rows = LanguageSpecificFeatureIdentifier(n_permutations=999).read("a", en, ar, gender, clusters, seed=1)
    assert [row.verdict for row in rows[:2]] == ["unclear", "shared"]


def test_a_latent_of_one_language_is_called_so_only_where_the_other_is_shown_to_be_negligible() -> None:
    verdicts = []
    for n in (40, 800):
        rng, clusters = np.random.default_rng(2), np.arange(n)
        women = clusters % 2 == 0
        en, ar = rng.random((n, 2)) + np.outer(3 * women, [1, 0]), rng.random((n, 2))
        verdicts.append(IDENTIFIER.read("a", en, ar, np.where(women, "F", "M"), clusters, seed=1)[0].verdict)
    # No association in Arabic either way; forty pictures cannot show that.
    assert verdicts == ["unclear", "en_only"]


def test_labels_permuted_call_next_to_no_latent_gendered() -> None:
    assert sum(profile(plant_world(WorldSpec("hierarchical"), seed)).n_gendered_permuted for seed in range(4)) <= 2


def stereotyped_world(
    seed: int, followers: int = 6, spread: float = 0.25, n_contexts: int = 24
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(codes, gender, contexts, clusters, P(woman)): 300 latents that know contexts; the first `followers` go with P(woman) where no gender is shown."""
    rng = np.random.default_rng([seed, 77])
    context_N = np.repeat(np.arange(n_contexts), 16)
    gender_N = np.tile(np.repeat(["A", "F", "M"], [8, 4, 4]), n_contexts)
    cluster_N = np.arange(len(context_N)) // 2
    p_O = np.clip(0.5 + spread * rng.standard_normal(n_contexts), 0.02, 0.98)
    p_N = np.where(gender_N == "A", p_O[context_N] + 0.005 * rng.standard_normal(len(context_N)), np.nan).clip(0, 1)
    codes_NF = np.maximum(0, rng.standard_normal((n_contexts, 300))[context_N] + 0.3 * rng.standard_normal((len(context_N), 300)))
    if followers:
        codes_NF[:, :followers] = 5 * (p_O[context_N, None] + 0.05 * rng.standard_normal((len(context_N), followers))).clip(0)
    codes_NF[:, 10:20] += 4 * (gender_N == "F")[:, None]
    codes_NF[:, 299] = 0
    return codes_NF, gender_N, context_N, cluster_N, p_N


def stereotype_profile(*args: np.ndarray, seed: int = 1) -> LanguageProfile:
    codes_NF, gender_N, context_N, cluster_N, p_N = args
    return PROFILER.read("sae", "en", codes_NF, gender_N, cluster_N, seed=seed, p_female_N=p_N, contexts_N=context_N)


def test_latents_that_follow_the_stereotype_are_not_those_that_follow_the_gender_shown() -> None:
    found = stereotype_profile(*stereotyped_world(1))
    assert {feature.index for feature in found.features("female", "stereotype")} >= set(range(6))
    assert not found.features("male", "stereotype")
    assert {feature.index for feature in found.features("female")} >= set(range(10, 20))
    assert not {feature.index for feature in found.features("female", "stereotype")} & set(range(10, 20))
    everything = [feature for group in GROUPS for feature in found.features(group, "stereotype")]
    assert len(everything) == len(set(everything)) == 300
    row = found.row()
    assert row.n_stereotype_female is not None and row.n_stereotype_female >= 6 and row.n_contexts == 24 and row.stereotype_note == ""


def test_latents_that_know_contexts_but_no_stereotype_are_called_followers_in_the_share_of_worlds_asked_for() -> None:
    # With nothing planted every discovery is false: the share of worlds with one is the false-discovery rate.
    rows = [stereotype_profile(*stereotyped_world(seed, followers=0), seed=seed).row() for seed in range(24)]
    with_any = sum((row.n_stereotype_female or 0) + (row.n_stereotype_male or 0) > 0 for row in rows)
    assert with_any <= 4 and sum(row.n_stereotype_permuted or 0 for row in rows) <= 4


def test_where_the_model_treats_all_contexts_alike_no_latent_follows_a_stereotype() -> None:
    # Latents that write the difference in the third decimal are there; they follow nothing that matters.
    found = stereotype_profile(*stereotyped_world(1, spread=0.004))
    row = found.row()
    assert (row.n_stereotype_female, row.n_stereotype_male) == (0, 0) and "no stereotype to follow" in row.stereotype_note
    assert not found.features("female", "stereotype") and row.n_female >= 10


def test_latents_that_know_what_single_images_add_to_p_are_not_called_followers_of_the_context() -> None:
    # Few images per context, each moving P(woman) on its own: latents that write those moves know nothing of the context.
    rng = np.random.default_rng(1)
    context_N = np.repeat(np.arange(30), 4)
    moves_N = 0.2 * rng.standard_normal(120)
    p_N = np.clip(0.5 + 0.15 * rng.standard_normal(30)[context_N] + moves_N, 0, 1)
    codes_NF = np.maximum(0, rng.standard_normal((120, 100)))
    codes_NF[:, :10] = np.maximum(0, 10 * moves_N[:, None] + 0.5 * rng.standard_normal((120, 10)))
    found = follow_stereotype(SparseCodes.of(codes_NF), p_N, context_N, np.arange(120), seed=1, n_permutations=999)
    assert not found.tested and "noise of their images" in found.reason and set(found.group_F) == {"neutral"}
    many = follow_stereotype(SparseCodes.of(np.tile(codes_NF, (40, 1))), np.tile(p_N, 40), np.tile(context_N, 40), np.arange(4800), seed=1, n_permutations=999)
    assert many.tested and many.reason == ""


def test_a_stereotype_that_cannot_be_asked_for_has_a_reason_and_no_count() -> None:
    codes_NF, gender_N, context_N, cluster_N, p_N = stereotyped_world(1)
    few = np.isin(context_N, [0, 1, 2])
    found = stereotype_profile(codes_NF[few], gender_N[few], context_N[few], cluster_N[few], p_N[few])
    assert found.row().n_stereotype_female is None and "3 contexts" in found.row().stereotype_note
    with pytest.raises(InputError, match="is not known: 3 contexts"):
        found.features("female", "stereotype")
    nobody = PROFILER.read("sae", "en", codes_NF, gender_N, cluster_N, seed=1)
    assert nobody.followers is None and "no picture" in nobody.row().stereotype_note
    with pytest.raises(InputError, match="handed in together"):
        PROFILER.read("sae", "en", codes_NF, gender_N, cluster_N, seed=1, p_female_N=p_N)
    with pytest.raises(InputError, match="probabilities from 0 to 1"):
        stereotype_profile(codes_NF, gender_N, context_N, cluster_N, p_N * 3)


def test_correlation_and_p_of_a_follower_are_those_of_a_few_lines_of_scipy() -> None:
    codes_NF, gender_N, context_N, cluster_N, p_N = stereotyped_world(3, n_contexts=8)
    found = stereotype_profile(codes_NF, gender_N, context_N, cluster_N, p_N).followers
    assert found is not None
    told = gender_N == "A"
    p_O = np.array([p_N[told & (context_N == o)].mean() for o in range(8)])
    for latent in (0, 7, 150):
        code_O = np.array([codes_NF[told & (context_N == o), latent].mean() for o in range(8)])
        assert found.correlation_F[latent] == pytest.approx(stats.spearmanr(code_O, p_O).statistic, abs=1e-12)
        drawn = [abs(stats.spearmanr(code_O, p_O[np.random.default_rng(draw).permutation(8)]).statistic) for draw in range(800)]
        p = np.mean(np.array(drawn) >= abs(found.correlation_F[latent]) - 1e-9)
        assert found.p_F[latent] == pytest.approx(p, abs=0.06)
