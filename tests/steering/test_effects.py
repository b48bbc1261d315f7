"""Laws of the effects: planted spreads and defaults are recovered, sampling noise is not taken for stereotype, controls decide what counts."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.steering.arms import ArmLabel
from saebias.steering.effects import EffectRow, Place, against_random_sets, beyond_random, closed_set_draws, effect_rows, image_mean_draws
from saebias.steering.outcomes import ClosedSet, Images

PLACE = Place(layer=3, language="ar", split="report")


def ambiguous_images(n_contexts: int = 8, n_clusters: int = 10, per_cluster: int = 3) -> Images:
    """Ambiguous images only: every context has its own clusters of near-duplicates."""
    context_N = np.repeat(np.arange(n_contexts), n_clusters * per_cluster)
    cluster_N = np.repeat(np.arange(n_contexts * n_clusters), per_cluster)
    return Images(np.arange(len(context_N)), cluster_N, context_N, np.full(len(context_N), "A"))


def closed(share_female_N: np.ndarray, neutral: float = 0.2) -> ClosedSet:
    share = np.clip(share_female_N, 0.001, 0.999)
    return ClosedSet((1 - neutral) * share, (1 - neutral) * (1 - share), np.full_like(share, neutral))


def noisy(images: Images, p_O: np.ndarray, noise: float, seed: int) -> ClosedSet:
    cluster_noise = noise * np.random.default_rng(seed).normal(size=images.cluster_N.max() + 1)
    return closed(p_O[images.context_N] + cluster_noise[images.cluster_N])


def test_a_planted_spread_and_default_are_recovered() -> None:
    images, p_O = ambiguous_images(), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.3, 0.2])
    draws = closed_set_draws(images, [closed(p_O[images.context_N])], closed(p_O[images.context_N]), seed=1)
    assert draws["stereotype_spread"].value_A[0] == pytest.approx(p_O.std(ddof=1))
    assert draws["masculine_default"].value_A[0] == pytest.approx(0.5 - p_O.mean())
    assert draws["ambiguous_neutral"].value_A[0] == pytest.approx(0.2)


def test_sampling_noise_of_images_is_not_taken_for_stereotype() -> None:
    images, flat_O = ambiguous_images(), np.full(8, 0.4)
    values, covered = [], 0
    for seed in range(40):
        arm = noisy(images, flat_O, noise=0.15, seed=seed)
        draws = closed_set_draws(images, [arm], arm, seed=seed, n_draws=300)
        (row,) = [row for row in effect_rows([ArmLabel("A0", "nothing", "none", 0)], draws, PLACE) if row.metric == "stereotype_spread"]
        values.append(row.value)
        covered += row.low == 0
    naive = np.std([noisy(images, flat_O, 0.15, 3).share_female[images.context_N == o].mean() for o in range(8)], ddof=1)
    assert np.median(values) < naive / 2
    assert covered >= 36


def test_intervals_of_the_spread_cover_the_truth() -> None:
    images, p_O = ambiguous_images(n_clusters=12), np.array([0.15, 0.3, 0.35, 0.5, 0.55, 0.6, 0.75, 0.8])
    covered = 0
    for seed in range(60):
        arm = noisy(images, p_O, noise=0.1, seed=seed)
        row = effect_rows([ArmLabel("A0", "", "none", 0)], {"s": closed_set_draws(images, [arm], arm, seed=seed, n_draws=300)["stereotype_spread"]}, PLACE)[0]
        covered += row.low <= p_O.std(ddof=1) <= row.high
    assert covered >= 52


def test_harm_counts_wrong_and_neutral_captions_of_clear_images_above_the_baseline() -> None:
    images = Images(np.arange(4), np.arange(4), np.array([0, 0, 1, 1]), np.array(["F", "M", "F", "M"]))
    before = ClosedSet(np.array([0.9, 0.1, 0.9, 0.1]), np.array([0.1, 0.9, 0.1, 0.9]), np.zeros(4))
    after = ClosedSet(np.array([0.6, 0.1, 0.6, 0.1]), np.array([0.2, 0.9, 0.2, 0.9]), np.array([0.2, 0.0, 0.2, 0.0]))
    draws = closed_set_draws(images, [before, after], before, seed=1)
    assert draws["clear_accuracy"].value_A.tolist() == pytest.approx([0.9, 0.75])
    assert draws["clear_wrong"].value_A.tolist() == pytest.approx([0.1, 0.15])
    assert draws["clear_neutral"].value_A.tolist() == pytest.approx([0.0, 0.1])
    assert draws["clear_harm"].value_A.tolist() == pytest.approx([0.0, 0.15])
    assert "stereotype_spread" not in draws


def test_a_language_without_neutral_continuations_says_so_instead_of_reporting_zero() -> None:
    images = Images(np.arange(2), np.arange(2), np.array([0, 1]), np.array(["F", "M"]))
    arm = ClosedSet(np.array([0.9, 0.2]), np.array([0.1, 0.8]))
    draws = closed_set_draws(images, [arm], arm, seed=1)
    assert "clear_neutral" not in draws and draws["clear_harm"].note == "no neutral continuation given"


def test_the_image_cluster_not_the_image_is_resampled() -> None:
    values = np.random.default_rng(2).normal(size=40)
    once = Images(np.arange(40), np.arange(40), np.zeros(40), np.full(40, "F"))
    copied = Images(np.arange(200), np.repeat(np.arange(40), 5), np.zeros(200), np.full(200, "F"))
    narrow, wide = (image_mean_draws(images, np.repeat(values, n)[None], seed=1).draw_AR.std() for images, n in ((once, 1), (copied, 5)))
    assert narrow == pytest.approx(wide, rel=1e-6)


def a3_row(value: float, strength: float = 1.0) -> EffectRow:
    return EffectRow("A3", "ablate", "visible/ar", 3, "ar", "report", strength, "stereotype_spread", value, 0.0, 1.0, None, 10, 5, "")


def test_p_is_that_of_the_arm_among_its_matched_sets_and_only_for_it() -> None:
    sets, label = {"stereotype_spread": np.linspace(-1, 1, 199)}, ArmLabel("A6", "random", "visible/ar", 1.0)
    rows, drawn = against_random_sets([a3_row(5.0), a3_row(5.0, strength=0.5)], sets, label, PLACE)
    assert [row.p for row in rows] == [pytest.approx(1 / 200), None, None]
    assert rows[1].arm == "A6" and rows[1].value == pytest.approx(0) and "199 matched sets" in rows[1].note
    assert [row.set_no for row in drawn] == list(range(199))


def test_permutation_p_is_uniform_when_the_arm_is_one_more_random_set() -> None:
    rng, label = np.random.default_rng(7), ArmLabel("A6", "random", "visible/ar", 1.0)
    p = []
    for _ in range(400):
        *sets_S, arm = rng.normal(size=40)
        rows, _ = against_random_sets([a3_row(arm)], {"stereotype_spread": np.array(sets_S)}, label, PLACE)
        assert rows[0].p is not None
        p.append(rows[0].p)
    shares = np.histogram(p, bins=[0, 0.25, 0.5, 0.75, 1.001])[0] / 400
    assert np.abs(shares - 0.25).max() < 0.08
    assert np.mean(np.array(p) <= 0.05) < 0.09


def test_an_effect_beyond_random_is_a_difference_with_both_images_and_sets_resampled() -> None:
    images, p_O = ambiguous_images(), np.linspace(0.2, 0.8, 8)
    baseline = closed(p_O[images.context_N])
    rng = np.random.default_rng(5)
    flattened = closed(0.5 + 0.2 * (p_O[images.context_N] - 0.5))
    sets = [closed(p_O[images.context_N] + rng.normal(0, 0.02, 8)[images.context_N]) for _ in range(30)]
    arm = closed_set_draws(images, [flattened], baseline, seed=4)["stereotype_spread"]
    value, low, high = beyond_random(arm, closed_set_draws(images, sets, baseline, seed=4)["stereotype_spread"], seed=9)
    assert low <= value <= high < 0
    assert value == pytest.approx(-0.8 * p_O.std(ddof=1), abs=0.02)


def test_probabilities_that_are_none_are_refused_with_their_reason() -> None:
    with pytest.raises(InputError, match="negative"):
        ClosedSet(np.array([-0.1]), np.array([0.2]))
    with pytest.raises(InputError, match=r"P\(F\) \+ P\(M\) is 0"):
        ClosedSet(np.array([0.0]), np.array([0.0]))
    with pytest.raises(InputError, match="none of F, M, A"):
        Images(np.arange(1), np.arange(1), np.arange(1), np.array(["female"]))
    with pytest.raises(InputError, match="a spread over contexts needs two such"):
        arm = closed(np.full(30, 0.4))
        closed_set_draws(ambiguous_images(n_contexts=1), [arm], arm, seed=1)
