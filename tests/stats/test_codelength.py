"""Codelengths of labels: no compression of noise, more for what is easier to read."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from saebias.errors import InputError
from saebias.stats.codelength import fit_logistic, online_codelength


def readable(signal: float, rng: np.random.Generator, *, d: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clusters_N = np.repeat(np.arange(100), 3)
    y_N = clusters_N % 2
    return rng.normal(size=(100, d))[clusters_N] + 0.3 * rng.normal(size=(300, d)) + signal * np.outer(y_N, np.eye(d)[0]), y_N, clusters_N


def test_a_label_that_cannot_be_read_is_not_compressed() -> None:
    compressions = [online_codelength(*readable(0.0, np.random.default_rng(seed)), seed=seed).compression for seed in range(8)]
    assert np.mean(compressions) == pytest.approx(1, abs=0.02)


def test_what_is_easier_to_read_is_shorter() -> None:
    compressions = [online_codelength(*readable(signal, np.random.default_rng(0)), seed=0).compression for signal in (0.5, 2.0, 8.0)]
    assert compressions == sorted(compressions) and compressions[-1] > 4


def test_equal_accuracy_in_more_dimensions_costs_more_bits() -> None:
    rng = np.random.default_rng(1)
    small, large = (np.mean([online_codelength(*readable(2.0, rng, d=d), seed=seed).bits for seed in range(4)]) for d in (3, 60))
    assert small < large


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    x_ND, y_N, _ = readable(1.0, np.random.default_rng(2))
    weights_D, intercept = fit_logistic(x_ND, y_N, 2.0)
    reference = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000).fit(x_ND, y_N)
    np.testing.assert_allclose(weights_D, reference.coef_[0], atol=1e-4)
    assert intercept == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_separable_labels_do_not_break_newtons_method() -> None:
    y_N = np.arange(60) % 2
    weights_D, _ = fit_logistic(y_N[:, None] * 100.0, y_N, 0.01)
    assert np.isfinite(weights_D).all()


def test_few_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="10 clusters"):
        online_codelength(np.ones((20, 1)), np.arange(20) % 2, np.arange(20) // 2, seed=0)
