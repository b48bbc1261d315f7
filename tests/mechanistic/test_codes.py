"""Laws of sparse codes: what they give equals the dense computation, in blocks or whole, and a million rows need no dense array."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.errors import InputError
from saebias.mechanistic import codes as codes_module
from saebias.mechanistic.association import associate
from saebias.mechanistic.codes import SparseCodes, rank_sums
from saebias.stats.effects import auroc_intervals, cluster_permutation_auroc, rank_columns


def tied_codes(seed: int, n: int = 240, n_latents: int = 60) -> np.ndarray:
    """Codes with many zeros and many ties; latent 0 is dead, latent 1 always active, latent 2 constant."""
    rng = np.random.default_rng(seed)
    codes_NF = (rng.random((n, n_latents)) < 0.15) * np.round(rng.gamma(2, 1, (n, n_latents)), 1)
    codes_NF[:, 0], codes_NF[:, 1], codes_NF[:, 2] = 0, rng.gamma(2, 1, n), 1.5
    return codes_NF


CLUSTERS = np.repeat(np.arange(80), 3)
IS_FEMALE = (np.arange(80) % 3 == 0)[CLUSTERS]


@pytest.mark.parametrize("block", [50, 10**6])
def test_association_equals_the_dense_statistics_whatever_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes_module, "_BLOCK_NONZERO", block)
    dense_NF = tied_codes(1)
    found = associate(SparseCodes.of(dense_NF), IS_FEMALE, CLUSTERS, n_permutations=499, seed=3, level=0.9)
    value_F, low_F, high_F = auroc_intervals(dense_NF, IS_FEMALE, CLUSTERS, 0.9)
    np.testing.assert_allclose(found.auroc_F, value_F, atol=1e-12)
    np.testing.assert_allclose(found.low_F, low_F, atol=1e-9)
    np.testing.assert_allclose(found.high_F, high_F, atol=1e-9)
    np.testing.assert_array_equal(found.p_F, cluster_permutation_auroc(dense_NF, IS_FEMALE, CLUSTERS, 499, 3))
    assert found.p_F[0] == 1 and found.auroc_F[0] == 0.5


def test_rank_sums_within_strata_equal_those_of_dense_ranks() -> None:
    dense_NF, stratum_N, unit_N = tied_codes(2), np.arange(240) % 4, np.arange(240) // 8
    sums = rank_sums(SparseCodes.of(dense_NF), slice(0, 60), unit_N, 30, stratum_N)
    labels_RU = np.random.default_rng(1).random((5, 30)) < 0.5
    rows_US = np.zeros((30, 4))
    np.add.at(rows_US, (unit_N, stratum_N), 1)
    ranks_NF = np.zeros_like(dense_NF)
    for stratum in range(4):
        members = stratum_N == stratum
        ranks_NF[members] = 2 * rank_columns(dense_NF[members]) - (members.sum() + 1)
    wanted_RF = np.stack([ranks_NF[labels_U[unit_N]].sum(axis=0) for labels_U in labels_RU])
    np.testing.assert_allclose(sums.of_labels(labels_RU.astype(float), labels_RU @ rows_US), wanted_RF, atol=1e-9)


def test_chunks_of_rows_give_the_codes_of_all_rows() -> None:
    dense_NF = tied_codes(3).astype(np.float32)
    whole, parts = SparseCodes.of(dense_NF), SparseCodes.from_chunks(np.array_split(dense_NF, 7))
    np.testing.assert_array_equal(whole.columns(np.arange(60)), parts.columns(np.arange(60)))
    assert parts.live.tolist() == list(range(1, 60)) and parts.n_rows == 240
    np.testing.assert_allclose(parts.mean_F(IS_FEMALE), dense_NF[IS_FEMALE].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(parts.rows(IS_FEMALE).columns(np.array([5, 3])), dense_NF[IS_FEMALE][:, [5, 3]])


def test_bad_codes_are_named_with_their_place() -> None:
    dense_NF = tied_codes(4)
    dense_NF[7, 9] = np.nan
    with pytest.raises(InputError, match=r"English codes hold 1 values that are not finite \(the first in row 7, latent 9\)"):
        SparseCodes.of(dense_NF, "English codes")
    with pytest.raises(InputError, match="codes hold 1 negative values"):
        SparseCodes.of(np.array([[0.0, -1.0]]))
    with pytest.raises(InputError, match="same dictionary"):
        SparseCodes.from_chunks([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(InputError, match="hold images of both genders"):
        associate(SparseCodes.of(tied_codes(5)), IS_FEMALE, np.arange(240) // 2, n_permutations=19, seed=1)
