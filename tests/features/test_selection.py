"""Selection never hands out fewer latents than it says, nor reports on what it selected from."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.features.selection import assert_disjoint, rank_agreement, recall_at_k, top_latents


def test_the_largest_scores_of_either_sign_come_first() -> None:
    assert top_latents([0.1, -0.9, 0.5, -0.2], 3).tolist() == [1, 2, 3]


def test_dead_and_undefined_latents_are_never_chosen() -> None:
    assert top_latents([9.0, np.nan, 2.0, 1.0], 2, live=[False, True, True, True]).tolist() == [2, 3]


def test_asking_for_more_latents_than_there_are_is_an_error_and_not_a_shorter_list() -> None:
    with pytest.raises(InputError, match="asked for 3 latents, but only 2 of 4"):
        top_latents([0.0, 1.0, np.nan, -2.0], 3)


def test_images_that_selected_are_refused_for_reporting() -> None:
    assert_disjoint(["a", "b"], ["c", "d"])
    with pytest.raises(InputError, match=r"1 images are in both .* \(first: b\)"):
        assert_disjoint(["a", "b"], ["b", "c"])


def test_recall_is_one_for_the_same_order_and_chance_for_an_unrelated_one() -> None:
    rng = np.random.default_rng(0)
    exact_F = rng.normal(size=400)
    assert recall_at_k(2 * exact_F, exact_F, 20) == 1.0
    assert np.mean([recall_at_k(rng.normal(size=400), exact_F, 40) for _ in range(50)]) == pytest.approx(0.1, abs=0.03)


def test_rank_agreement_is_blind_to_scale() -> None:
    exact_F = np.random.default_rng(1).normal(size=50)
    assert rank_agreement(exact_F**3, exact_F).value == 1.0
