"""Laws of the probes: a planted direction is read, random labels are not, transfer needs a shared direction, and reading the caption is flagged."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.mechanistic.probes import ProbePlace, ProbeRows, TransformerProbeAnalyzer, pool_tokens, words_of

N, D = 240, 12
ANALYZER = TransformerProbeAnalyzer(n_control=5, n_permutations=39)


def rows(direction: np.ndarray, seed: int, *, strength: float = 2.5, offset: int | None = 0) -> ProbeRows:
    rng = np.random.default_rng(seed)
    cluster_N = np.repeat(np.arange(N // 4), 4)
    is_female_N = cluster_N % 2 == 0
    x_ND = rng.normal(size=(N, D)) + strength * np.outer(is_female_N - 0.5, direction)
    return ProbeRows(x_ND, is_female_N, np.arange(N), cluster_N, cluster_N // 2 % 10, None if offset is None else np.full(N, offset))


E1, E2 = np.eye(D)[0], np.eye(D)[1]


def place(language: str, layer: int = 3, kind: str = "decision") -> ProbePlace:
    return ProbePlace(language, kind, layer)


def test_a_planted_direction_is_read_and_selective_and_random_labels_are_at_chance() -> None:
    real, null = ANALYZER.read({place("en"): rows(E1, 1), place("en", 0): rows(E1, 2, strength=0.0)}, seed=5)
    assert real.balanced_accuracy > 0.8 and real.low > 0.7 and real.selectivity > 0.2
    assert abs(real.permuted_accuracy - 0.5) < 0.06
    assert null.low < 0.5 < null.high + 0.05 and abs(null.balanced_accuracy - 0.5) < 0.12


def test_the_description_is_short_where_the_label_can_be_read_and_one_bit_where_not() -> None:
    real, null = ANALYZER.read({place("en"): rows(E1, 1, strength=6.0), place("en", 0): rows(E1, 2, strength=0.0)}, seed=5)
    assert real.bits < 0.6 and 0.95 < null.bits < 1.1
    (without,) = TransformerProbeAnalyzer(n_control=5, n_permutations=39, n_orders=0).read({place("en"): rows(E1, 1)}, seed=5)
    assert np.isnan(without.bits)


def test_words_that_all_texts_share_are_no_features_and_a_probe_of_none_says_so() -> None:
    counts = words_of(["say a cook", "say a a judge", "say a cook"])
    assert counts.tolist() == [[1, 1, 0], [2, 0, 1], [1, 1, 0]]
    data = rows(E1, 1)
    empty = ProbeRows(words_of(["say it"] * N), data.is_female_N, data.image_N, data.cluster_N, data.context_N)
    (row,) = ANALYZER.read({ProbePlace("en", "decision", None, "bag_of_words"): empty}, seed=5)
    assert np.isnan(row.balanced_accuracy) and "same features" in row.note and row.n_images == N


def test_a_probe_crosses_languages_only_where_they_share_the_direction() -> None:
    shared = ANALYZER.read({place("en"): rows(E1, 1), place("ar"): rows(E1, 2)}, seed=5)
    separate = ANALYZER.read({place("en"): rows(E1, 1), place("ar"): rows(E2, 2)}, seed=5)
    crossing = [(row.train_language, row.test_language) for row in shared if row.train_language != row.test_language]
    assert crossing == [("en", "ar"), ("ar", "en")]
    assert all(row.balanced_accuracy > 0.8 for row in shared)
    assert all(abs(row.balanced_accuracy - 0.5) < 0.12 for row in separate if row.train_language != row.test_language)


def test_reading_behind_the_decision_position_is_flagged_for_captions_and_refused_elsewhere() -> None:
    (flagged,) = ANALYZER.read({place("en", kind="caption"): rows(E1, 1, offset=2)}, seed=5)
    assert "READS THE CAPTION" in flagged.note
    (clean,) = ANALYZER.read({place("en", kind="caption"): rows(E1, 1, offset=0)}, seed=5)
    assert "READS THE CAPTION" not in clean.note
    with pytest.raises(InputError, match="240 of 240 rows of kind 'decision'"):
        ANALYZER.read({place("en"): rows(E1, 1, offset=1)}, seed=5)


def test_too_few_clusters_give_a_row_without_numbers_and_with_the_reason() -> None:
    data = rows(E1, 1)
    few = ProbeRows(data.x_ND[:8], data.is_female_N[:8], data.image_N[:8], data.cluster_N[:8], data.context_N[:8])
    (row,) = ANALYZER.read({place("en"): few}, seed=5)
    assert np.isnan(row.balanced_accuracy) and "clusters for 5 folds" in row.note and row.n_images == 8


def test_baselines_are_rows_of_their_own() -> None:
    (row,) = ANALYZER.read({ProbePlace("en", "image", None, "pixels"): rows(E1, 1, offset=None)}, seed=5)
    assert row.layer is None and row.baseline == "pixels"


def test_an_image_twice_in_a_probe_is_refused() -> None:
    data = rows(E1, 1)
    with pytest.raises(InputError, match="name an image twice"):
        ProbeRows(data.x_ND, data.is_female_N, np.zeros(N), data.cluster_N, data.context_N)


def test_pooling_is_the_mean_of_an_images_tokens() -> None:
    x_ND, image_N = pool_tokens(np.array([[1.0, 2], [3, 4], [10, 20]]), np.array(["b", "b", "a"]))
    assert image_N.tolist() == ["a", "b"] and x_ND.tolist() == [[10, 20], [2, 3]]
