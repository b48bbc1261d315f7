"""Laws of factored matrices: everything equals the dense computation, and the product is never formed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.errors import InputError
from saebias.mechanistic.factored import FactoredMatrix, wide_side
from saebias.stats import similarity


def factored(n: int, r: int, m: int, seed: int) -> FactoredMatrix:
    rng = np.random.default_rng(seed)
    return FactoredMatrix(rng.normal(size=(n, r)), rng.normal(size=(r, m)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_singular_values_norm_and_ranks_equal_the_dense_ones(n: int, r: int, m: int, seed: int) -> None:
    product = factored(n, r, m, seed)
    s = np.linalg.svd(product.dense(), compute_uv=False)[: min(n, r, m)]
    np.testing.assert_allclose(product.singular_values, s, atol=1e-8)
    assert product.norm() == pytest.approx(np.linalg.norm(product.dense()))
    assert product.rank() == np.linalg.matrix_rank(product.dense())
    assert product.stable_rank() == pytest.approx((s**2).sum() / s[0] ** 2)
    u, s, vt = product.svd()
    np.testing.assert_allclose((u * s) @ vt, product.dense(), atol=1e-8)


def test_eigenvalues_and_trace_are_those_of_the_square_product() -> None:
    product = factored(7, 3, 7, 1)
    dense = np.linalg.eigvals(product.dense())
    largest = dense[np.argsort(-np.abs(dense))][:3]
    np.testing.assert_allclose(np.sort_complex(product.eigenvalues()), np.sort_complex(largest), atol=1e-8)
    assert product.trace() == pytest.approx(np.trace(product.dense()))
    with pytest.raises(InputError, match="no eigenvalues"):
        factored(3, 2, 4, 1).eigenvalues()


def test_products_with_vectors_matrices_and_each_other_equal_the_dense_ones() -> None:
    a, b, matrix, vector = factored(5, 2, 6, 1), factored(6, 3, 4, 2), np.random.default_rng(3).normal(size=(6, 4)), np.arange(6.0)
    for result, expected in (
        (a @ b, a.dense() @ b.dense()),
        (a @ matrix, a.dense() @ matrix),
        (matrix.T @ a.T, matrix.T @ a.dense().T),
    ):
        assert isinstance(result, FactoredMatrix)
        np.testing.assert_allclose(result.dense(), expected)
    for result, expected in ((a @ vector, a.dense() @ vector), (vector @ a.T, vector @ a.dense().T)):
        assert isinstance(result, np.ndarray)
        np.testing.assert_allclose(result, expected)
    np.testing.assert_allclose(a.row(2), a.dense()[2])


def test_a_planted_rank_is_found_numerically_and_at_an_energy_level() -> None:
    left, right = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 6)))[0], np.linalg.qr(np.random.default_rng(2).normal(size=(30, 6)))[0].T
    product = FactoredMatrix(left * np.array([3.0, 2.0, 1.0, 0.0, 0.0, 0.0]), right)
    assert product.rank() == 3
    assert product.rank(energy=0.6) == 1 and product.rank(energy=0.9) == 2 and product.rank(energy=1.0) == 3
    equal = FactoredMatrix(left, right)
    for ranks in (equal.stable_rank(), equal.effective_rank(), equal.participation_ratio()):
        assert ranks == pytest.approx(6)


def test_spectra_of_centred_rows_and_principal_components_equal_the_dense_ones() -> None:
    product = factored(50, 4, 9, 5)
    dense = product.dense() + 0.0
    centred = product.centred_rows()
    assert centred.participation_ratio() == pytest.approx(similarity.participation_ratio(dense))
    assert centred.effective_rank() == pytest.approx(similarity.effective_rank(dense))
    pca = product.pca(2)
    u, s, vt = np.linalg.svd(dense - dense.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(pca.scores_NK @ pca.components_KM, (u[:, :2] * s[:2]) @ vt[:2])
    assert 0 < pca.variance_share_K[1] <= pca.variance_share_K[0] < 1


def test_the_product_is_never_formed() -> None:
    product = factored(20_000, 8, 20_000, 1)
    tracemalloc.start()
    product.norm(), product.rank(energy=0.9), product.effective_rank(), product.trace(), product.eigenvalues()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6 < 20_000**2 * 8


def test_a_matrix_with_nothing_in_it_or_with_equal_rows_is_named() -> None:
    with pytest.raises(InputError, match="nothing in it"):
        FactoredMatrix(np.zeros((0, 3)), np.eye(3))
    with pytest.raises(InputError, match="all 4 rows of the product are equal"):
        FactoredMatrix(np.ones((4, 3)), np.eye(3)).pca(1)


def test_bad_factors_are_named() -> None:
    with pytest.raises(InputError, match="cannot be multiplied"):
        FactoredMatrix(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="the right factor holds 1 values that are not finite"):
        FactoredMatrix(np.zeros((3, 1)), np.array([[np.nan]]))
    with pytest.raises(InputError, match="all 0"):
        FactoredMatrix(np.zeros((3, 2)), np.zeros((2, 3))).stable_rank()


def test_a_right_side_that_is_factored_once_gives_every_product_the_same_answers() -> None:
    rng = np.random.default_rng(8)
    right = rng.normal(size=(6, 90))
    shared = wide_side(right, block=32)
    for n in (4, 6, 20):
        left = rng.normal(size=(n, 6))
        one, other = FactoredMatrix(left, right), FactoredMatrix(left, right, shared)
        np.testing.assert_allclose(other.singular_values, np.linalg.svd(left @ right)[1][: min(n, 6)], rtol=1e-10)
        np.testing.assert_allclose(other.norm(), np.linalg.norm(left @ right), rtol=1e-12)
        u, s, vt = other.svd()
        np.testing.assert_allclose((u * s) @ vt, left @ right, atol=1e-9)
        np.testing.assert_allclose(vt @ vt.T, np.eye(len(s)), atol=1e-9)
        # A singular vector has no sign of its own.
        np.testing.assert_allclose(np.abs(other.right_vectors(3)), np.abs(one.svd()[2][:3]), atol=1e-9)
        np.testing.assert_allclose(other.centred_rows().singular_values, one.centred_rows().singular_values, atol=1e-10)


def test_a_wide_side_of_lower_rank_leaves_out_what_has_no_length() -> None:
    rng = np.random.default_rng(9)
    right = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 90))
    left = rng.normal(size=(20, 6))
    product = FactoredMatrix(left, right, wide_side(right))
    assert product.rank() == len(product.singular_values) == 2
    u, s, vt = product.svd()
    np.testing.assert_allclose((u * s) @ vt, left @ right, atol=1e-9)
    assert wide_side(np.zeros((3, 8))).to_rows_KR.shape == (0, 3)
