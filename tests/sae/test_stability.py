"""Laws of matching: a shuffled copy is found, chance stays chance, an index alone is refused."""

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.identifiers import FeatureRef
from saebias.sae.stability import Dictionary, live_latents, match_dictionaries, overlap

RNG_SEED = 5


@pytest.fixture
def decoder_FD() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((120, 24))


@pytest.fixture
def codes_NF() -> np.ndarray:
    rng = np.random.default_rng(2)
    return (rng.random((800, 120)) < 0.1) * rng.random((800, 120))


def test_a_shuffled_and_noisy_copy_is_matched_latent_by_latent(decoder_FD, codes_NF):
    rng = np.random.default_rng(3)
    order_F = rng.permutation(120)
    copy_FD = 3 * (decoder_FD + 0.1 * rng.standard_normal(decoder_FD.shape))[order_F]
    matching = match_dictionaries(Dictionary("a", decoder_FD, codes_NF), Dictionary("b", copy_FD, codes_NF[:, order_F]), seed=RNG_SEED)
    assert np.array_equal(order_F[matching.second_M], matching.first_M)
    assert matching.cosine_M.min() > 0.9
    assert np.allclose(matching.correlation_M, 1)
    assert matching.stable_M().all()


def test_by_index_the_same_dictionaries_agree_at_chance(decoder_FD):
    order_F = np.random.default_rng(3).permutation(120)
    unit_FD = decoder_FD / np.linalg.norm(decoder_FD, axis=1, keepdims=True)
    assert abs(np.mean(np.sum(unit_FD * unit_FD[order_F], axis=1))) < 0.1


@pytest.mark.parametrize("spread", [1.0, 0.05], ids=["directions everywhere", "directions crowded in few dimensions"])
def test_unrelated_dictionaries_look_like_their_null(spread):
    scale_D = np.where(np.arange(24) < 4, 1.0, spread)
    first_FD, second_FD = (np.random.default_rng(seed).standard_normal((120, 24)) * scale_D for seed in (7, 8))
    matching = match_dictionaries(Dictionary("a", first_FD), Dictionary("b", second_FD), seed=RNG_SEED, n_null=5)
    assert abs(matching.cosine_M.mean() - matching.null_cosine.mean()) < 0.03
    assert np.mean(matching.p_value_M() <= 0.05) < 0.15


def test_a_latent_that_is_never_active_has_no_correlation_and_is_not_stable(decoder_FD, codes_NF):
    codes_NF[:, 4] = 0
    other_FD = decoder_FD.copy()
    matching = match_dictionaries(Dictionary("a", decoder_FD, codes_NF), Dictionary("b", other_FD, codes_NF), seed=RNG_SEED)
    assert np.isnan(matching.correlation_M[4])
    assert not matching.stable_M()[4]
    assert matching.stable_M().sum() == 119


def test_partners_are_mutual_and_a_third_dictionary_is_refused(decoder_FD):
    matching = match_dictionaries(Dictionary("a", decoder_FD), Dictionary("b", decoder_FD[::-1][:60]), seed=RNG_SEED)
    assert len(matching.first_M) == 60
    assert matching.partner(FeatureRef("a", 119)) == FeatureRef("b", 0)
    assert matching.partner(FeatureRef("b", 0)) == FeatureRef("a", 119)
    assert matching.partner(FeatureRef("a", 3)) is None
    with pytest.raises(InputError, match="belongs to neither a nor b"):
        matching.partner(FeatureRef("c", 0))


def test_sets_of_latents_are_compared_through_the_matching_never_by_index(decoder_FD):
    matching = match_dictionaries(Dictionary("a", decoder_FD), Dictionary("b", decoder_FD[::-1]), seed=RNG_SEED)
    first = [FeatureRef("a", index) for index in range(10)]
    shared = overlap(first, [FeatureRef("b", 119 - index) for index in range(10)], matching)
    assert (shared.n_shared, shared.expected_by_chance) == (10, pytest.approx(10 * 10 / 120))
    assert overlap(first, [FeatureRef("b", index) for index in range(10)], matching).n_shared == 0
    with pytest.raises(InputError, match="an index means nothing in another dictionary"):
        overlap(first, first, matching)


def test_what_cannot_be_matched_is_named(decoder_FD, codes_NF):
    for first, second, message in [
        (Dictionary("a", decoder_FD), Dictionary("a", decoder_FD), "with itself"),
        (Dictionary("a", decoder_FD), Dictionary("b", decoder_FD[:, :9]), "one hook point"),
        (Dictionary("a", decoder_FD, codes_NF), Dictionary("b", decoder_FD), "only one of a and b"),
        (Dictionary("a", decoder_FD, codes_NF), Dictionary("b", decoder_FD, codes_NF[:5]), "cannot be correlated"),
        (Dictionary("a", decoder_FD), Dictionary("b", 0 * decoder_FD), "row 0 is zero"),
    ]:
        with pytest.raises(InputError, match=message):
            match_dictionaries(first, second, seed=RNG_SEED)


def test_of_too_many_latents_those_active_most_often_are_matched_and_dead_ones_never():
    codes_NF = np.zeros((10, 6))
    codes_NF[:3, 1], codes_NF[:5, 4], codes_NF[:1, 5] = 1.0, 2.0, 3.0
    live = live_latents("a", np.eye(6), codes_NF)
    assert live.latents.tolist() == [1, 4, 5]
    assert np.array_equal(live.dictionary.W_dec_FD, np.eye(6)[[1, 4, 5]])
    assert live_latents("a", np.eye(6), codes_NF, at_most=2).latents.tolist() == [1, 4]
    with pytest.raises(InputError, match="dictionary a has 1 active latents on 1 rows"):
        live_latents("a", np.eye(6), codes_NF[4:5])
