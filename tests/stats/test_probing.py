"""Probes: as good as logistic regression, at chance on noise, never trained on a near-duplicate of what they are scored on."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saebias.errors import InputError
from saebias.stats.probing import grouped_folds, linear_direction, probe, probe_transfer


def gendered_activations(
    signal: float, rng: np.random.Generator, *, n_clusters: int = 120, per_cluster: int = 4, d: int = 24
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x_ND, y_N, clusters_N): near-duplicates share most of their activation; the gender direction has low variance, as it often has."""
    clusters_N = np.repeat(np.arange(n_clusters), per_cluster)
    y_N = clusters_N % 2
    shape_DD = np.diag(np.geomspace(10, 0.3, d))
    cloud_ND = (rng.normal(size=(n_clusters, d))[clusters_N] + 0.3 * rng.normal(size=(len(clusters_N), d))) @ shape_DD
    return cloud_ND + signal * np.outer(y_N - 0.5, np.eye(d)[-1]), y_N, clusters_N


def test_a_cluster_lies_in_one_fold_and_classes_are_even() -> None:
    clusters_N = np.repeat(np.arange(60), np.random.default_rng(0).integers(1, 6, 60))
    y_N = clusters_N % 3 == 0
    fold_N = grouped_folds(clusters_N, y_N, 5, seed=1)
    assert all(len(np.unique(fold_N[clusters_N == cluster])) == 1 for cluster in range(60))
    for label in (False, True):
        sizes = np.bincount(fold_N[y_N == label], minlength=5)
        assert np.ptp(sizes) <= 5


def test_clusters_that_hold_both_classes_are_dealt_evenly_too() -> None:
    fold_N = grouped_folds(np.arange(60) // 2, np.arange(60) % 2, 5, seed=0)
    assert np.bincount(fold_N).tolist() == [12] * 5 and (fold_N[::2] == fold_N[1::2]).all()


def test_the_probe_reads_a_planted_direction_as_well_as_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    for signal in (0.5, 1.5):
        x_ND, y_N, clusters_N = gendered_activations(signal, rng)
        ours = probe(x_ND, y_N, clusters_N, seed=0, n_permutations=0).balanced_accuracy
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        theirs = (cross_val_predict(pipeline, x_ND, y_N, groups=clusters_N, cv=GroupKFold(5)) == y_N).mean()
        assert ours >= theirs - 0.04
        assert ours > 0.6


def test_on_noise_the_probe_is_at_chance_and_its_p_uniform() -> None:
    found = [probe(*gendered_activations(0.0, np.random.default_rng(seed)), seed=seed, n_permutations=39) for seed in range(60)]
    assert np.mean([one.balanced_accuracy for one in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([one.auroc for one in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([one.permuted_accuracy for one in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([one.p <= 0.1 for one in found]) <= 0.19


def test_the_interval_covers_the_accuracy_that_probes_of_such_data_have() -> None:
    found = [probe(*gendered_activations(1.0, np.random.default_rng(seed)), seed=seed, n_permutations=0) for seed in range(150)]
    truth = np.mean([one.balanced_accuracy for one in found])
    assert 0.90 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.99


def test_a_fitted_direction_reads_new_clusters_as_well_as_the_probe_says() -> None:
    rng = np.random.default_rng(10)
    rows = gendered_activations(1.0, rng, n_clusters=600)
    weights_D, offset = linear_direction(*rows, seed=0)
    fresh_ND, fresh_y_N, _ = gendered_activations(1.0, rng, n_clusters=600)
    accuracy = ((fresh_ND @ weights_D > offset) == fresh_y_N).mean()
    assert probe(*rows, seed=0, n_permutations=0).balanced_accuracy == pytest.approx(accuracy, abs=0.05)


def test_folds_by_row_would_recognise_the_picture() -> None:
    rng = np.random.default_rng(2)
    clusters_N = np.repeat(np.arange(40), 6)
    x_ND = rng.normal(size=(40, 60))[clusters_N] + 0.1 * rng.normal(size=(240, 60))
    y_N = rng.permutation(np.arange(40) % 2)[clusters_N]
    assert probe(x_ND, y_N, np.arange(240), seed=0, n_permutations=0).balanced_accuracy > 0.9
    assert probe(x_ND, y_N, clusters_N, seed=0, n_permutations=0).balanced_accuracy < 0.7


def test_selectivity_is_low_where_the_probe_could_learn_anything_about_the_context() -> None:
    rng = np.random.default_rng(3)
    x_ND, y_N, clusters_N = gendered_activations(3.0, rng)
    context_N = (clusters_N // 2) % 8
    rich_ND = np.concatenate([x_ND, 5 * np.eye(8)[context_N]], axis=1)
    plain = probe(x_ND, y_N, clusters_N, types=context_N, seed=0, n_permutations=0)
    rich = probe(rich_ND, y_N, clusters_N, types=context_N, seed=0, n_permutations=0)
    assert plain.control_accuracy == pytest.approx(0.5, abs=0.07)
    assert rich.control_accuracy > 0.95 and plain.selectivity > rich.selectivity + 0.3


def test_transfer_between_languages_with_one_direction_reaches_the_ceiling_and_with_two_stays_at_chance() -> None:
    rng = np.random.default_rng(4)
    english_ND, y_N, clusters_N = gendered_activations(2.5, rng)
    arabic_ND, _, _ = gendered_activations(2.5, rng)
    elsewhere_ND = arabic_ND[:, ::-1] * np.geomspace(0.03, 30, arabic_ND.shape[1])
    ceiling = probe(arabic_ND, y_N, clusters_N, seed=0, n_permutations=0).balanced_accuracy
    same = probe_transfer(english_ND, y_N, clusters_N, arabic_ND, y_N, clusters_N, seed=0)
    other = probe_transfer(english_ND, y_N, clusters_N, elsewhere_ND, y_N, clusters_N, seed=0)
    assert same.balanced_accuracy == pytest.approx(ceiling, abs=0.05)
    assert other.balanced_accuracy == pytest.approx(0.5, abs=0.1)


def test_the_floor_of_a_transfer_is_what_permuted_training_labels_reach() -> None:
    x_ND, y_N, clusters_N = gendered_activations(2.0, np.random.default_rng(11))
    found = probe_transfer(x_ND, y_N, clusters_N, x_ND + 1, y_N, clusters_N, seed=0, centre="own", n_permutations=99)
    assert found.p == 0.01 and found.permuted_accuracy == pytest.approx(0.5, abs=0.06)
    assert 0.5 < found.permuted_high < found.balanced_accuracy
    plain = probe_transfer(x_ND, y_N, clusters_N, x_ND + 1, y_N, clusters_N, seed=0, centre="own")
    assert plain.balanced_accuracy == found.balanced_accuracy and np.isnan(plain.permuted_high)


def test_a_shift_between_languages_breaks_the_threshold_and_not_the_own_centre_or_the_auroc() -> None:
    x_ND, y_N, clusters_N = gendered_activations(3.0, np.random.default_rng(5))
    shifted_ND = x_ND + 20 * np.eye(x_ND.shape[1])[-1]
    strict = probe_transfer(x_ND, y_N, clusters_N, shifted_ND, y_N, clusters_N, seed=0)
    own = probe_transfer(x_ND, y_N, clusters_N, shifted_ND, y_N, clusters_N, seed=0, centre="own")
    within = probe(x_ND, y_N, clusters_N, seed=0, n_permutations=0)
    assert strict.balanced_accuracy == 0.5
    assert strict.auroc == pytest.approx(within.auroc) and own.balanced_accuracy == pytest.approx(within.balanced_accuracy, abs=0.02)


def test_transfer_to_the_same_rows_is_the_probe_itself() -> None:
    x_ND, y_N, clusters_N = gendered_activations(1.0, np.random.default_rng(6))
    within = probe(x_ND, y_N, clusters_N, seed=3, n_permutations=0)
    transferred = probe_transfer(x_ND, y_N, clusters_N, x_ND, y_N, clusters_N, seed=3)
    assert (transferred.balanced_accuracy, transferred.auroc) == pytest.approx((within.balanced_accuracy, within.auroc), abs=0.03)


def test_scale_shift_and_constant_dimensions_do_not_matter() -> None:
    x_ND, y_N, clusters_N = gendered_activations(1.0, np.random.default_rng(7))
    changed_ND = np.concatenate([x_ND * np.geomspace(0.1, 100, x_ND.shape[1]) + 50, np.full((len(x_ND), 1), 7.0)], axis=1)
    one, other = (probe(x, y_N, clusters_N, seed=0, n_permutations=9) for x in (x_ND, changed_ND))
    assert one.balanced_accuracy == pytest.approx(other.balanced_accuracy, abs=0.005)


def test_a_class_with_fewer_clusters_than_folds_is_refused_with_the_count() -> None:
    with pytest.raises(InputError, match="class 1 has 3 clusters for 5 folds"):
        grouped_folds(np.arange(30), np.arange(30) < 3, 5)


def test_perfect_reading_has_an_interval_below_one() -> None:
    x_ND, y_N, clusters_N = gendered_activations(50.0, np.random.default_rng(8))
    found = probe(x_ND, y_N, clusters_N, seed=0, n_permutations=0)
    assert found.balanced_accuracy == 1.0 == found.high and 0.9 < found.low < 1.0


def test_a_probe_on_two_thousand_rows_takes_a_fraction_of_a_second() -> None:
    rng = np.random.default_rng(9)
    x_ND, y_N, clusters_N = gendered_activations(1.0, rng, n_clusters=500, d=192)
    start = time.process_time()
    probe(x_ND, y_N, clusters_N, types=clusters_N // 2 % 16, seed=0)
    assert time.process_time() - start < 1
