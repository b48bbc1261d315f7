"""Laws of cross-lingual alignment: one planted direction reaches the ceiling, orthogonal ones do not leave the floor, held-out rows are what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.mechanistic.alignment import AlignmentRow, PairedActivations, _cka_row, alignment_rows, broken_pairings
from saebias.mechanistic.gender_projection import fit_gender_axes

N, D = 320, 16


def world(en_direction: np.ndarray, ar_direction: np.ndarray, seed: int, *, shared: float = 1.0) -> PairedActivations:
    """Images seen in both languages: gender along a direction of each language, image content shared to a degree, noise of their own."""
    rng = np.random.default_rng(seed)
    cluster_N = np.repeat(np.arange(N // 4), 4)
    gender_N = np.array(["F", "M", "A", "A"])[cluster_N % 4]
    sign_N = np.select([gender_N == "F", gender_N == "M"], [1.0, -1.0], 0.0)
    content_ND = rng.normal(size=(N // 4, D))[cluster_N]
    en, ar = (shared * content_ND + rng.normal(size=(N, D)) + np.outer(sign_N, direction) for direction in (en_direction, ar_direction))
    return PairedActivations(3, en, ar, gender_N, cluster_N)


def by_measure(paired: PairedActivations) -> dict[str, AlignmentRow]:
    return {row.measure: row for row in alignment_rows(paired, seed=4, n_permutations=39)}


E1, E2 = np.eye(D)[0], np.eye(D)[1]


def test_a_shared_direction_reaches_its_ceiling_in_every_measure() -> None:
    rows = by_measure(world(2 * E1, 2 * E1, seed=1, shared=0.3))
    corrected, raw = rows["direction_cosine"], rows["direction_cosine_raw"]
    assert corrected.low <= 1.0 <= corrected.high and corrected.value > 0.9
    assert corrected.floor is not None and raw.low > corrected.floor
    for crossing in (rows["probe_transfer_en_ar"], rows["probe_transfer_ar_en"]):
        assert crossing.ceiling is not None and crossing.value > 0.85
    assert rows["debiased_cka"].floor is not None and rows["debiased_cka"].low > rows["debiased_cka"].floor


def test_orthogonal_directions_have_cosine_zero_and_probes_do_not_cross() -> None:
    rows = by_measure(world(3 * E1, 3 * E2, seed=2, shared=0.0))
    assert rows["direction_cosine"].low < 0 < rows["direction_cosine"].high
    for crossing in (rows["probe_transfer_en_ar"], rows["probe_transfer_ar_en"]):
        assert crossing.ceiling is not None and crossing.ceiling > 0.95
        assert crossing.floor is not None and crossing.value < max(crossing.floor, 0.65)


def test_unrelated_languages_stay_at_the_floor_of_the_similarities() -> None:
    rows = by_measure(world(0 * E1, 0 * E1, seed=3, shared=0.0))
    cka = rows["debiased_cka"]
    assert abs(cka.value) < 0.05 and cka.low < 0.02
    assert rows["procrustes"].value < 0.05


def test_debiased_cka_of_independent_noise_is_about_zero_with_an_even_p_and_of_a_shared_scene_it_is_not() -> None:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(30):
        noise = PairedActivations(0, rng.normal(size=(80, 200)), rng.normal(size=(80, 200)), np.array(["F", "M"] * 40), np.arange(80))
        found.append(_cka_row(noise, seed=1, n_permutations=39))
    assert abs(np.mean([row.value for row in found])) < 0.02
    p = np.array([row.p for row in found])
    assert np.mean(p <= 0.1) <= 0.25 and 0.3 < p.mean() < 0.7
    assert by_measure(world(E1, E1, seed=2))["debiased_cka"].p == 1 / 40


def test_broken_pairings_are_permutations_that_move_whole_clusters() -> None:
    clusters = np.repeat(np.arange(12), [3, 1, 2] * 4)
    for order_N in broken_pairings(clusters, 5, seed=1):
        assert sorted(order_N.tolist()) == list(range(len(clusters)))
        assert (clusters[order_N] != clusters).mean() > 0.5


def test_only_images_that_show_a_gender_have_a_direction() -> None:
    paired = world(E1, E1, seed=1)
    with pytest.raises(InputError, match="0 images of women and 0 of men"):
        alignment_rows(paired.where(paired.gender_N == "A"), seed=1)


def axes_world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    language, gender = np.array(["en", "ar"] * 200), np.repeat(["F", "M", "A", "A"], 100)
    sign = np.select([gender == "F", gender == "M"], [1.0, -1.0], 0.0)
    direction_ND = np.where((language == "en")[:, None], E1, (E1 + E2) / np.sqrt(2))
    return 3 * sign[:, None] * direction_ND + 6 * rng.normal(size=(400, 1)) * np.eye(D)[5] + 0.3 * rng.normal(size=(400, D)), language, gender


def test_the_axes_are_orthonormal_and_are_the_planted_ones() -> None:
    x_ND, language, gender = axes_world(1)
    axes = fit_gender_axes(x_ND, language.tolist(), gender.tolist())
    np.testing.assert_allclose(axes.axes_3D @ axes.axes_3D.T, np.eye(3), atol=1e-9)
    assert abs(axes.axes_3D[0] @ E1) > 0.95 and abs(axes.axes_3D[1] @ E2) > 0.9 and abs(axes.axes_3D[2] @ np.eye(D)[5]) > 0.95
    assert axes.cosine == pytest.approx(np.sqrt(0.5), abs=0.15)
    held_out, language, gender = axes_world(2)
    rows = axes.project(3, held_out, [f"s{n}" for n in range(400)], language.tolist(), gender.tolist(), [None] * 400)
    women, men = ([row.x for row in rows if row.visual_gender == shown and row.language == "en"] for shown in "FM")
    assert min(women) > max(men)
    men_ar, women_ar = ([row.y for row in rows if row.visual_gender == shown and row.language == "ar"] for shown in "MF")
    assert np.mean(women_ar) > np.mean(men_ar) + 2


def test_axes_need_women_and_men_in_both_languages() -> None:
    x_ND, language, gender = axes_world(1)
    with pytest.raises(InputError, match="0 rows of women and 0 of men in 'ar'"):
        fit_gender_axes(x_ND, ["en"] * 400, gender.tolist())
    with pytest.raises(InputError, match="the same vector"):
        fit_gender_axes(np.repeat(x_ND[::2], 2, axis=0), language.tolist(), np.repeat(gender[::2], 2).tolist())
