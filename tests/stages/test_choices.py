"""The small decisions inside stages: which rows, which images, which layers, which probability."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.config.load import load_config
from saebias.errors import InputError
from saebias.stages.analyze_behavior import exact_row
from saebias.stages.extract_plan import hook_points
from saebias.stages.model_access import ClosedSet, closed_set_of
from saebias.stages.steer_setup import choose_images, leaning_contexts
from saebias.stages.token_index import TokenIndex, balanced_rows


def index_of(kinds: list[str], languages: list[str]) -> TokenIndex:
    n = len(kinds)
    text = np.array(["s"] * n, dtype=object)
    return TokenIndex(np.arange(n), text, np.array(languages, dtype=object), text, np.arange(n), np.array(kinds, dtype=object), *[np.zeros(n, bool)] * 3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["image", "prompt", "caption"]), st.sampled_from(["en", "ar"])), min_size=1, max_size=300),
    st.integers(6, 200),
    st.integers(0, 5),
)
def test_rows_are_spread_evenly_over_kind_and_language_and_small_groups_are_taken_whole(rows: list[tuple[str, str]], limit: int, seed: int) -> None:
    index = index_of([kind for kind, _ in rows], [language for _, language in rows])
    chosen = balanced_rows(index, limit, seed)
    assert len(chosen) == min(limit, len(rows)) and len(set(chosen.tolist())) == len(chosen) and list(chosen) == sorted(chosen)
    before, after = Counter(rows), Counter(rows[i] for i in chosen)
    cut = [after[key] for key in before if after[key] < before[key]]
    if cut:
        assert max(cut) - min(cut) <= 1, "groups that had to be cut are cut to the same size"
        assert all(after[key] <= max(cut) for key in before)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(InputError, match="no activation rows"):
        balanced_rows(index_of([], []), 10, 0)


@pytest.mark.parametrize(("layers", "expected"), [("all", list(range(8))), (1, [7]), (4, [0, 2, 5, 7]), ([3, 5], [3, 5])])
def test_layers_are_all_evenly_spaced_or_named(layers: Any, expected: list[int]) -> None:
    cfg = load_config(None, [f"extract.layers={layers}"])
    assert [hook.layer for hook in hook_points(cfg, 8)] == expected


@pytest.mark.parametrize("layers", ["[8]", "[-1]", "9", "0"])
def test_a_layer_that_does_not_exist_names_the_range(layers: str) -> None:
    with pytest.raises(InputError, match=r"8 layers|layers 0 to 7"):
        hook_points(load_config(None, [f"extract.layers={layers}"]), 8)


def samples(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    contexts = ["cook", "judge", "pilot", "guard"]
    rows = []
    for i in range(n):
        context = contexts[int(rng.integers(4))]
        rows.append(
            {
                "sample_id": f"s{i}",
                "split": ["sae", "select", "report"][int(rng.integers(3))],
                "context": context,
                "visual_gender": "FMA"[int(rng.integers(3))],
                "cluster_id": f"{context}-{int(rng.integers(3))}",
            }
        )
    return rows


def test_images_are_chosen_evenly_over_contexts_and_never_depend_on_order() -> None:
    rows = samples(900)
    chosen = choose_images(rows, "report", 40, 20, seed=1)
    assert {row["sample_id"] for row in chosen} == {row["sample_id"] for row in choose_images(rows[::-1], "report", 40, 20, seed=1)}
    assert all(row["split"] == "report" for row in chosen)
    ambiguous = Counter(row["context"] for row in chosen if row["visual_gender"] == "A")
    assert sum(ambiguous.values()) == 40 and max(ambiguous.values()) - min(ambiguous.values()) <= 1
    clusters = Counter(row["cluster_id"] for row in chosen if row["visual_gender"] == "A")
    assert max(clusters.values()) - min(clusters.values()) <= 2, "within a context the drawings take turns"
    assert {row["sample_id"] for row in chosen} != {row["sample_id"] for row in choose_images(rows, "report", 40, 20, seed=2)}


def test_a_split_without_clear_images_is_said() -> None:
    with pytest.raises(InputError, match="no image with a context that shows F or M"):
        choose_images([row for row in samples(200) if row["visual_gender"] == "A"], "report", 10, 10, seed=1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-30, -0.1), min_size=3, max_size=3))
def test_exact_probabilities_follow_from_the_scores(logp: list[float]) -> None:
    row = exact_row("s", "en", ClosedSet(("a woman",), ("a man",), ("a cook",)), np.array(logp))
    f, m, n = np.exp(logp)
    assert row["p_female"] == pytest.approx(f / (f + m)) and row["p_female"] + row["p_male"] == pytest.approx(1)
    assert row["p_neutral"] == pytest.approx(n / (f + m + n)) and row["coverage"] == pytest.approx(f + m + n)
    assert row["gap"] == pytest.approx(logp[0] - logp[1])


def test_a_neutral_share_nobody_asked_for_is_null_and_not_zero() -> None:
    assert exact_row("s", "ar", ClosedSet(("طباخة",), ("طباخ",), ()), np.array([-1.0, -2.0]))["p_neutral"] is None


def test_scores_far_below_the_smallest_float_still_give_a_share() -> None:
    row = exact_row("s", "en", ClosedSet(("a",), ("b",), ()), np.array([-2000.0, -2001.0]))
    assert row["p_female"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_no_probability_for_either_gender_is_an_error() -> None:
    with pytest.raises(InputError, match="neither F nor M"):
        exact_row("s", "en", ClosedSet(("a",), ("b",), ()), np.array([-np.inf, -np.inf]))


def test_the_star_context_serves_those_without_their_own() -> None:
    own, star = ClosedSet(("x",), ("y",), ()), ClosedSet(("u",), ("v",), ())
    sets = {("cook", "en"): own, ("*", "en"): star}
    assert closed_set_of(sets, "cook", "en") is own
    assert closed_set_of(sets, "judge", "en") is star and closed_set_of(sets, None, "en") is star
    assert closed_set_of(sets, "cook", "ar") is None


def test_contexts_lean_by_their_mean_gap() -> None:
    of = {f"s{i}": {"context": "ab"[i % 2]} for i in range(6)}
    gaps = {f"s{i}": float(i % 2) * 2 - 1 + 0.1 * i for i in range(6)}
    assert list(leaning_contexts(np.array(list(of)), of, gaps)) == [False, True] * 3
    with pytest.raises(InputError, match="two at least"):
        leaning_contexts(np.array(["s0"]), of, gaps)
